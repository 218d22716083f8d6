use super::*;
use crate::schema::{ListType, MapType, Type};
use expect_test::{Expect, expect};
use serde_json::json;

#[track_caller]
fn check(root: Value, want: Expect) {
    let text = match Schema::from_crd(&root) {
        Ok(_) => "fine".to_owned(),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    want.assert_eq(&text);
}

/// A root with this one field.
fn field(schema: Value) -> Value {
    json!({"type": "object", "properties": {"x": schema}})
}

#[test]
fn everything_a_schema_says_is_kept() {
    let schema = Schema::from_crd(&field(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "maxItems": 3,
        "items": {"type": "object", "x-kubernetes-map-type": "atomic", "required": ["k"], "properties": {
            "k": {"type": "string", "enum": ["a"], "format": "uuid", "description": "gone"}},
            "x-kubernetes-validations": [{"rule": "self.k != ''", "message": "m", "reason": "FieldValueForbidden", "fieldPath": ".k",
                "messageExpression": "'x'", "optionalOldSelf": true}]}})))
    .unwrap();
    let x = &schema.properties["x"];
    assert_eq!(
        (x.ty, x.list_type, x.list_map_keys.join(",")),
        (Type::Array, ListType::Map, "k".to_owned())
    );
    assert_eq!(x.value.as_ref().unwrap().max_items, Some(3));
    let item = x.items.as_ref().unwrap();
    assert_eq!(
        (item.map_type, item.required.join(",")),
        (MapType::Atomic, "k".to_owned())
    );
    let rule = &item.rules[0];
    assert_eq!(
        (rule.rule.as_str(), rule.message.as_deref(), rule.optional_old_self),
        ("self.k != ''", Some("m"), Some(true))
    );
    assert_eq!(
        (rule.reason.as_deref(), rule.field_path.as_deref()),
        (Some("FieldValueForbidden"), Some(".k"))
    );
    assert_eq!(item.properties["k"].enum_values, [json!("a")]);
}

#[test]
fn the_skeleton_has_types() {
    check(
        json!({}),
        expect!["type: Required value: must not be empty at the root"],
    );
    check(
        json!({"type": "string"}),
        expect![[r#"type: Invalid value: "string": must be object at the root"#]],
    );
    check(
        field(json!({})),
        expect!["properties[x].type: Required value: must not be empty for specified object fields"],
    );
    check(
        field(json!({"type": "array"})),
        expect!["properties[x].items: Required value: must be specified"],
    );
    check(
        field(json!({"type": "array", "items": {}})),
        expect!["properties[x].items.type: Required value: must not be empty for specified array items"],
    );
    check(
        field(json!({"type": "array", "items": [{"type": "string"}]})),
        expect!["properties[x].items: Forbidden: items must be a schema object and not an array"],
    );
    check(
        field(json!({"type": "strnig"})),
        expect![[
            r#"properties[x].type: Unsupported value: "strnig": supported values: "array", "boolean", "integer", "number", "object", "string""#
        ]],
    );
    check(
        field(json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true})),
        expect![
            "properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"
        ],
    );
    check(
        field(json!({"x-kubernetes-preserve-unknown-fields": true})),
        expect!["fine"],
    );
    check(
        field(json!({"x-kubernetes-preserve-unknown-fields": false, "type": "object"})),
        expect!["properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        expect!["additionalProperties: Forbidden: must not be used at the root"],
    );
    check(
        field(json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false})),
        expect![
            "properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
        ],
    );
}

