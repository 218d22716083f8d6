//! A JSON value seen through its schema, as server-side apply sees it (KEP-555, "topology"): what is a leaf, what merges by name, what
//! merges by key.
//!
//! - An object merges by field name (*granular*) unless `x-kubernetes-map-type: atomic`.
//! - A list is one leaf (*atomic*) unless `x-kubernetes-list-type` is `set` (items are scalars, known by value) or `map` (items are
//!   objects, known by their key fields; a key field that is left out has its schema default).
//! - All else is a leaf. Where the schema says nothing (unknown fields, any type), the type is *deduced* from the value: objects are
//!   granular, lists atomic.
//!
//! *Guarantees*: each walk is linear in the value (times a logarithm for lists with keys), recursive to the depth of the value only, and
//! never panics, whatever the value is: a value that does not fit its schema is a leaf. *Assumes*: values nest at most as deep as the
//! decoder lets them. *How to get it wrong*: `null` is not absence. A null field is owned; and a null where an object or list could stand
//! takes away nothing from one that has content.

mod compare;
mod fields;
mod merge;
mod remove;
mod validate;

use std::sync::LazyLock;

use serde_json::{Value, json};
use setpoint_schema::{ListType, MapType, Schema, Type};

pub(crate) use compare::{Comparison, compare};
pub(crate) use fields::{add_named_parents, field_set, reconcile, surviving_fields};
pub(crate) use merge::merge;
pub(crate) use remove::{extract_items, remove_items};
pub(crate) use validate::validate;

use crate::path::PathElement;

/// A value does not have the type that its schema says, or a list cannot be indexed. The text is for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TypeError(pub(crate) String);

/// The type of a value: a schema, or deduced from the value itself.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A whole object: `apiVersion`, `kind` and `metadata` are known even if the schema leaves them out, as those of custom resources do.
    Root(&'a Schema),
    Typed(&'a Schema),
    Deduced,
}

/// How a value merges.
#[derive(Clone, Copy)]
pub(crate) enum Shape<'a> {
    /// One leaf: a scalar, or an atomic object or list.
    Leaf,
    /// Granular, by field name.
    Map,
    /// By value of the item.
    Set,
    /// By these fields of the item.
    Keyed(&'a [String]),
}

/// The topology of `metadata`, for kinds whose schema does not spell it out. From the published OpenAPI of ObjectMeta.
static OBJECT_META: LazyLock<Schema> = LazyLock::new(|| {
    let string = json!({"type": "string"});
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let owner = json!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "apiVersion": string, "kind": string, "name": string, "uid": string,
            "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
        },
    });
    let document = json!({
        "type": "object",
        "properties": {
            "name": string, "generateName": string, "namespace": string, "uid": string, "resourceVersion": string, "selfLink": string,
            "creationTimestamp": string, "deletionTimestamp": string,
            "generation": {"type": "integer"}, "deletionGracePeriodSeconds": {"type": "integer"},
            "labels": strings, "annotations": strings,
            "finalizers": {"type": "array", "items": string, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"},
            "ownerReferences": {
                "type": "array", "items": owner, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "uid",
            },
            "managedFields": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "atomic"},
        },
    });
    Schema::from_openapi(&document, &|_| None).expect("a constant document, read in a test")
});

