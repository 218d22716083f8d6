//! core/v1 ResourceQuota.

use std::str::FromStr as _;

use serde_json::{Map, Value, json};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::{Quantity, names};

use super::draft::{Draft, age_column, computed, name_column};
use crate::resource::ResourceDefinition;
use crate::table::Printer;

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", "io.k8s.api.core.v1.ResourceQuota", "resourcequotas")
        .short_names(&["quota"])
        .status()
        .columns(vec![
            name_column(),
            computed(
                "Request",
                "Use and limit of everything but limits.*".to_owned(),
                REQUEST,
            ),
            computed("Limit", "Use and limit of limits.*".to_owned(), LIMIT),
            age_column(),
        ])
        .default("spec", json!({}))
        .default("status", json!({}))
        .defaulter(canonical)
        .validator(validate)
        .build()
}

const REQUEST: Printer = Printer {
    name: "resourcequotas.request",
    print: |object, _| json!(used(object, false)),
};
const LIMIT: Printer = Printer {
    name: "resourcequotas.limit",
    print: |object, _| json!(used(object, true)),
};

/// `pods: 3/10, requests.cpu: 1/2`, in the order of the names.
fn used(quota: &Value, limits: bool) -> String {
    let shown = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "0".to_owned(),
    };
    let mut hard: Vec<(&String, &Value)> = quota
        .pointer("/status/hard")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .collect();
    hard.sort_by_key(|(name, _)| *name);
    let line = |(name, hard): (&String, &Value)| {
        let used = quota.pointer("/status/used").and_then(|used| used.get(name));
        format!("{name}: {}/{}", shown(used), shown(Some(hard)))
    };
    hard.into_iter()
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(line)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Writes quantities in their canonical form, as Kubernetes does whenever it writes one: `0.5` becomes `500m`.
fn canonical(quota: &mut Value) {
    for pointer in ["/spec/hard", "/status/hard", "/status/used"] {
        let Some(Value::Object(map)) = quota.pointer_mut(pointer) else {
            continue;
        };
        for value in map.values_mut() {
            if let Some(quantity) = quantity(value) {
                *value = Value::String(quantity.to_string());
            }
        }
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::from_str(text).ok(),
        Value::Number(number) => Quantity::from_str(&number.to_string()).ok(),
        _ => None,
    }
}

/// Names that need no group before them.
const STANDARD: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let hard = Path::new("spec").child("hard");
    let mut errors = Vec::new();
    for (name, value) in new
        .pointer("/spec/hard")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
    {
        let path = hard.key(name);
        errors.extend(
            names::qualified_name(name)
                .into_iter()
                .map(|message| FieldError::invalid(&path, name.as_str(), message)),
        );
        if !name.contains('/') && !STANDARD.contains(&name.as_str()) {
            errors.push(FieldError::invalid(
                &path,
                name.as_str(),
                "must be a standard resource for quota",
            ));
        }
        match quantity(value) {
            None => errors.push(FieldError::invalid(&path, value.clone(), NOT_A_QUANTITY)),
            Some(quantity) if quantity < Quantity::default() => {
                errors.push(FieldError::invalid(
                    &path,
                    value.clone(),
                    "must be greater than or equal to 0",
                ));
            }
            Some(_) => {}
        }
    }
    if let Some(old) = old {
        errors.extend(
            ["scopes", "scopeSelector"]
                .iter()
                .filter(|field| new["spec"].get(**field) != old["spec"].get(**field))
                .map(|field| {
                    FieldError::invalid(
                        Path::new("spec").child(field),
                        new["spec"][*field].clone(),
                        "field is immutable",
                    )
                }),
        );
    }
    errors
}

const NOT_A_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_use_of_limit() {
        let quota = json!({"status": {
            "hard": {"pods": "10", "limits.cpu": "4", "count/replicas.inference.setpoint.dev": "8"},
            "used": {"pods": "3"},
        }});
        assert_eq!(
            used(&quota, false),
            "count/replicas.inference.setpoint.dev: 0/8, pods: 3/10"
        );
        assert_eq!(used(&quota, true), "limits.cpu: 0/4");
    }

    #[test]
    fn quantities_become_canonical() {
        let mut quota = json!({"spec": {"hard": {"cpu": 0.5, "memory": "1024Mi", "pods": 10, "bad": "x"}}});
        canonical(&mut quota);
        assert_eq!(
            quota,
            json!({"spec": {"hard": {"cpu": "500m", "memory": "1Gi", "pods": "10", "bad": "x"}}})
        );
    }

    #[test]
    fn validates() {
        let errors = validate(&json!({"spec": {"hard": {"gpus": "1", "a/b": "x", "cpu": "-1"}}}), None);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors
                .iter()
                .any(|e| e == "spec.hard[gpus]: Invalid value: \"gpus\": must be a standard resource for quota"),
            "{errors:?}"
        );
        assert!(
            errors
                .iter()
                .any(|e| e == "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"),
            "{errors:?}"
        );
    }
}
