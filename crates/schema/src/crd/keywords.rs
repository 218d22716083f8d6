//! What may stand in any schema of a CRD, within junctors too.

use super::Props;
use serde_json::{Map, Value};
use setpoint_meta::field::{FieldError, Trail};

/// What is known of the place.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    /// Within `metadata`, `apiVersion` or `kind` of a whole object.
    inside_meta: bool,
    /// Why defaults are forbidden here, if they are.
    no_defaults: Option<&'a str>,
}

/// Adds everything wrong.
pub(super) fn check(root: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    schema(Props(root), true, Place::default(), &Trail::root(), errors);
}

const UNSUPPORTED: [&str; 6] = [
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

fn schema(s: Props<'_>, root: bool, place: Place<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    standard(s, place, at, errors);
    if s.flag("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), detail));
    }
    if let Some(additional) = s.get("additionalProperties") {
        let at = at.child("additionalProperties");
        if s.properties().next().is_some() && *additional != Value::Bool(true) {
            errors.push(FieldError::forbidden(
                &at,
                "additionalProperties and properties are mutual exclusive",
            ));
        }
        if let Some(additional) = s.schema("additionalProperties") {
            let no_defaults = place
                .inside_meta
                .then_some("inside additionalProperties applying to object metadata");
            schema(
                additional,
                false,
                Place {
                    no_defaults: no_defaults.or(place.no_defaults),
                    ..place
                },
                &at,
                errors,
            );
        }
    }
    for (name, field) in s.properties() {
        let mut place = place;
        let top_level = format!("in top-level {name}");
        if (root || s.flag("x-kubernetes-embedded-resource")) && matches!(name, "apiVersion" | "kind" | "metadata") {
            place.inside_meta = true;
            place.no_defaults = if root { Some(&top_level) } else { place.no_defaults };
        }
        schema(field, false, place, &at.child("properties").key(name), errors);
    }
    if let Some(not) = s.schema("not") {
        schema(not, false, place, &at.child("not"), errors);
    }
    for keyword in ["allOf", "oneOf", "anyOf"] {
        for (i, one) in s.schemas(keyword) {
            schema(one, false, place, &at.child(keyword).index(i), errors);
        }
    }
    if let Some(items) = s.schema("items") {
        schema(items, false, place, &at.child("items"), errors);
    }
    if s.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = at.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    map_type(s, at, errors);
    list_type(s, at, errors);
    if s.text("x-kubernetes-list-type") == "map" {
        map_keys(s, at, errors);
    }
    nullable_items(s, at, errors);
    for (i, rule) in s.list("x-kubernetes-validations").iter().enumerate() {
        validation_rule(rule, &at.child("x-kubernetes-validations").index(i), errors);
    }
}

fn standard(s: Props<'_>, place: Place<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let ty = s.text("type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(&at.child("type"), ty, TYPES));
    }
    if let (Some(_), Some(reason)) = (s.get("default"), place.no_defaults) {
        errors.push(FieldError::forbidden(
            &at.child("default"),
            format!("must not be set {reason}"),
        ));
    }
    for keyword in UNSUPPORTED {
        let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty) || value == "";
        let counts_empty = matches!(keyword, "dependencies" | "$ref" | "additionalItems");
        if s.get(keyword).is_some_and(|value| counts_empty || !empty(value)) {
            errors.push(FieldError::forbidden(
                &at.child(keyword),
                format!("{keyword} is not supported"),
            ));
        }
    }
    if ty == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), detail));
    }
    if s.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(
            &at.child("items"),
            "items must be a schema object and not an array",
        ));
    }
    if place.inside_meta && s.flag("x-kubernetes-embedded-resource") {
        let at = at.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&at, "must not be used inside of resource meta"));
    }
}

/// The error of a type that some extension demands otherwise.
fn type_demanded(s: Props<'_>, detail: &str, at: &Trail<'_>) -> FieldError {
    let at = at.child("type");
    match s.text("type") {
        "" => FieldError::required(&at, detail),
        ty => FieldError::invalid(&at, ty, detail),
    }
}

fn map_type(s: Props<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if s.get("x-kubernetes-map-type").is_none() {
        return;
    }
    let map_type = s.text("x-kubernetes-map-type");
    if s.text("type") != "object" {
        errors.push(type_demanded(
            s,
            "must be object if x-kubernetes-map-type is specified",
            at,
        ));
    }
    if !matches!(map_type, "atomic" | "granular") {
        errors.push(FieldError::not_supported(
            &at.child("x-kubernetes-map-type"),
            map_type,
            ["atomic", "granular"],
        ));
    }
}

