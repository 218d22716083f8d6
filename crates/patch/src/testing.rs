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
