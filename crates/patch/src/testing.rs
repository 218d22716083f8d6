//! Generators for the property tests of this crate.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{FieldSet, PathElement};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        prop_oneof![
            Just(json!(0.5)),
            Just(json!(1.0)),
            Just(json!(1e300)),
            Just(json!(u64::MAX)),
            Just(json!(i64::MIN))
        ],
        "[a-c~/\"]{0,2}".prop_map(Value::from),
    ]
}

/// Small JSON documents over few names, so that two of them often meet.
pub(crate) fn json_value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

pub(crate) fn path_element() -> impl Strategy<Value = PathElement> {
    let key_field = prop_oneof![
        "[a-c]".prop_map(Value::from),
        (0_i64..3).prop_map(Value::from),
        any::<bool>().prop_map(Value::from)
    ];
    prop_oneof![
        4 => "[a-d]".prop_map(PathElement::field),
        2 => prop::collection::btree_map("[k-m]", key_field, 1..3).prop_map(PathElement::key),
        1 => scalar().prop_map(PathElement::Value),
        1 => (0_usize..4).prop_map(PathElement::Index),
    ]
}

pub(crate) fn field_set() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(prop::collection::vec(path_element(), 1..4), 0..12).prop_map(|paths| {
        let mut set = FieldSet::new();
        for path in paths {
            set.insert(&path);
        }
        set
    })
}

/// A kind with a field of each sort.
pub(crate) fn schema() -> setpoint_schema::Schema {
    let (string, integer) = (json!({"type": "string"}), json!({"type": "integer"}));
    let strings = json!({"type": "object", "additionalProperties": string});
    let port = json!({
        "type": "object",
        "required": ["port"],
        "properties": {
            "port": integer,
            "protocol": {"type": "string", "default": "TCP"},
            "name": string,
            "tags": {"type": "array", "items": string, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"},
        },
    });
    let document = json!({
        "type": "object",
        "properties": {
            "apiVersion": string,
            "kind": string,
            "metadata": {"type": "object"},
            "data": strings,
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": integer,
                    "name": string,
                    "paused": {"type": "boolean"},
                    "max": {"x-kubernetes-int-or-string": true},
                    "labels": strings,
                    "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": string},
                    "args": {"type": "array", "items": string},
                    "rules": {"type": "array", "items": {"type": "object", "properties": {"a": integer, "b": integer}}},
                    "set": {"type": "array", "items": string, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"},
                    "ports": {
                        "type": "array",
                        "items": port,
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port", "protocol"],
                        "x-kubernetes-patch-strategy": "merge",
                        "x-kubernetes-patch-merge-key": "port",
                    },
                    "strategy": {
                        "type": "object",
                        "properties": {"type": string, "rolling": {"type": "object", "properties": {"surge": integer}}, "other": integer},
                        "x-kubernetes-patch-strategy": "retainKeys",
                    },
                    "whole": {"type": "object", "additionalProperties": string, "x-kubernetes-patch-strategy": "replace"},
                    "pools": {
                        "type": "object",
                        "additionalProperties": {"type": "object", "properties": {"x": integer, "y": integer}},
                    },
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            },
            "status": {"type": "object", "properties": {"phase": string, "ready": integer}},
        },
    });
    setpoint_schema::Schema::from_openapi(&document, &|_| None).expect("the schema of the tests")
}

/// An object of that kind.
pub(crate) fn object(rest: &Value) -> Value {
    let mut object =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "ns"}});
    crate::merge_patch(&mut object, rest);
    object
}

