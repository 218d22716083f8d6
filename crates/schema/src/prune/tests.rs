use super::*;
use serde_json::json;

fn schema(root: Value) -> Schema {
    Schema::from_crd(&root).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What is left, and what was removed.
#[track_caller]
fn check(properties: Value, mut value: Value, left: Value, removed: &[&str]) {
    let schema = schema(json!({"type": "object", "properties": properties}));
    assert_eq!(prune(&schema, &mut value, &PruneOptions::default()), removed);
    assert_eq!(value, left);
    assert_eq!(
        prune(&schema, &mut value, &PruneOptions::default()),
        [""; 0],
        "pruned twice"
    );
}

#[test]
fn unknown_fields_go_and_are_named() {
    let spec = json!({"type": "object", "properties": {
        "n": {"type": "integer"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}}}});
    check(
        json!({"spec": spec}),
        json!({"apiVersion": "v1", "kind": "X", "metadata": {"any": 1}, "zzz": 1, "spec": {"n": 1, "m": {"deep": 1},
               "list": [{"a": "x", "b": 1}, {"c": 1}], "map": {"k": {"a": "x", "b": 1}}}}),
        json!({"apiVersion": "v1", "kind": "X", "metadata": {"any": 1}, "spec": {"n": 1, "list": [{"a": "x"}, {}], "map": {"k": {"a": "x"}}}}),
        &["spec.list[0].b", "spec.list[1].c", "spec.m", "spec.map.k.b", "zzz"],
    );
}

#[test]
fn metadata_is_only_kept_at_the_root() {
    let spec = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    check(
        json!({"metadata": {"type": "object"}, "spec": spec}),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"metadata": {}, "kind": "x"}}),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {}}),
        &["spec.kind", "spec.metadata"],
    );
    let mut part = json!({"metadata": 1, "n": 1});
    let options = PruneOptions {
        whole_object: false,
        report: false,
    };
    assert_eq!(prune(&schema(spec), &mut part, &options), [""; 0]);
    assert_eq!(part, json!({"n": 1}));
}

#[test]
fn preserved_unknown_fields_stay_but_known_ones_are_pruned() {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "known": {"type": "object", "properties": {"a": {"type": "string"}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}}});
    check(
        json!({"open": open}),
        json!({"open": {"x": {"y": 1}, "known": {"a": "x", "b": 1}, "list": [{"a": "x", "b": 1}]}}),
        json!({"open": {"x": {"y": 1}, "known": {"a": "x"}, "list": [{"a": "x"}]}}),
        &["open.known.b", "open.list[0].b"],
    );
    // A list that preserves keeps what its items do not know, and prunes what they do.
    let list = json!({"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object", "properties": {
        "a": {"type": "object", "properties": {"b": {"type": "string"}}}}}});
    check(
        json!({"list": list}),
        json!({"list": [{"x": 1, "a": {"b": "", "c": 1}}]}),
        json!({"list": [{"x": 1, "a": {"b": ""}}]}),
        &["list[0].a.c"],
    );
}

#[test]
fn embedded_resources_keep_their_metadata() {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string"}}}}});
    check(
        json!({"template": template}),
        json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {"a": "", "b": 1}, "status": {}}}),
        json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {"a": ""}}}),
        &["template.spec.b", "template.status"],
    );
}

#[test]
fn maps_of_anything_keep_scalars_only() {
    check(
        json!({"m": {"type": "object", "additionalProperties": true}}),
        json!({"m": {"a": 1, "b": {"c": 1}}}),
        json!({"m": {"a": 1, "b": {}}}),
        &["m.b.c"],
    );
}
