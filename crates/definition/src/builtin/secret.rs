//! core/v1 Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::object;

use super::config_map::{MAX_SIZE, decoded_size, entries, immutable, keys};
use super::draft::{Draft, age_column, computed, doc, name_column};
use crate::resource::ResourceDefinition;
use crate::table::Printer;

const SCHEMA: &str = "io.k8s.api.core.v1.Secret";

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", SCHEMA, "secrets")
        .columns(vec![
            name_column(),
            computed("Type", doc(SCHEMA, "type"), TYPE),
            computed("Data", doc(SCHEMA, "data"), DATA),
            age_column(),
        ])
        .selectable_fields(&["type"])
        .default("type", json!("Opaque"))
        .defaulter(encode_string_data)
        .validator(validate)
        .build()
}

const TYPE: Printer = Printer {
    name: "secrets.type",
    print: |object, _| json!(ty(object)),
};
const DATA: Printer = Printer {
    name: "secrets.data",
    print: |object, _| entries(object, "data").map_or(0, Map::len).into(),
};

fn ty(secret: &Value) -> &str {
    secret.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// `stringData` is for writing only: it becomes `data`, over what `data` says.
fn encode_string_data(secret: &mut Value) {
    let Some(secret) = secret.as_object_mut() else { return };
    let Some(Value::Object(texts)) = secret.remove("stringData") else {
        return;
    };
    if let Value::Object(data) = secret.entry("data").or_insert_with(|| json!({})) {
        for (key, text) in texts {
            data.insert(key, Value::String(STANDARD.encode(text.as_str().unwrap_or_default())));
        }
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = keys(new, "data");
    let data = entries(new, "data");
    if decoded_size(data) > MAX_SIZE {
        errors.push(FieldError::too_long("data", MAX_SIZE));
    }
    errors.extend(not_base64(data));
    let required: &[&str] = match ty(new) {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    let present = |key: &str| data.is_some_and(|data| data.contains_key(key));
    errors.extend(
        required
            .iter()
            .filter(|key| !present(key))
            .map(|key| FieldError::required(Path::new("data").key(key), "")),
    );
    if ty(new) == "kubernetes.io/basic-auth" && !present("username") && !present("password") {
        errors.extend(["username", "password"].map(|key| FieldError::required(Path::new("data").key(key), "")));
    }
    if ty(new) == "kubernetes.io/service-account-token"
        && object::annotation(new, SERVICE_ACCOUNT).is_none_or(str::is_empty)
    {
        errors.push(FieldError::required(
            Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT),
            "",
        ));
    }
    if let Some(old) = old {
        if ty(new) != ty(old) {
            errors.push(FieldError::invalid("type", ty(new), "field is immutable"));
        }
        errors.extend(immutable(new, old, &["data"]));
    }
    errors
}

const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account.name";

fn not_base64(data: Option<&Map<String, Value>>) -> impl Iterator<Item = FieldError> {
    let bad = |(key, value): (&String, &Value)| {
        let text = value.as_str()?;
        let path = Path::new("data").key(key);
        STANDARD
            .decode(text)
            .err()
            .map(|error| FieldError::invalid(path, "<redacted>", format!("illegal base64 data: {error}")))
    };
    data.into_iter().flatten().filter_map(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "new", "c": ""}});
        encode_string_data(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "eA==", "b": "bmV3", "c": ""}}));
    }

    #[test]
    fn types_require_keys() {
        let errors = validate(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), None);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["data[tls.key]: Required value"]
        );
        assert!(validate(&json!({"type": "Opaque"}), None).is_empty());
    }

    #[test]
    fn the_type_stays() {
        let errors = validate(&json!({"type": "b"}), Some(&json!({"type": "a"})));
        assert_eq!(errors[0].to_string(), "type: Invalid value: \"b\": field is immutable");
    }

    #[test]
    fn data_is_base64_and_never_shown() {
        let errors = validate(&json!({"type": "Opaque", "data": {"a": "!secret!"}}), None);
        assert_eq!(errors.len(), 1);
        assert!(!errors[0].to_string().contains("!secret!"), "{}", errors[0]);
    }
}