/// A configuration of that kind; what it says in lists, maps and free fields is told apart by `mine`, so that two configurations with
/// different ones have nothing in common.
pub(crate) fn configuration(mine: &'static str) -> impl Strategy<Value = Value> {
    let one = |of: &'static [&'static str]| prop::sample::select(of).prop_map(Value::from);
    let names = prop::collection::btree_map(prop::sample::select(&["1", "2", "3"][..]), one(&["x", "y"]), 1..3);
    let names = move || {
        names.clone().prop_map(move |map| {
            map.into_iter()
                .map(|(k, v)| (format!("{mine}{k}"), v))
                .collect::<Map<_, _>>()
        })
    };
    let scalars = (
        prop::option::of(0_i64..3),
        prop::option::of(one(&["n", "m"])),
        prop::option::of(one(&["1", "2"])),
    );
    let set = prop::sample::subsequence(vec!["1", "2", "3", "4"], 1..4).prop_shuffle();
    let set = set.prop_map(move |set| {
        set.into_iter()
            .map(|item| Value::from(format!("{mine}{item}")))
            .collect::<Vec<_>>()
    });
    let port = (prop::option::of(one(&["p", "q"])), prop::option::of(set.clone()));
    let port_key = prop::sample::select(&[(80, None), (80, Some("UDP")), (443, Some("TCP")), (443, None)][..]);
    let ports = prop::collection::vec((port_key, port), 1..4);
    let pool = (prop::option::of(0_i64..2), prop::option::of(0_i64..2));
    let pools = prop::collection::btree_map(prop::sample::select(&["1", "2"][..]), pool, 1..3);
    let free = json_value().prop_map(move |value| json!({mine: value}));
    let lists = (
        prop::option::of(set),
        prop::option::of(ports),
        prop::option::of(prop::collection::vec(one(&["r", "s"]), 0..3)),
    );
    let maps = (
        prop::option::of(names()),
        prop::option::of(names()),
        prop::option::of(names()),
        prop::option::of(pools),
    );
    (scalars, lists, maps, prop::option::of(free)).prop_map(
        move |((replicas, name, max), (set, ports, args), (labels, selector, meta, pools), free)| {
            let mut spec = Map::new();
            let mut put =
                |name: &str, value: Option<Value>| drop(value.map(|value| spec.insert(name.to_owned(), value)));
            // What is one leaf can only be one manager's.
            if mine == "a" {
                put("replicas", replicas.map(Value::from));
                put("args", args.map(Value::from));
            } else {
                put("name", name);
                put("max", max);
                put("selector", selector.map(Value::from));
            }
            put("labels", labels.map(Value::from));
            put("set", set.map(Value::from));
            put("ports", ports.map(|ports| ports_of(mine, ports)));
            put(
                "pools",
                pools.map(|pools| {
                    Value::Object(
                        pools
                            .into_iter()
                            .map(|(k, (x, y))| (format!("{mine}{k}"), pool_of(x, y)))
                            .collect(),
                    )
                }),
            );
            put("free", free);
            let mut rest = json!({"metadata": {"labels": meta.unwrap_or_default()}});
            if rest["metadata"]["labels"].as_object().is_some_and(Map::is_empty) {
                rest = json!({});
            }
            if !spec.is_empty() {
                rest["spec"] = Value::Object(spec);
            }
            object(&rest)
        },
    )
}

fn pool_of(x: Option<i64>, y: Option<i64>) -> Value {
    let fields = [("x", x), ("y", y)];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
        .collect::<Map<_, _>>()
        .into()
}

type Port = ((i64, Option<&'static str>), (Option<Value>, Option<Vec<Value>>));

fn ports_of(mine: &str, ports: Vec<Port>) -> Value {
    let mut seen = std::collections::BTreeSet::new();
    let mut list = Vec::new();
    for ((port, protocol), (name, tags)) in ports {
        let port = if mine == "a" { port } else { port + 1 };
        if !seen.insert((port, protocol.unwrap_or("TCP"))) {
            continue;
        }
        let mut item = json!({"port": port});
        if let Some(protocol) = protocol {
            item["protocol"] = protocol.into();
        }
        if let Some(name) = name {
            item["name"] = name;
        }
        if let Some(tags) = tags {
            item["tags"] = tags.into();
        }
        list.push(item);
    }
    list.into()
}