impl<'a> Node<'a> {
    fn schema(self) -> Option<&'a Schema> {
        match self {
            Self::Root(schema) | Self::Typed(schema) => Some(schema),
            Self::Deduced => None,
        }
    }

    /// The type of a field, and whether the schema names it (as against any name's type, as of labels).
    pub(crate) fn field(self, name: &str) -> (Self, bool) {
        let Some(schema) = self.schema() else {
            return (Self::Deduced, false);
        };
        let declared = schema.properties.get(name);
        if matches!(self, Self::Root(_)) {
            match name {
                "metadata" if declared.is_none_or(|meta| meta.properties.is_empty()) => {
                    return (Self::Typed(&OBJECT_META), true);
                }
                "apiVersion" | "kind" if declared.is_none() => return (Self::Deduced, true),
                _ => {}
            }
        }
        match (declared, &schema.additional) {
            (Some(field), _) => (Self::Typed(field), true),
            (None, Some(any)) => (Self::Typed(any), false),
            (None, None) => (Self::Deduced, false),
        }
    }

    /// The type of the items of a list.
    pub(crate) fn items(self) -> Self {
        self.schema()
            .and_then(|schema| schema.items.as_deref())
            .map_or(Self::Deduced, Self::Typed)
    }

    /// Whether a strategic merge patch has this strategy for the value: `merge`, `replace` or `retainKeys`.
    pub(crate) fn has_patch_strategy(self, strategy: &str) -> bool {
        self.schema()
            .is_some_and(|schema| schema.patch_strategy.iter().any(|one| one == strategy))
    }

    /// The field that tells the items of a list apart in a strategic merge patch.
    pub(crate) fn patch_merge_key(self) -> Option<&'a str> {
        self.schema()?.patch_merge_key.as_deref()
    }

    /// How `value` merges. A null has the shape that the schema gives the place.
    pub(crate) fn shape(self, value: &Value) -> Shape<'a> {
        let Some(schema) = self.schema() else {
            return if value.is_object() || value.is_null() {
                Shape::Map
            } else {
                Shape::Leaf
            };
        };
        let any = matches!(schema.ty, Type::Any) && !schema.int_or_string;
        let object = matches!(schema.ty, Type::Object);
        let list = matches!(schema.ty, Type::Array);
        match value {
            Value::Object(_) if object || any => map_shape(schema),
            Value::Array(_) if list || any => list_shape(schema),
            Value::Null if object || any => map_shape(schema),
            Value::Null if list => list_shape(schema),
            _ => Shape::Leaf,
        }
    }

    /// The step from a list of this shape to `item`.
    pub(crate) fn item(self, shape: Shape<'a>, item: &Value) -> Result<PathElement, TypeError> {
        match shape {
            Shape::Keyed(keys) => self.keyed_item(keys, item),
            Shape::Set | Shape::Map | Shape::Leaf => set_item(item),
        }
    }

    /// The value that a key field of the items of a list has where an item leaves it out.
    fn key_default(self, key: &str) -> Option<&'a Value> {
        self.items().schema()?.properties.get(key)?.default.as_ref()
    }

    fn keyed_item(self, keys: &[String], item: &Value) -> Result<PathElement, TypeError> {
        let error = |text: &str| Err(TypeError(text.to_owned()));
        let object = match item {
            Value::Object(object) => object,
            Value::Null => return error("associative list with keys may not have a null element"),
            _ => return error("associative list with keys may not have non-map elements"),
        };
        let fields = keys
            .iter()
            .filter_map(|key| Some((key.as_str(), object.get(key).or_else(|| self.key_default(key))?.clone())));
        let element = PathElement::key(fields);
        if matches!(&element, PathElement::Key(fields) if fields.is_empty()) {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(TypeError(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                keys.join(" ")
            )));
        }
        Ok(element)
    }
}

fn set_item(item: &Value) -> Result<PathElement, TypeError> {
    let error = |text: &str| Err(TypeError(text.to_owned()));
    match item {
        Value::Object(_) => error("associative list without keys has an element that's a map type"),
        Value::Array(_) => error("not supported: associative list with lists as elements"),
        Value::Null => error("associative list without keys has an element that's an explicit null"),
        scalar => Ok(PathElement::Value(scalar.clone())),
    }
}

fn map_shape(schema: &Schema) -> Shape<'_> {
    match schema.map_type {
        MapType::Granular => Shape::Map,
        MapType::Atomic => Shape::Leaf,
    }
}

fn list_shape(schema: &Schema) -> Shape<'_> {
    match schema.list_type {
        ListType::Atomic => Shape::Leaf,
        ListType::Set => Shape::Set,
        ListType::Map => Shape::Keyed(&schema.list_map_keys),
    }
}

#[cfg(test)]
#[path = "../typed_tests.rs"]
mod tests;
