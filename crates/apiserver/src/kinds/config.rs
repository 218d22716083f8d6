//! ConfigMaps and Secrets: keys are file names, values are bounded, and `immutable` means it (KEP-1412).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_meta::{
    field::{FieldError, Path},
    names,
};

use super::Strategy;
use crate::strategy::Target;

/// The data of a Secret or ConfigMap together (MaxSecretSize).
const DATA_LIMIT: usize = 1 << 20;

pub(super) struct ConfigMaps;
pub(super) struct Secrets;

impl Strategy for ConfigMaps {
    fn validate(&self, _target: &Target, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        keys(new, "data", errors);
        keys(new, "binaryData", errors);
        let text: usize = sizes(new, "data").sum();
        let binary: usize = sizes(new, "binaryData").map(|n| n / 4 * 3).sum();
        if text + binary > DATA_LIMIT {
            errors.push(FieldError::too_long(Path::root(), DATA_LIMIT));
        }
        for key in new["binaryData"].as_object().into_iter().flat_map(|m| m.keys()).filter(|k| new["data"].get(k).is_some()) {
            errors.push(FieldError::invalid(Path::new("data").key(key), key.as_str(), "duplicate of key present in binaryData"));
        }
        immutable(new, old, &["data", "binaryData"], errors);
    }
}

impl Strategy for Secrets {
    fn prepare_create(&self, new: &mut Value, _now: Timestamp) {
        take_string_data(new);
        if new.get("type").is_none_or(Value::is_null) {
            new["type"] = "Opaque".into();
        }
    }

    fn prepare_update(&self, _target: &Target, old: &Value, new: &mut Value) {
        take_string_data(new);
        if new.get("type").is_none_or(Value::is_null) {
            new["type"] = old["type"].clone();
        }
    }

    fn validate(&self, _target: &Target, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        keys(new, "data", errors);
        if sizes(new, "data").map(|n| n / 4 * 3).sum::<usize>() > DATA_LIMIT {
            errors.push(FieldError::too_long(Path::new("data"), DATA_LIMIT));
        }
        if let Some(old) = old {
            if old["type"] != new["type"] {
                errors.push(FieldError::invalid(Path::new("type"), new["type"].clone(), "field is immutable"));
            }
        }
        immutable(new, old, &["data"], errors);
    }
}

/// `stringData` is write-only: it ends up in `data`, encoded.
fn take_string_data(secret: &mut Value) {
    let Some(Value::Object(text)) = secret.as_object_mut().and_then(|m| m.remove("stringData")) else { return };
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    for (key, value) in text {
        secret["data"][key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

fn keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for key in object[field].as_object().into_iter().flat_map(|m| m.keys()) {
        errors.extend(names::config_map_key(key).into_iter().map(|p| FieldError::invalid(Path::new(field).key(key), key.as_str(), p)));
    }
}

fn sizes<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = usize> + use<'a> {
    object[field].as_object().into_iter().flatten().map(|(_, v)| v.as_str().map_or(0, str::len))
}

fn immutable(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old.filter(|o| o["immutable"] == true) else { return };
    if new["immutable"] != true {
        errors.push(FieldError::forbidden(Path::new("immutable"), "field is immutable when `immutable` is set"));
    }
    for field in fields.iter().filter(|f| old.get(**f) != new.get(**f)) {
        errors.push(FieldError::forbidden(Path::new(*field), "field is immutable when `immutable` is set"));
    }
}
