//! Lists of type set and map: no item twice. Paths here have keys of maps in brackets, as Kubernetes writes them in this place.

use crate::schema::{ListType, Schema};
use serde_json::{Map, Value};
use setpoint_meta::field::{FieldError, Trail};
use std::collections::HashMap;

use super::MAX_ERRORS;

pub(super) fn has_repeats(schema: &Schema, value: &Value) -> bool {
    let mut errors = Vec::new();
    repeats(schema, value, &Trail::root(), &mut errors);
    !errors.is_empty()
}

/// Collects the repeats below a value.
pub(super) fn repeats(schema: &Schema, value: &Value, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if errors.len() >= MAX_ERRORS {
        return;
    }
    let schema = schema.target();
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(_, value)| value.is_object() || value.is_array()) {
                if let Some(field) = schema.properties.get(name) {
                    repeats(field, value, &at.child(name), errors);
                } else if let Some(field) = &schema.additional {
                    repeats(field, value, &at.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                ListType::Atomic => {}
                ListType::Set => set(items, at, errors),
                ListType::Map => keyed(&schema.list_map_keys, items, at, errors),
            }
            if let Some(schema) = schema.items.as_deref() {
                for (i, item) in items
                    .iter()
                    .enumerate()
                    .filter(|(_, item)| item.is_object() || item.is_array())
                {
                    repeats(schema, item, &at.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

/// The second of equal ones is the error; a third says nothing new.
fn seconds<K: std::hash::Hash + Eq>(keys: impl ExactSizeIterator<Item = K>) -> Vec<usize> {
    let mut seen: HashMap<K, bool> = HashMap::with_capacity(keys.len());
    let mut found = Vec::new();
    for (i, key) in keys.enumerate() {
        match seen.entry(key) {
            std::collections::hash_map::Entry::Vacant(slot) => drop(slot.insert(false)),
            std::collections::hash_map::Entry::Occupied(mut told) => {
                if !told.insert(true) {
                    found.push(i);
                }
            }
        }
    }
    found
}

fn set(items: &[Value], at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if items.len() > 1 {
        let found = seconds(items.iter());
        errors.extend(
            found
                .into_iter()
                .map(|i| FieldError::duplicate(&at.index(i), items[i].clone())),
        );
    }
}

fn keyed(keys: &[String], items: &[Value], at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if let Some((i, item)) = items
        .iter()
        .enumerate()
        .find(|(_, item)| !item.is_object() && !item.is_null())
    {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&at.index(i), item.clone(), detail));
        return;
    }
    if items.len() <= 1 {
        return;
    }
    let found = match keys {
        [only] => seconds(items.iter().map(|item| item.get(only))),
        _ => seconds(
            items
                .iter()
                .map(|item| keys.iter().map(|key| item.get(key)).collect::<Vec<_>>()),
        ),
    };
    for i in found {
        let key: Map<String, Value> = keys
            .iter()
            .filter_map(|key| Some((key.clone(), items[i].get(key)?.clone())))
            .collect();
        errors.push(FieldError::duplicate(&at.index(i), key));
    }
}

/// Whether two items of a list of type map are the same item.
pub(super) fn same_key(keys: &[String], a: &Value, b: &Value) -> bool {
    keys.iter().all(|key| a.get(key) == b.get(key))
}
