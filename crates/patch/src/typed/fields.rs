//! The fields that a value sets, and sets of fields brought in line with a schema.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Shape, TypeError};
use crate::fieldset::{Entry, FieldSet};
use crate::path::PathElement;

/// What a value sets: whether its own path is in the set, and the paths below.
struct Fields {
    here: bool,
    below: FieldSet,
}

const LEAF: Fields = Fields {
    here: true,
    below: FieldSet::new(),
};
const NOTHING: Fields = Fields {
    here: false,
    below: FieldSet::new(),
};

/// The paths that `value` sets: leaves, list items, and those objects that are null, empty, or known by a key that the schema does not
/// name. An applied configuration owns these.
pub(crate) fn field_set(node: Node<'_>, value: &Value) -> Result<FieldSet, TypeError> {
    collect(node, value, &FieldSet::new()).map(|fields| fields.below)
}

/// The paths that `value` would set if the items of `removed` were taken out of it, without taking them out. What would be left empty
/// counts as null: set, with nothing below.
pub(crate) fn surviving_fields(node: Node<'_>, value: &Value, removed: &FieldSet) -> Result<FieldSet, TypeError> {
    collect(node, value, removed).map(|fields| fields.below)
}

fn collect(node: Node<'_>, value: &Value, removed: &FieldSet) -> Result<Fields, TypeError> {
    let shape = node.shape(value);
    match (shape, value) {
        (Shape::Leaf, _) => Ok(LEAF),
        (_, Value::Object(object)) => {
            let mut entries = Vec::with_capacity(object.len());
            for (name, value) in object {
                let element = PathElement::field(name.as_str());
                let gone = removed.entry(&element);
                if gone.is_some_and(|gone| gone.member) {
                    continue;
                }
                let (node, named) = node.field(name);
                let fields = collect(node, value, gone.map_or(&FieldSet::new(), |gone| &gone.below))?;
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                let emptied = gone.is_some() && fields.below.is_empty();
                entries.push(Entry {
                    element,
                    member: fields.here || empty || emptied || !named,
                    below: fields.below,
                });
            }
            Ok(Fields {
                here: false,
                below: FieldSet::from_entries(entries),
            })
        }
        (_, Value::Array(list)) => {
            let mut seen: BTreeMap<PathElement, Option<&Value>> = BTreeMap::new();
            for item in list {
                seen.entry(node.item(shape, item)?)
                    .and_modify(|item| *item = None)
                    .or_insert(Some(item));
            }
            let mut entries = Vec::with_capacity(seen.len());
            for (element, item) in seen {
                let gone = removed.entry(&element);
                if gone.is_some_and(|gone| gone.member) {
                    continue;
                }
                // Of items that are there twice only the key is known: what is below would be ambiguous.
                let below = match item {
                    Some(item) => collect(node.items(), item, gone.map_or(&FieldSet::new(), |gone| &gone.below))?.below,
                    None => FieldSet::new(),
                };
                entries.push(Entry {
                    element,
                    member: true,
                    below,
                });
            }
            Ok(Fields {
                here: false,
                below: FieldSet::from_entries(entries),
            })
        }
        _ => Ok(NOTHING),
    }
}

/// Adds those fields that the schema names and that lead to members: whoever owns `spec.replicas` has a say in `spec` being there.
pub(crate) fn add_named_parents(node: Node<'_>, set: &mut FieldSet) {
    for entry in &mut set.entries {
        let below = match &entry.element {
            PathElement::Field(name) => {
                let (below, named) = node.field(name);
                entry.member |= named;
                below
            }
            PathElement::Key(_) => node.items(),
            PathElement::Value(_) | PathElement::Index(_) => Node::Deduced,
        };
        if !entry.below.is_empty() {
            add_named_parents(below, &mut entry.below);
        }
    }
}

/// Brings a stored set in line with a schema that has changed since: what became atomic is owned as a whole by who owned a part. (The
/// other way round needs nothing: who owned the whole keeps owning the path.) True if that changed anything.
pub(crate) fn reconcile(node: Node<'_>, set: &mut FieldSet) -> bool {
    let mut changed = false;
    for entry in &mut set.entries {
        if entry.below.is_empty() {
            continue;
        }
        let below = match &entry.element {
            PathElement::Field(name) => node.field(name).0,
            PathElement::Key(_) => node.items(),
            PathElement::Value(_) | PathElement::Index(_) => continue,
        };
        if is_atomic(below) {
            entry.member = true;
            entry.below = FieldSet::new();
            changed = true;
        } else {
            changed |= reconcile(below, &mut entry.below);
        }
    }
    changed
}

/// Whether a place holds an object or list that is one leaf. Asked of the schema only, since the value may be gone.
fn is_atomic(node: Node<'_>) -> bool {
    use setpoint_schema::{ListType, MapType, Type};
    node.schema().is_some_and(|schema| match schema.ty {
        Type::Object => matches!(schema.map_type, MapType::Atomic),
        Type::Array => matches!(schema.list_type, ListType::Atomic),
        _ => false,
    })
}
