//! core/v1 ConfigMap.

use serde_json::{Map, Value};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::names;

use super::draft::{Draft, age_column, computed, doc, name_column};
use crate::resource::ResourceDefinition;
use crate::table::Printer;

const SCHEMA: &str = "io.k8s.api.core.v1.ConfigMap";
/// The most that keys' values may hold together, in bytes: 1 MiB, so that an object fits a store's value.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", SCHEMA, "configmaps")
        .short_names(&["cm"])
        .columns(vec![
            name_column(),
            computed("Data", doc(SCHEMA, "data"), DATA),
            age_column(),
        ])
        .validator(validate)
        .build()
}

const DATA: Printer = Printer {
    name: "configmaps.data",
    print: |object, _| (count(object, "data") + count(object, "binaryData")).into(),
};

fn count(object: &Value, field: &str) -> usize {
    entries(object, field).map_or(0, Map::len)
}

pub(super) fn entries<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    object.get(field)?.as_object()
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = keys(new, "data");
    errors.extend(keys(new, "binaryData"));
    let (data, binary) = (entries(new, "data"), entries(new, "binaryData"));
    for key in data
        .into_iter()
        .flat_map(Map::keys)
        .filter(|key| binary.is_some_and(|binary| binary.contains_key(*key)))
    {
        let path = Path::new("data").key(key);
        errors.push(FieldError::invalid(
            &path,
            key.as_str(),
            "duplicate of key present in binaryData",
        ));
    }
    let size = text_size(data) + decoded_size(binary);
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(Path::root(), MAX_SIZE));
    }
    if let Some(old) = old {
        errors.extend(immutable(new, old, &["data", "binaryData"]));
    }
    errors
}

/// Keys are file names.
pub(super) fn keys(object: &Value, field: &str) -> Vec<FieldError> {
    let path = Path::new(field);
    let wrong = |key: &String| {
        let path = path.key(key);
        names::config_map_key(key)
            .into_iter()
            .map(move |message| FieldError::invalid(&path, key.as_str(), message))
            .collect::<Vec<_>>()
    };
    entries(object, field)
        .into_iter()
        .flat_map(Map::keys)
        .flat_map(wrong)
        .collect()
}

/// What `immutable: true` on the old object forbids.
pub(super) fn immutable(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if new.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden("immutable", DETAIL));
    }
    let changed =
        |field: &&&str| entries(new, field).filter(|m| !m.is_empty()) != entries(old, field).filter(|m| !m.is_empty());
    errors.extend(
        fields
            .iter()
            .filter(changed)
            .map(|field| FieldError::forbidden(*field, DETAIL)),
    );
    errors
}

fn text_size(data: Option<&Map<String, Value>>) -> usize {
    data.into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_str)
        .map(str::len)
        .sum()
}

/// The bytes that base64 texts stand for.
pub(super) fn decoded_size(data: Option<&Map<String, Value>>) -> usize {
    let bytes = |text: &str| {
        text.len() / 4 * 3
            - text
                .bytes()
                .rev()
                .take(2)
                .filter(|b| *b == b'=')
                .count()
                .min(text.len() / 4 * 3)
    };
    data.into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_str)
        .map(bytes)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(new: Value, old: Option<Value>) -> Vec<String> {
        validate(&new, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_are_file_names_and_unique() {
        let errors = texts(json!({"data": {"a b": "", "c": ""}, "binaryData": {"c": ""}}), None);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(
            errors[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"),
            "{errors:?}"
        );
        assert_eq!(
            errors[1],
            "data[c]: Invalid value: \"c\": duplicate of key present in binaryData"
        );
    }

    #[test]
    fn immutable_means_immutable() {
        let old = json!({"data": {"a": "1"}, "immutable": true});
        assert!(texts(old.clone(), Some(old.clone())).is_empty());
        let errors = texts(json!({"data": {"a": "2"}}), Some(old));
        assert_eq!(
            errors,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }

    #[test]
    fn size() {
        assert_eq!(
            decoded_size(json!({"a": "AA==", "b": "AAA=", "c": "AAAA", "d": ""}).as_object()),
            6
        );
        assert_eq!(
            texts(json!({"data": {"a": "x".repeat(MAX_SIZE)}}), None),
            Vec::<String>::new()
        );
        assert_eq!(texts(json!({"data": {"a": "x".repeat(MAX_SIZE + 1)}}), None).len(), 1);
    }
}
