use super::*;
use serde_json::json;

fn schema() -> Schema {
    let limits = json!({"type": "object", "default": {}, "properties": {"cpu": {"type": "string", "default": "1"}, "mem": {"type": "string"}}});
    Schema::from_crd(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "n": {"type": "integer", "default": 1},
            "plain": {"type": "integer"},
            "nullable": {"type": "integer", "default": 5, "nullable": true},
            "limits": limits,
            "list": {"type": "array", "items": limits},
            "bare": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": limits},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}}),
    )
    .unwrap()
}

#[track_caller]
fn check(spec: Value, want: Value) {
    let mut value = json!({"spec": spec});
    default(&schema(), &mut value);
    assert_eq!(value, json!({"spec": want}));
    default(&schema(), &mut value);
    assert_eq!(value, json!({"spec": want}), "defaulted twice");
}

#[test]
fn absent_fields_get_defaults_and_those_get_theirs() {
    check(json!({}), json!({"n": 1, "nullable": 5, "limits": {"cpu": "1"}}));
    check(
        json!({"n": 2, "limits": {"mem": "1"}, "list": [{}, {"cpu": "2"}], "map": {"a": {}}}),
        json!({"n": 2, "nullable": 5, "limits": {"cpu": "1", "mem": "1"}, "list": [{"cpu": "1"}, {"cpu": "2"}], "map": {"a": {"cpu": "1"}}}),
    );
}

#[test]
fn an_absent_object_without_default_stays_absent() {
    let mut value = json!({});
    default(&schema(), &mut value);
    assert_eq!(value, json!({}));
}

#[test]
fn nulls_become_what_the_table_says() {
    check(
        json!({"n": null, "plain": null, "nullable": null, "limits": {"cpu": null, "mem": null}, "list": [null], "bare": [null],
               "map": {"a": null}, "open": {"x": null}}),
        json!({"n": 1, "nullable": null, "limits": {"cpu": "1"}, "list": [{"cpu": "1"}], "bare": [null],
               "map": {"a": {"cpu": "1"}}, "open": {"x": null}}),
    );
}

#[test]
fn dropping_nulls_leaves_those_that_mean_something() {
    let mut value = json!({"other": null, "spec": {"n": null, "plain": null, "nullable": null, "limits": {"mem": null}, "bare": [null]}});
    drop_nulls(&schema(), &mut value);
    assert_eq!(
        value,
        json!({"other": null, "spec": {"n": null, "nullable": null, "limits": {}, "bare": [null]}})
    );
}