#[test]
fn junctors_only_restrict_values() {
    check(
        field(
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [
            {"type": "object", "properties": {"a": {"pattern": "^a"}, "b": {"minimum": 1}}},
            {"description": "x", "default": {}, "nullable": true, "x-kubernetes-map-type": "atomic"}]}),
        ),
        expect![[r#"
            properties[x].anyOf[0].type: Forbidden: must be empty to be structural
            properties[x].anyOf[1].default: Forbidden: must be undefined to be structural
            properties[x].anyOf[1].description: Forbidden: must be empty to be structural
            properties[x].anyOf[1].nullable: Forbidden: must be false to be structural
            properties[x].anyOf[1].x-kubernetes-map-type: Forbidden: must be undefined to be structural
            properties[x].anyOf[1].type: Required value: must be object if x-kubernetes-map-type is specified"#]],
    );
    check(
        field(
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]}),
        ),
        expect!["fine"],
    );
    check(
        field(json!({"type": "string", "pattern": "("})),
        expect![[
            r#"properties[x].pattern: Invalid value: "(": must be a valid regular expression, but isn't: unclosed group"#
        ]],
    );
    check(
        field(json!({"type": "string", "not": {"items": {"minimum": 1}}})),
        expect!["fine"],
    );
}

#[test]
fn junctors_at_the_root_speak_of_known_fields() {
    let spec = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}});
    let about = |spec: Value| json!({"properties": {"spec": {"properties": spec}}});
    let root = |about: Value| json!({"type": "object", "properties": {"spec": spec}, "anyOf": [{"not": about}]});
    check(root(about(json!({"a": {"items": {"maxLength": 1}}}))), expect!["fine"]);
    check(
        root(about(json!({"b": {"maxLength": 1}, "a": {"items": {"items": {}}}}))),
        expect![[r#"
            properties[spec].properties[a].items.items: Required value: because it is defined in anyOf[0].not.properties[spec].properties[a].items.items
            properties[spec].properties[b]: Required value: because it is defined in anyOf[0].not.properties[spec].properties[b]"#]],
    );
}

#[test]
fn metadata_is_not_a_crds_to_say() {
    let root = |metadata: Value| json!({"type": "object", "properties": {"metadata": metadata}});
    check(root(json!({"type": "object"})), expect!["fine"]);
    check(
        root(json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}})),
        expect!["fine"],
    );
    check(
        root(json!({"type": "object", "properties": {"labels": {"type": "object"}}})),
        expect![
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
        ],
    );
    check(
        root(json!({"type": "string"})),
        expect![[r#"properties[metadata].type: Invalid value: "string": must be object"#]],
    );
    check(
        root(json!({"type": "object", "properties": {"name": {"type": "string", "default": "x"}}})),
        expect!["properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"],
    );
    check(
        json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
        expect![[r#"properties[kind].type: Invalid value: "integer": must be string"#]],
    );
    check(
        field(json!({"x-kubernetes-embedded-resource": true})),
        expect![[r#"
        properties[x].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields
        properties[x].type: Required value: must be object if x-kubernetes-embedded-resource is true"#]],
    );
    check(
        field(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
        expect![
            "properties[x].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        ],
    );
}

#[test]
fn lists_and_maps_say_how_they_merge() {
    let items = json!({"type": "object", "properties": {"k": {"type": "string"}, "o": {"type": "object"}}});
    let list = |ty: &str, keys: &[&str], items: &Value| {
        field(
            json!({"type": "array", "x-kubernetes-list-type": ty, "x-kubernetes-list-map-keys": keys, "items": items}),
        )
    };
    check(
        list("map", &[], &items),
        expect![
            "properties[x].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"
        ],
    );
    check(
        list("map", &["k"], &items),
        expect![
            "properties[x].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        ],
    );
    check(
        list("map", &["o", "z", "z"], &items),
        expect![[r#"
        properties[x].items.properties[o].type: Invalid value: "object": must be a scalar type if parent array's x-kubernetes-list-type is map
        properties[x].x-kubernetes-list-map-keys: Invalid value: ["o","z","z"]: entries must all be names of item properties
        properties[x].x-kubernetes-list-map-keys: Invalid value: ["o","z","z"]: entries must all be names of item properties
        properties[x].x-kubernetes-list-map-keys: Invalid value: ["o","z","z"]: must not contain duplicate entries
        properties[x].items.properties[o].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"#]],
    );
    check(
        list("map", &["k"], &json!({"type": "string"})),
        expect![[
            r#"properties[x].items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#
        ]],
    );
    check(
        list("set", &["k"], &items),
        expect![[r#"
        properties[x].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set
        properties[x].x-kubernetes-list-type: Invalid value: "set": must be map if x-kubernetes-list-map-keys is non-empty"#]],
    );
    check(
        list("bag", &[], &json!({"type": "string", "nullable": true})),
        expect![[
            r#"properties[x].x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#
        ]],
    );
    check(
        list("set", &[], &json!({"type": "string", "nullable": true})),
        expect!["properties[x].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set"],
    );
    check(
        field(json!({"type": "string", "x-kubernetes-list-type": "set", "x-kubernetes-map-type": "loose"})),
        expect![[r#"
            properties[x].type: Invalid value: "string": must be object if x-kubernetes-map-type is specified
            properties[x].x-kubernetes-map-type: Unsupported value: "loose": supported values: "atomic", "granular"
            properties[x].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#]],
    );
}

#[test]
fn defaults_are_pruned_and_valid() {
    let object =
        json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "default": {"n": 0, "m": 1}});
    check(
        field(object),
        expect![[r#"
        properties[x].default: Invalid value: {"m":1,"n":0}: must not have unknown fields
        properties[x].default.n: Invalid value: 0: n in body should be greater than or equal to 1"#]],
    );
    check(
        field(json!({"type": "string", "default": 5})),
        expect![[r#"properties[x].default: Invalid value: "integer":  in body must be of type string: "integer""#]],
    );
    check(field(json!({"type": "string", "default": null})), expect!["fine"]);
}

#[test]
fn unsupported_keywords_are_refused() {
    check(
        field(
            json!({"type": "string", "id": "x", "$ref": "y", "definitions": {"a": {}}, "patternProperties": {"a": {}}, "dependencies": {},
            "additionalItems": false, "uniqueItems": true}),
        ),
        expect![[r#"
            properties[x].id: Forbidden: id is not supported
            properties[x].additionalItems: Forbidden: additionalItems is not supported
            properties[x].patternProperties: Forbidden: patternProperties is not supported
            properties[x].definitions: Forbidden: definitions is not supported
            properties[x].dependencies: Forbidden: dependencies is not supported
            properties[x].$ref: Forbidden: $ref is not supported
            properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"#]],
    );
    check(
        field(json!({"type": "string", "minLength": "x"})),
        expect![[r#"properties[x].minLength: Invalid value: "x": must be a whole number"#]],
    );
    check(
        field(json!({"type": "object", "properties": {"a": 1}})),
        expect!["properties[x].properties[a]: Invalid value: 1: must be a schema"],
    );
}

#[test]
fn rules_have_texts() {
    let rules = json!([{"rule": " "}, {"rule": "a\nb"}, {"rule": "a", "message": " ", "reason": "No", "fieldPath": " "}, {"rule": "a", "message": "b\nc",
        "messageExpression": " "}]);
    check(
        field(json!({"type": "object", "x-kubernetes-validations": rules})),
        expect![[r#"
            properties[x].x-kubernetes-validations[0].rule: Required value: rule is not specified
            properties[x].x-kubernetes-validations[1].message: Required value: message must be specified if rule contains line breaks
            properties[x].x-kubernetes-validations[2].message: Invalid value: " ": must be non-empty if specified
            properties[x].x-kubernetes-validations[2].reason: Unsupported value: "No": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
            properties[x].x-kubernetes-validations[2].fieldPath: Invalid value: " ": must be non-empty if specified
            properties[x].x-kubernetes-validations[3].message: Invalid value: "b\nc": must not contain line breaks
            properties[x].x-kubernetes-validations[3].messageExpression: Required value: messageExpression must be non-empty if specified"#]],
    );
}
