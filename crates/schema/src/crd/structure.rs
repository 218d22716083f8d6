//! What makes a schema structural (Kubernetes, "Specifying a structural schema").

use super::Props;
use crate::{pattern::Pattern, read::is_int_or_string};
use serde_json::{Map, Value};
use setpoint_meta::field::{FieldError, Trail};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps the schema from being structural, sorted by text.
pub(super) fn check(root: &Map<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    skeleton(Props(root), Level::Root, &Trail::root(), &mut errors);
    complete_values(
        Props(root),
        Some(Props(root)),
        &Trail::root(),
        &Trail::root(),
        &mut errors,
    );
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

/// The part outside of junctors.
fn skeleton(s: Props<'_>, level: Level, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let ty = s.text("type");
    match s.schema("items") {
        Some(items) => skeleton(items, Level::Item, &at.child("items"), errors),
        None if ty == "array" && s.get("items").is_none() => {
            errors.push(FieldError::required(&at.child("items"), "must be specified"));
        }
        None => {}
    }
    for (name, field) in s.properties() {
        skeleton(field, Level::Field, &at.child("properties").key(name), errors);
    }
    if s.get("additionalProperties").is_some() {
        let at = at.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&at, "must not be used at the root"));
        }
        if let Some(additional) = s.schema("additionalProperties") {
            skeleton(additional, Level::Field, &at, errors);
        }
    }
    extensions(s, at, errors);
    let (skip_any_of, skip_first) = (is_int_or_string(s.list("anyOf")), first_all_of_is_int_or_string(s));
    values(s, skip_any_of, skip_first, at, errors);
    types(s, ty, level, at, errors);
    metadata(s, level, at, errors);
}

/// `allOf: [{anyOf: [{type: integer}, {type: string}]}, …]`
fn first_all_of_is_int_or_string(s: Props<'_>) -> bool {
    s.schemas("allOf")
        .next()
        .is_some_and(|(_, first)| is_int_or_string(first.list("anyOf")))
}

fn extensions(s: Props<'_>, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if s.flag("x-kubernetes-int-or-string") {
        for keyword in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if s.flag(keyword) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&at.child(keyword), true, detail));
            }
        }
    }
}

fn types(s: Props<'_>, ty: &str, level: Level, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let type_at = at.child("type");
    let embedded = s.flag("x-kubernetes-embedded-resource");
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            FieldError::required(&type_at, detail)
        } else {
            FieldError::invalid(&type_at, ty, detail)
        });
    } else if ty.is_empty() && !s.flag("x-kubernetes-int-or-string") && !s.flag("x-kubernetes-preserve-unknown-fields")
    {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&type_at, detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(FieldError::invalid(&type_at, ty, "must be object at the root"));
    }
    if embedded && s.get("additionalProperties").is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), detail));
    }
    if embedded && !s.flag("x-kubernetes-preserve-unknown-fields") && s.properties().next().is_none() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), detail));
    }
}

/// `apiVersion`, `kind` and `metadata` of whole objects have fixed types; of metadata at the root only the name may be restricted.
fn metadata(s: Props<'_>, level: Level, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let whole = level == Level::Root || s.flag("x-kubernetes-embedded-resource");
    if !whole {
        return;
    }
    let properties = at.child("properties");
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        if let Some(field) = s.property(name).filter(|field| field.text("type") != wanted) {
            let at = properties.key(name);
            errors.push(FieldError::invalid(
                &at.child("type"),
                field.text("type"),
                format!("must be {wanted}"),
            ));
        }
    }
    if let Some(meta) = s.property("metadata").filter(|_| level == Level::Root) {
        let only_names = meta
            .properties()
            .all(|(name, _)| matches!(name, "name" | "generateName"));
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        let more = meta
            .0
            .iter()
            .any(|(k, v)| !matches!(k.as_str(), "type" | "default" | "properties") && says(v));
        if !only_names || more {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&properties.key("metadata"), detail));
        }
    }
}

/// The junctors of a schema, and its pattern.
fn values(s: Props<'_>, skip_any_of: bool, skip_first: bool, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if !skip_any_of {
        s.schemas("anyOf")
            .for_each(|(i, one)| nested(one, false, &at.child("anyOf").index(i), errors));
    }
    s.schemas("allOf")
        .for_each(|(i, one)| nested(one, skip_first && i == 0, &at.child("allOf").index(i), errors));
    s.schemas("oneOf")
        .for_each(|(i, one)| nested(one, false, &at.child("oneOf").index(i), errors));
    if let Some(not) = s.schema("not") {
        nested(not, false, &at.child("not"), errors);
    }
    let pattern = s.text("pattern");
    if let Err(error) = Pattern::new(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&at.child("pattern"), pattern, detail));
    }
}

/// Keywords that belong to the skeleton, and what is said where they stand within a junctor.
const FORBIDDEN: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

/// A schema within a junctor.
fn nested(s: Props<'_>, skip_any_of: bool, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    values(s, skip_any_of, false, at, errors);
    if let Some(items) = s.schema("items") {
        nested(items, false, &at.child("items"), errors);
    }
    for (name, field) in s.properties() {
        nested(field, false, &at.child("properties").key(name), errors);
    }
    let says = |value: &Value| match value {
        Value::Bool(set) => *set,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    for (keyword, detail) in FORBIDDEN {
        // An empty default is a default.
        if s.get(keyword).is_some_and(|value| keyword == "default" || says(value)) {
            errors.push(FieldError::forbidden(&at.child(keyword), detail));
        }
    }
    if !s.list("x-kubernetes-validations").is_empty() {
        errors.push(FieldError::forbidden(
            &at.child("x-kubernetes-validations"),
            "must be empty to be structural",
        ));
    }
    if s.property("metadata").is_some() {
        let at = at.child("properties");
        errors.push(FieldError::forbidden(
            &at.key("metadata"),
            "must not be specified in a nested context",
        ));
    }
}

/// All that junctors at the root speak of must stand in the skeleton too; at other nodes Kubernetes does not look. `v` is a schema of which the junctors are looked at, `s` the part of the
/// skeleton that they apply to.
fn complete_values(
    v: Props<'_>,
    s: Option<Props<'_>>,
    s_at: &Trail<'_>,
    v_at: &Trail<'_>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(not) = v.schema("not") {
        complete(not, s, s_at, &v_at.child("not"), errors);
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (i, one) in v.schemas(keyword) {
            complete(one, s, s_at, &v_at.child(keyword).index(i), errors);
        }
    }
}

fn complete(v: Props<'_>, s: Option<Props<'_>>, s_at: &Trail<'_>, v_at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    let Some(skeleton) = s else {
        errors.push(FieldError::required(s_at, format!("because it is defined in {v_at}")));
        return;
    };
    complete_values(v, s, s_at, v_at, errors);
    if let Some(items) = v.schema("items") {
        complete(
            items,
            skeleton.schema("items"),
            &s_at.child("items"),
            &v_at.child("items"),
            errors,
        );
    }
    for (name, field) in v.properties() {
        let (s_at, v_at) = (s_at.child("properties"), v_at.child("properties"));
        complete(field, skeleton.property(name), &s_at.key(name), &v_at.key(name), errors);
    }
}
