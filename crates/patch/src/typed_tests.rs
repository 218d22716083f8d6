//! The walks of a value by its schema.

use serde_json::json;

use super::*;
use crate::fieldset::FieldSet;
use crate::testing::schema;

fn node(schema: &Schema) -> Node<'_> {
    Node::Root(schema)
}

fn set_of(value: &Value) -> Vec<String> {
    field_set(node(&schema()), value).unwrap().paths()
}

#[test]
fn the_metadata_schema_is_read() {
    assert!(OBJECT_META.properties.contains_key("finalizers"));
}

#[test]
fn what_a_value_sets() {
    let value = json!({"spec": {
        "replicas": 1, "name": null, "labels": {"a": "b"}, "selector": {"a": "b"}, "args": [], "set": ["y", "x"],
        "ports": [{"port": 1, "tags": ["t"]}], "pools": {"p": {"x": 1}, "q": {}}, "free": {"m": {"n": [1]}, "e": {}},
    }});
    assert_eq!(
        set_of(&value),
        [
            ".spec.args",
            ".spec.free.e",
            ".spec.free.m",
            ".spec.free.m.n",
            ".spec.labels.a",
            ".spec.name",
            ".spec.pools.p",
            ".spec.pools.p.x",
            ".spec.pools.q",
            ".spec.ports[port=1,protocol=\"TCP\"]",
            ".spec.ports[port=1,protocol=\"TCP\"].port",
            ".spec.ports[port=1,protocol=\"TCP\"].tags[=\"t\"]",
            ".spec.replicas",
            ".spec.selector",
            ".spec.set[=\"x\"]",
            ".spec.set[=\"y\"]",
        ]
    );
    // an empty list or object of its own is set by nothing in it
    assert_eq!(set_of(&json!({"spec": {"set": [], "labels": {}}})), [".spec.labels"]);
    // of items that are there twice, in old data, only the key is known
    assert_eq!(
        set_of(&json!({"spec": {"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}})),
        [".spec.ports[port=1,protocol=\"TCP\"]"]
    );
}

#[test]
fn what_changed() {
    let of = |old: Value, new: Value| {
        let schema = schema();
        let changes = compare(node(&schema), &json!({"spec": old}), &json!({"spec": new})).unwrap();
        [changes.removed, changes.modified, changes.added].map(|set| set.paths().join(" ").replace(".spec", ""))
    };
    for (old, new, removed, modified, added) in [
        (json!({"replicas": 1}), json!({"replicas": 2}), "", ".replicas", ""),
        (json!({"replicas": 1}), json!({"replicas": 1.0}), "", "", ""),
        (json!({"labels": {"a": "1"}}), json!({}), ".labels .labels.a", "", ""),
        (json!({}), json!({"labels": {"a": "1"}}), "", "", ".labels .labels.a"),
        (json!({"labels": {}}), json!({"labels": null}), "", ".labels", ""),
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": null}),
            ".labels.a",
            "",
            "",
        ),
        (json!({"args": ["a"]}), json!({"args": ["b"]}), "", ".args", ""),
        (
            json!({"selector": {"a": "1"}}),
            json!({"selector": {"b": "1"}}),
            "",
            ".selector",
            "",
        ),
        (
            json!({"set": ["a", "b"]}),
            json!({"set": ["b", "c", "b"]}),
            ".set[=\"a\"] .set[=\"b\"]",
            "",
            ".set[=\"b\"] .set[=\"c\"]",
        ),
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}),
            json!({"ports": [{"port": 2}, {"port": 1, "name": "b"}]}),
            "",
            ".ports[port=1,protocol=\"TCP\"].name",
            "",
        ),
        (
            json!({"free": {"a": {"b": 1}}}),
            json!({"free": {"a": 1}}),
            ".free.a.b",
            ".free.a",
            "",
        ),
        (
            json!({"free": {"a": [1]}}),
            json!({"free": {"a": {"b": 1}}}),
            "",
            ".free.a",
            ".free.a.b",
        ),
        (
            json!({"free": {"a": null}}),
            json!({"free": {"a": {"b": 1}}}),
            "",
            "",
            ".free.a.b",
        ),
    ] {
        assert_eq!(of(old.clone(), new.clone()), [removed, modified, added], "{old} {new}");
    }
}

#[test]
fn merged_lists_keep_the_order_of_both() {
    let merged = |target: Value, patch: Value| {
        let schema = schema();
        let mut target = json!({"spec": {"set": target}});
        merge(node(&schema), &mut target, &json!({"spec": {"set": patch}})).unwrap();
        let list = target["spec"]["set"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item.as_str().unwrap().to_owned());
        list.collect::<String>()
    };
    for (target, patch, want) in [
        ("abc", "abc", "abc"),
        ("abc", "cba", "cba"),
        ("abc", "ac", "abc"),
        ("abc", "ca", "bca"),
        ("abc", "xay", "xabcy"),
        ("", "ab", "ab"),
        ("ab", "", "ab"),
        ("aabb", "b", "aab"),
    ] {
        let list = |text: &str| Value::from(text.chars().map(|c| c.to_string()).collect::<Vec<_>>());
        assert_eq!(merged(list(target), list(patch)), want, "{target} {patch}");
    }
}

#[test]
fn removing_takes_what_is_emptied_unless_it_is_kept() {
    let schema = schema();
    let value = json!({"spec": {"labels": {"a": "1"}, "pools": {"p": {"x": 1}}, "set": ["a"], "replicas": 1}});
    let mut removed = FieldSet::from_fields([&["spec", "labels", "a"][..], &["spec", "pools", "p", "x"]]);
    removed.insert(&[
        PathElement::field("spec"),
        PathElement::field("set"),
        PathElement::Value(json!("a")),
    ]);
    let mut left = value.clone();
    remove_items(
        node(&schema),
        &mut left,
        &removed,
        &FieldSet::from_fields([&["spec", "pools", "p"][..]]),
    )
    .unwrap();
    assert_eq!(left, json!({"spec": {"pools": {"p": {}}, "replicas": 1}}));
    // surviving_fields says the same without doing it, with null for what is emptied
    let survive = surviving_fields(node(&schema), &value, &removed).unwrap();
    assert_eq!(
        survive.paths(),
        [".spec.labels", ".spec.pools.p", ".spec.replicas", ".spec.set"]
    );
}

#[test]
fn named_fields_are_members_where_something_in_them_is() {
    let schema = schema();
    let mut set = field_set(
        node(&schema),
        &json!({"spec": {"labels": {"a": "1"}, "free": {"m": {"n": 1}}}}),
    )
    .unwrap();
    add_named_parents(node(&schema), &mut set);
    assert_eq!(
        set.paths(),
        [
            ".spec",
            ".spec.free",
            ".spec.free.m",
            ".spec.free.m.n",
            ".spec.labels",
            ".spec.labels.a"
        ]
    );
}
