use super::*;
use crate::{prune, prune::PruneOptions, schema::ListType, validate};
use serde_json::json;

fn definitions(name: &str) -> Option<Value> {
    Some(match name {
        "Meta" => json!({"type": "object", "properties": {"name": {"type": "string"}}}),
        "Item" => {
            json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "format": "int32"}}})
        }
        "Time" => json!({"type": "string", "format": "date-time"}),
        "Raw" => json!({"type": "object"}),
        "Tree" => json!({"type": "object", "properties": {
            "v": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}),
        "Loop" => json!({"$ref": "#/components/schemas/Loop"}),
        "IntOrString" => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        _ => return None,
    })
}

fn schema(document: &Value) -> Schema {
    Schema::from_openapi(document, &definitions).unwrap()
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[test]
fn references_are_followed_and_shared() {
    let s = schema(&json!({"type": "object", "properties": {
        "a": refer("Item"), "b": {"allOf": [refer("Item")], "default": {"n": 1}, "description": "x"},
        "c": {"type": "array", "items": {"$ref": "#/definitions/Item"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
              "x-kubernetes-patch-strategy": "merge,retainKeys", "x-kubernetes-patch-merge-key": "n"},
        "d": {"allOf": [refer("Item")], "description": "only words"}}}));
    assert!(Arc::ptr_eq(
        &s.properties["a"],
        s.properties["c"].items.as_ref().unwrap()
    ));
    assert!(Arc::ptr_eq(&s.properties["a"], &s.properties["d"]));
    assert_eq!(s.properties["b"].default, Some(json!({"n": 1})));
    assert_eq!(s.properties["b"].required, ["n"]);
    let c = &s.properties["c"];
    assert_eq!(
        (c.list_type, c.list_map_keys.as_slice()),
        (ListType::Map, &["n".to_owned()][..])
    );
    assert_eq!(
        (c.patch_strategy.join("|"), c.patch_merge_key.as_deref()),
        ("merge|retainKeys".to_owned(), Some("n"))
    );
}

#[test]
fn definitions_may_contain_themselves() {
    let s = schema(&refer("Tree"));
    let mut value = json!({"v": 1, "x": 1, "children": [{"v": 2, "y": 1, "children": [{"z": 1, "v": "no"}]}]});
    let removed = prune(&s, &mut value, &PruneOptions::default());
    assert_eq!(removed, ["children[0].children[0].z", "children[0].y", "x"]);
    let errors = validate(&s, &value, None);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path.as_str(), "children[0].children[0].v");
    // Printing a circle ends.
    assert!(format!("{s:?}").contains("Some(…)"));
}

#[test]
fn free_form_types_keep_everything() {
    let s = schema(
        &json!({"type": "object", "properties": {"raw": refer("Raw"), "any": {"description": "JSON"}, "ios": refer("IntOrString")}}),
    );
    let object = json!({"raw": {"a": {"b": 1}}, "any": [{"c": null}], "ios": "50%"});
    let mut value = object.clone();
    assert!(prune(&s, &mut value, &PruneOptions::default()).is_empty());
    assert_eq!(value, object);
    assert_eq!(validate(&s, &value, None), []);
    assert_eq!(validate(&s, &json!({"ios": true}), None).len(), 1);
    assert!(s.properties["ios"].int_or_string);
}

#[test]
fn documents_that_do_not_hold_together_are_refused() {
    let error = |document: Value| Schema::from_openapi(&document, &definitions).unwrap_err().to_string();
    assert_eq!(error(refer("Nope")), "no definition \"Nope\"");
    assert_eq!(
        error(json!({"type": "object", "properties": {"a": 1}})),
        "a schema must be an object"
    );
    assert_eq!(error(json!({"type": "strnig"})), "type: is unknown: \"strnig\"");
    assert_eq!(
        error(refer("Loop")),
        "definition \"Loop\" refers to itself and nothing else"
    );
}

#[test]
fn empty_bytes_are_bytes_in_built_in_types() {
    let s = schema(&json!({"type": "object", "additionalProperties": {"type": "string", "format": "byte"}}));
    assert_eq!(validate(&s, &json!({"a": "", "b": "YQ=="}), None), []);
    assert_eq!(validate(&s, &json!({"a": "?"}), None).len(), 1);
}
