use super::*;
use crate::{PruneOptions, default, prune};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn schema(spec: &Value) -> Schema {
    let root = json!({"type": "object", "properties": {"spec": spec}});
    Schema::from_crd(&root).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn texts(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(spec: Value, values: &[Value], want: Expect) {
    let schema = schema(&spec);
    let lines: Vec<_> = values
        .iter()
        .map(|v| texts(&validate(&schema, &json!({"spec": v}), None)))
        .collect();
    want.assert_eq(&lines.join("\n"));
}

#[test]
fn types() {
    let spec = json!({"type": "object", "properties": {
        "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"}, "o": {"type": "object"},
        "l": {"type": "array", "items": {"type": "integer"}}, "x": {"x-kubernetes-int-or-string": true},
        "i32": {"type": "integer", "format": "int32"}, "u": {"type": "string", "format": "uuid"}, "nn": {"type": "string", "nullable": true}}});
    check(
        spec,
        &[
            json!({"s": "", "i": 1, "n": 1.5, "b": true, "o": {}, "l": [1, 2.0], "x": "1", "nn": null}),
            json!({"s": 1, "i": "1", "n": "1", "b": 0, "o": [], "l": {}, "x": 1.5}),
            json!({"s": null, "i": 1.5, "n": null, "l": [1, "2", null], "x": null, "i32": "1", "u": 5}),
            json!({"i32": 3000000000u32, "i": 18446744073709551615u64, "u": "nope"}),
            json!({"i32": 1.5, "u": true}),
            json!([]),
        ],
        expect![[r#"

            spec.b: Invalid value: "integer": spec.b in body must be of type boolean: "integer"
            spec.i: Invalid value: "string": spec.i in body must be of type integer: "string"
            spec.l: Invalid value: "object": spec.l in body must be of type array: "object"
            spec.n: Invalid value: "string": spec.n in body must be of type number: "string"
            spec.o: Invalid value: "array": spec.o in body must be of type object: "array"
            spec.s: Invalid value: "integer": spec.s in body must be of type string: "integer"
            spec.x: Invalid value: "number": spec.x in body must be of type integer,string: "number"
            spec.i: Invalid value: "number": spec.i in body must be of type integer: "number"
            spec.i32: Invalid value: "string": spec.i32 in body must be of type integer: "string"
            spec.l[1]: Invalid value: "string": spec.l[1] in body must be of type integer: "string"
            spec.l[2]: Invalid value: "null": spec.l[2] in body must be of type integer: "null"
            spec.n: Invalid value: "null": spec.n in body must be of type number: "null"
            spec.s: Invalid value: "null": spec.s in body must be of type string: "null"
            spec.u: Invalid value: "int64": spec.u in body must be of type uuid: "int64"
            spec.x: Invalid value: "null": spec.x in body must be of type integer,string: "null"
            spec.i: Invalid value: "number": spec.i in body must be of type integer: "number"
            <nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.i32
            spec.u: Invalid value: "nope": spec.u in body must be of type uuid: "nope"
            spec.i32: Invalid value: "float64": spec.i32 in body must be of type int32: "float64"
            spec.u: Invalid value: "": spec.u in body must be of type uuid: ""
            spec: Invalid value: "array": spec in body must be of type object: "array""#]],
    );
}

#[test]
fn limits() {
    let spec = json!({"type": "object", "minProperties": 1, "maxProperties": 9, "properties": {
        "min": {"type": "integer", "minimum": 0}, "max": {"type": "number", "maximum": 1.5, "exclusiveMaximum": true},
        "step": {"type": "integer", "multipleOf": 5}, "short": {"type": "string", "maxLength": 3}, "long": {"type": "string", "minLength": 3},
        "re": {"type": "string", "pattern": "^[a-z]+$"}, "few": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}},
        "enum": {"type": "string", "enum": ["a", "b"]}, "ienum": {"type": "integer", "enum": [1, 2]}, "tenth": {"type": "number", "multipleOf": 0.1}}});
    check(
        spec,
        &[
            json!({"min": 0, "max": 1.4, "step": 10, "short": "äöü", "long": "äöü", "re": "a", "few": [1], "enum": "a", "tenth": 0.3}),
            json!({"min": -1, "max": 1.5, "step": 7, "short": "äöüx", "long": "äö", "re": "A", "few": [], "enum": "c"}),
            json!({"few": [1, 2, 3], "ienum": 3, "tenth": 0.35}),
            json!({}),
        ],
        expect![[r#"

            spec.enum: Unsupported value: "c": supported values: "a", "b"
            spec.few: Invalid value: 0: spec.few in body should have at least 1 items
            spec.long: Invalid value: "äö": spec.long in body should be at least 3 chars long
            spec.max: Invalid value: 1.5: spec.max in body should be less than 1.5
            spec.min: Invalid value: -1: spec.min in body should be greater than or equal to 0
            spec.re: Invalid value: "A": spec.re in body should match '^[a-z]+$'
            spec.short: Too long: may not be more than 3 bytes
            spec.step: Invalid value: 7: spec.step in body should be a multiple of 5
            spec.few: Too many: 3: must have at most 2 items
            spec.ienum: Unsupported value: 3: supported values: "1", "2"
            spec.tenth: Invalid value: 0.35: spec.tenth in body should be a multiple of 0.1
            spec: Invalid value: 0: spec in body should have at least 1 properties"#]],
    );
}

#[test]
fn required_and_closed_objects() {
    let spec = json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}, "b": {"type": "string"},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}}, "closed": {"type": "object", "additionalProperties": false}}});
    check(
        spec,
        &[
            json!({"a": ""}),
            json!({"a": "", "b": "", "m": {"k": "v"}, "closed": {"x": 1}}),
        ],
        expect![[r#"
            spec.b: Required value
            spec.closed: Invalid value: "x": spec.closed.x in body is a forbidden property
            spec.m.k: Invalid value: "string": spec.m.k in body must be of type integer: "string""#]],
    );
}

#[test]
fn junctors() {
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "port": {
            "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[0-9]+%$"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "anyOf": [{"properties": {"a": {"minimum": 5}}}, {"properties": {"a": {"enum": [1]}}}],
        "allOf": [{"properties": {"b": {"maximum": 3}}}, {"properties": {"b": {"minimum": 0}}}], "not": {"properties": {"a": {"enum": [13]}}, "required": ["a"]}});
    check(
        spec,
        &[
            json!({"a": 7, "port": "50%"}),
            json!({"a": 7, "b": 1}),
            json!({}),
            json!({"a": 2, "port": "x"}),
            json!({"b": 4}),
            json!({"a": 13}),
        ],
        expect![[r#"

            <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives
            <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid
            spec.a: Required value
            <nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)
            spec.a: Invalid value: 2: spec.a in body should be greater than or equal to 5
            spec.port: Invalid value: "x": spec.port in body should match '^[0-9]+%$'
            spec.b: Invalid value: 4: spec.b in body should be less than or equal to 3
            <nil>: Invalid value: "": "spec" must validate all the schemas (allOf)
            <nil>: Invalid value: "": "spec" must not validate the schema (not)"#]],
    );
}

#[test]
fn lists_of_type_set_and_map() {
    let port = json!({"type": "object", "required": ["p"], "properties": {"p": {"type": "integer"}, "q": {"type": "string", "default": "TCP"}}});
    let spec = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "one": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p"], "items": port},
        "m": {"type": "object", "additionalProperties":
            {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p", "q"], "items": port}}}});
    check(
        spec,
        &[
            json!({"set": ["a", "b"], "one": [{"p": 1}, {"p": 2}], "m": {"k": [{"p": 1}, {"p": 1, "q": "UDP"}]}}),
            json!({"set": ["a", "b", "a", "a"], "one": [{"p": 1, "q": "x"}, {"p": 1}], "m": {"k": [{"p": 1, "q": "a"}, {"p": 1, "q": "a"}]}}),
            json!({"one": [1]}),
        ],
        expect![[r#"

            spec.m[k][1]: Duplicate value: {"p":1,"q":"a"}
            spec.one[1]: Duplicate value: {"p":1}
            spec.set[2]: Duplicate value: "a"
            spec.one[0]: Invalid value: "integer": spec.one[0] in body must be of type object: "integer"
            spec.one[0]: Invalid value: 1: must be an object for an array of list-type map"#]],
    );
}

#[test]
fn unchanged_values_are_let_be() {
    let item = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}, "w": {"type": "integer"}}});
    let spec = json!({"type": "object", "required": ["r"], "properties": {"r": {"type": "integer"}, "n": {"type": "integer", "minimum": 1}, "o": {"type": "integer"},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item},
        "atomic": {"type": "array", "items": item}, "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}});
    let schema = schema(&spec);
    let update = |old: Value, new: Value| texts(&validate(&schema, &json!({"spec": new}), Some(&json!({"spec": old}))));
    assert_eq!(
        update(json!({"r": 1, "n": 0, "o": 1}), json!({"r": 1, "n": 0, "o": 2})),
        ""
    );
    expect!["spec.n: Invalid value: -1: spec.n in body should be greater than or equal to 1"]
        .assert_eq(&update(json!({"r": 1, "n": 0}), json!({"r": 1, "n": -1})));
    // The object that lacks it has changed.
    expect!["spec.r: Required value"].assert_eq(&update(json!({"o": 1}), json!({"o": 2})));
    let keyed = |v, w| json!({"r": 1, "keyed": [{"k": "a", "v": v, "w": w}]});
    assert_eq!(update(keyed(9, 1), keyed(9, 2)), "");
    let moved = json!({"r": 1, "keyed": [{"k": "new"}, {"k": "a", "v": 9, "w": 2}]});
    assert_eq!(update(keyed(9, 1), moved), "");
    expect!["spec.keyed[0].v: Invalid value: 8: spec.keyed[0].v in body should be less than or equal to 5"]
        .assert_eq(&update(keyed(9, 1), keyed(8, 1)));
    let atomic = |w| json!({"r": 1, "atomic": [{"k": "a", "v": 9, "w": w}]});
    assert_eq!(update(atomic(1), atomic(1)), "");
    expect!["spec.atomic[0].v: Invalid value: 9: spec.atomic[0].v in body should be less than or equal to 5"]
        .assert_eq(&update(atomic(1), atomic(2)));
    let set = |items: &[&str]| json!({"r": 1, "set": items});
    assert_eq!(update(set(&["a", "a"]), set(&["a", "a", "b"])), "");
    expect![[r#"spec.set[1]: Duplicate value: "a""#]].assert_eq(&update(set(&["a"]), set(&["a", "a"])));
}

#[test]
fn errors_are_bounded() {
    let schema = schema(&json!({"type": "array", "items": {"type": "integer"}}));
    let many: Vec<&str> = vec!["x"; 100_000];
    assert_eq!(validate(&schema, &json!({"spec": many}), None).len(), MAX_ERRORS);
}

/// A schema of a few levels and a value that satisfies it.
fn pairs() -> impl Strategy<Value = (Value, Value)> {
    let leaf = prop_oneof![
        (any::<i32>(), any::<bool>()).prop_map(|(n, d)| (
            if d {
                json!({"type": "integer", "default": n})
            } else {
                json!({"type": "integer"})
            },
            json!(n)
        )),
        "[a-z]{0,5}".prop_map(|s| (json!({"type": "string", "maxLength": 5}), json!(s))),
        any::<bool>().prop_map(|b| (json!({"type": "boolean", "default": false}), json!(b))),
        Just((json!({"type": "string", "nullable": true}), Value::Null)),
        any::<i32>().prop_map(|n| (json!({"x-kubernetes-int-or-string": true}), json!(n))),
        "[a-z]{1,3}".prop_map(|k| (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            json!({k: {"x": [null]}})
        )),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::btree_map("[a-e]", (inner.clone(), any::<bool>()), 1..5).prop_map(|fields| {
                let properties: Map<_, _> = fields.iter().map(|(k, ((s, _), _))| (k.clone(), s.clone())).collect();
                let value: Map<_, _> = fields
                    .into_iter()
                    .filter(|(_, (_, here))| *here)
                    .map(|(k, ((_, v), _))| (k, v))
                    .collect();
                (
                    json!({"type": "object", "properties": properties}),
                    Value::Object(value),
                )
            }),
            (inner.clone(), 0usize..4)
                .prop_map(|((s, v), n)| (json!({"type": "array", "items": s}), json!(vec![v; n]))),
            (inner, "[a-z]{1,3}")
                .prop_map(|((s, v), k)| (json!({"type": "object", "additionalProperties": s}), json!({k: v}))),
        ]
    })
}

proptest! {
    #[test]
    fn valid_values_pass_unchanged((spec, value) in pairs()) {
        let (schema, object) = (schema(&spec), json!({"spec": value}));
        prop_assert_eq!(validate(&schema, &object, None), vec![]);
        let mut pruned = object.clone();
        prop_assert_eq!(prune(&schema, &mut pruned, &PruneOptions::default()), Vec::<String>::new());
        prop_assert_eq!(&pruned, &object);
        default(&schema, &mut pruned);
        prop_assert_eq!(validate(&schema, &pruned, None), vec![]);
        let mut again = pruned.clone();
        default(&schema, &mut again);
        prop_assert_eq!(&again, &pruned);
        prop_assert_eq!(prune(&schema, &mut again, &PruneOptions::default()), Vec::<String>::new());
    }

    #[test]
    fn any_value_is_pruned_and_defaulted_once((spec, _) in pairs(), value in crate::strict::tests::json_values()) {
        let schema = schema(&spec);
        let mut once = json!({"spec": value});
        prune(&schema, &mut once, &PruneOptions::default());
        let mut twice = once.clone();
        prop_assert_eq!(prune(&schema, &mut twice, &PruneOptions::default()), Vec::<String>::new());
        prop_assert_eq!(&once, &twice);
        default(&schema, &mut once);
        twice.clone_from(&once);
        default(&schema, &mut twice);
        prop_assert_eq!(&once, &twice);
        // What is stored already may stay as it is.
        prop_assert_eq!(validate(&schema, &once, Some(&once)), vec![]);
        validate(&schema, &once, None);
    }
}
