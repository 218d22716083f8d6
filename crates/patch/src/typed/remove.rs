//! Taking items out of a value, and taking nothing but items out of it.

use serde_json::{Map, Value};

use super::{Node, Shape, TypeError};
use crate::fieldset::FieldSet;
use crate::path::PathElement;

/// Takes the items of `removed` out of `value`, with all that is in them. What is left empty by it is taken out too, unless its path is
/// in `kept`. True if `value` itself was left empty.
pub(crate) fn remove_items(
    node: Node<'_>,
    value: &mut Value,
    removed: &FieldSet,
    kept: &FieldSet,
) -> Result<bool, TypeError> {
    const NONE: &FieldSet = &FieldSet::new();
    if removed.is_empty() {
        return Ok(false);
    }
    let shape = node.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(object)) if !object.is_empty() => {
            for entry in &removed.entries {
                let PathElement::Field(name) = &entry.element else {
                    continue;
                };
                let Some(value) = object.get_mut(&**name) else { continue };
                let keep = kept.entry(&entry.element);
                let below = keep.map_or(NONE, |keep| &keep.below);
                let emptied = !entry.member && remove_items(node.field(name).0, value, &entry.below, below)?;
                if entry.member || (emptied && !keep.is_some_and(|keep| keep.member)) {
                    object.remove(&**name);
                }
            }
            Ok(object.is_empty())
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(list)) if !list.is_empty() => {
            let mut left = Vec::with_capacity(list.len());
            for mut item in std::mem::take(list) {
                let element = node.item(shape, &item)?;
                if let Some(entry) = removed.entry(&element) {
                    let below = kept.below(&element).unwrap_or(NONE);
                    if entry.member || remove_items(node.items(), &mut item, &entry.below, below)? {
                        continue;
                    }
                }
                left.push(item);
            }
            *list = left;
            Ok(list.is_empty())
        }
        _ => Ok(false),
    }
}

/// The part of `value` that is in `wanted`: members whole, and what leads to them, with the key fields of list items. `None` if
/// nothing is.
pub(crate) fn extract_items(node: Node<'_>, value: &Value, wanted: &FieldSet) -> Result<Option<Value>, TypeError> {
    let shape = node.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(object)) => {
            let mut out = Map::new();
            for entry in &wanted.entries {
                let PathElement::Field(name) = &entry.element else {
                    continue;
                };
                let Some(value) = object.get(&**name) else { continue };
                let (node, _) = node.field(name);
                let part = if entry.below.is_empty() {
                    None
                } else {
                    extract_items(node, value, &entry.below)?
                };
                let part = part.or_else(|| entry.member.then(|| own_part(node, value)));
                out.extend(part.map(|part| (name.to_string(), part)));
            }
            Ok((!out.is_empty()).then_some(Value::Object(out)))
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(list)) => {
            let mut out = Vec::new();
            for item in list {
                let Some(entry) = wanted.entry(&node.item(shape, item)?) else {
                    continue;
                };
                let part = extract_items(node.items(), item, &entry.below)?;
                out.push(match (shape, part) {
                    (Shape::Keyed(keys), part) => with_keys(node, keys, item, part),
                    (_, part) => part.unwrap_or_else(|| item.clone()),
                });
            }
            Ok((!out.is_empty()).then_some(Value::Array(out)))
        }
        (Shape::Leaf, value) => Ok(Some(value.clone())),
        _ => Ok(None),
    }
}

/// What owning just this path means: a leaf whole; of an object or list that merges, that it is there.
fn own_part(node: Node<'_>, value: &Value) -> Value {
    match (node.shape(value), value) {
        (Shape::Map, Value::Object(_)) => Value::Object(Map::new()),
        (Shape::Set | Shape::Keyed(_), Value::Array(_)) => Value::Array(Vec::new()),
        (_, value) => value.clone(),
    }
}

/// The part of a list item with the key fields that tell which it is; a key that has its default is not needed for that.
fn with_keys(list: Node<'_>, keys: &[String], item: &Value, part: Option<Value>) -> Value {
    let mut part = match part {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    };
    for key in keys {
        if let Some(value) = item.get(key)
            && list.key_default(key) != Some(value)
        {
            part.insert(key.clone(), value.clone());
        }
    }
    Value::Object(part)
}
