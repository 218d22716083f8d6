//! What the access reviews of authorization.k8s.io/v1 have in common.

use serde_json::{Value, json};
use setpoint_meta::field::{FieldError, Path};

pub(super) const GROUP: &str = "authorization.k8s.io";

/// A review is about a resource or about a URL.
pub(super) fn validate_attributes(review: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let present = |field: &str| review["spec"].get(field).is_some_and(|value| !value.is_null());
    match (present("resourceAttributes"), present("nonResourceAttributes")) {
        (true, true) => vec![FieldError::invalid(
            spec.child("nonResourceAttributes"),
            review["spec"]["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )],
        (false, false) => vec![FieldError::invalid(
            spec.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )],
        _ => Vec::new(),
    }
}

/// A review about somebody else names whom.
pub(super) fn validate_subject(review: &Value) -> Vec<FieldError> {
    let nobody = review["spec"]["user"].as_str().is_none_or(str::is_empty)
        && review["spec"]["groups"].as_array().is_none_or(Vec::is_empty);
    let mut errors = validate_attributes(review);
    if nobody {
        errors.push(FieldError::invalid(
            Path::new("spec").child("user"),
            json!(""),
            "at least one of user or group must be specified",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_about_one_thing() {
        assert!(validate_subject(&json!({"spec": {"user": "a", "resourceAttributes": {}}})).is_empty());
        let errors: Vec<String> = validate_subject(&json!({"spec": {}}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ]
        );
    }
}
