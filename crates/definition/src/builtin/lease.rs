//! coordination.k8s.io/v1 Lease.

use serde_json::{Value, json};
use setpoint_meta::field::{FieldError, Path};

use super::draft::{Draft, age_column, computed, doc, name_column};
use crate::resource::ResourceDefinition;
use crate::table::Printer;

pub(super) fn definition() -> ResourceDefinition {
    Draft::new(
        "coordination.k8s.io",
        "v1",
        "io.k8s.api.coordination.v1.Lease",
        "leases",
    )
    .conditional_update()
    .create_on_update()
    .columns(vec![
        name_column(),
        computed(
            "Holder",
            doc("io.k8s.api.coordination.v1.LeaseSpec", "holderIdentity"),
            HOLDER,
        ),
        age_column(),
    ])
    .default("spec", json!({}))
    .validator(validate)
    .build()
}

const HOLDER: Printer = Printer {
    name: "leases.holder",
    print: |object, _| {
        object
            .pointer("/spec/holderIdentity")
            .cloned()
            .unwrap_or_else(|| json!(""))
    },
};

fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let number = |field: &str| new.pointer(&format!("/spec/{field}")).and_then(Value::as_i64);
    let mut errors = Vec::new();
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(
            spec.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = number("leaseTransitions").filter(|transitions| *transitions < 0) {
        errors.push(FieldError::invalid(
            spec.child("leaseTransitions"),
            transitions,
            "must be greater than or equal to 0",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_positive() {
        let errors = validate(
            &json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
            None,
        );
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