fn list_type(s: Props<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let list_type = s.text("x-kubernetes-list-type");
    let type_at = at.child("x-kubernetes-list-type");
    let has_keys = !s.list("x-kubernetes-list-map-keys").is_empty();
    if s.get("x-kubernetes-list-type").is_none() {
        if has_keys {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(FieldError::required(&type_at, detail));
        }
        return;
    }
    if s.text("type") != "array" {
        errors.push(type_demanded(
            s,
            "must be array if x-kubernetes-list-type is specified",
            at,
        ));
    } else if let ("set", Some(items)) = (list_type, s.schema("items")) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let at = at.child("items");
        let (of_list, of_map) = (items.get("x-kubernetes-list-type"), items.text("x-kubernetes-map-type"));
        match items.text("type") {
            "array" if of_list.is_some_and(|of_list| of_list != "atomic") => {
                errors.push(FieldError::invalid(
                    &at.child("x-kubernetes-list-type"),
                    of_list.cloned(),
                    detail,
                ));
            }
            // Kubernetes shows the list type of the items here, which they have none of.
            "object" if of_map != "atomic" => {
                errors.push(FieldError::invalid(
                    &at.child("x-kubernetes-map-type"),
                    of_list.cloned(),
                    detail,
                ));
            }
            _ => {}
        }
    }
    if !matches!(list_type, "atomic" | "set" | "map") {
        errors.push(FieldError::not_supported(&type_at, list_type, ["atomic", "set", "map"]));
    }
    if has_keys && list_type != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(FieldError::invalid(&type_at, list_type, detail));
    }
}

/// The keys of a list of type map name scalar fields of its items, each once.
fn map_keys(s: Props<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let (keys_at, items_at) = (at.child("x-kubernetes-list-map-keys"), at.child("items"));
    let keys: Vec<&str> = s.texts("x-kubernetes-list-map-keys").collect();
    if keys.is_empty() {
        errors.push(FieldError::required(
            &keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let Some(items) = s.schema("items") else {
        if s.get("items").is_none() {
            errors.push(FieldError::required(
                &items_at,
                "must have a schema if x-kubernetes-list-type is map",
            ));
        }
        return;
    };
    if items.text("type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&items_at.child("type"), items.text("type"), detail));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        match items.property(key) {
            Some(field) if matches!(field.text("type"), "array" | "object") => {
                let at = items_at.child("properties");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                // Kubernetes shows the type of the items here.
                errors.push(FieldError::invalid(
                    &at.key(key).child("type"),
                    items.text("type"),
                    detail,
                ));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, keys.as_slice(), detail));
            }
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::invalid(
                &keys_at,
                keys.as_slice(),
                "must not contain duplicate entries",
            ));
        }
    }
}

/// Items of sets and maps are there, and so are the keys of maps.
fn nullable_items(s: Props<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let list_type = s.text("x-kubernetes-list-type");
    let Some(items) = s.schema("items").filter(|_| matches!(list_type, "set" | "map")) else {
        return;
    };
    let at = at.child("items");
    if items.flag("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&at.child("nullable"), detail));
    }
    if list_type != "map" {
        return;
    }
    let properties = at.child("properties");
    for key in s.texts("x-kubernetes-list-map-keys") {
        let Some(field) = items.property(key) else { continue };
        let at = properties.key(key);
        if field.get("default").is_none() && !items.texts("required").any(|name| name == key) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), detail));
        }
        if field.flag("nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
}

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// The texts of a rule; whether it is CEL is another question.
fn validation_rule(rule: &Value, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let text = |field: &str| rule.get(field).and_then(Value::as_str).unwrap_or_default();
    let has_lines = |text: &str| text.contains(['\n', '\r']);
    let (expression, message) = (text("rule").trim(), text("message"));
    if expression.is_empty() {
        errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(
            &at.child("message"),
            message,
            "must be non-empty if specified",
        ));
    } else if has_lines(message.trim()) {
        errors.push(FieldError::invalid(
            &at.child("message"),
            message,
            "must not contain line breaks",
        ));
    } else if has_lines(expression) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(&at.child("message"), detail));
    }
    let message_expression = text("messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&at.child("messageExpression"), detail));
    }
    if let Some(reason) = rule
        .get("reason")
        .and_then(Value::as_str)
        .filter(|reason| !REASONS.contains(reason))
    {
        errors.push(FieldError::not_supported(&at.child("reason"), reason, REASONS));
    }
    let field_path = text("fieldPath");
    if !field_path.is_empty() && field_path.trim().is_empty() {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            field_path,
            "must be non-empty if specified",
        ));
    }
    if has_lines(field_path) {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            field_path,
            "must not contain line breaks",
        ));
    }
}
