//! Schemas of built-in kinds, from OpenAPI definitions.
//!
//! Differences to CRDs: `$ref` (resolved; each definition becomes one shared node), `allOf` with one `$ref` (an OpenAPI 3.0 way to
//! give a reference a default or an extension), and free-form types: an object of which nothing is said, or a value without type,
//! keeps all that it has (`RawExtension`, `FieldsV1`, `JSON`).

use crate::{
    format::Format,
    intern::intern,
    read::{self, Unreadable},
    schema::{Recursion, Schema, Type},
};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// What a `$ref` starts with, in OpenAPI v3 and v2.
const PREFIXES: [&str; 2] = ["#/components/schemas/", "#/definitions/"];

/// The document does not describe a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A `$ref` that leads nowhere.
    #[error("no definition {0:?}")]
    NoDefinition(String),
    /// Something that should be a schema is not even an object.
    #[error("a schema must be an object")]
    NotAnObject,
    /// A keyword with a value that makes no sense.
    #[error("{keyword}: {must_be}")]
    Keyword {
        /// The keyword.
        keyword: &'static str,
        /// What it must be.
        must_be: String,
    },
    /// References that lead only to references.
    #[error("definition {0:?} refers to itself and nothing else")]
    Circle(String),
}

impl From<Unreadable> for SchemaError {
    fn from(Unreadable { keyword, must_be }: Unreadable) -> Self {
        Self::Keyword { keyword, must_be }
    }
}

impl Schema {
    /// From an OpenAPI schema; `definitions` gives the definition of a name, which is what follows `#/components/schemas/` or
    /// `#/definitions/` in a `$ref`. A definition may refer to itself.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub fn from_openapi(document: &Value, definitions: &dyn Fn(&str) -> Option<Value>) -> Result<Self, SchemaError> {
        let mut reader = Reader {
            definitions,
            known: HashMap::new(),
        };
        Ok(Arc::unwrap_or_clone(reader.read(document)?))
    }
}

enum Known {
    Done(Arc<Schema>),
    /// Being read; filled in once it has been.
    Reading(Arc<OnceLock<Arc<Schema>>>),
}

struct Reader<'a> {
    definitions: &'a dyn Fn(&str) -> Option<Value>,
    known: HashMap<String, Known>,
}

impl Reader<'_> {
    fn read(&mut self, value: &Value) -> Result<Arc<Schema>, SchemaError> {
        let map = value.as_object().ok_or(SchemaError::NotAnObject)?;
        let Some(name) = reference(map) else {
            return self.read_own(map);
        };
        let target = self.definition(name)?;
        overlay(target, map)
    }

    fn read_own(&mut self, map: &Map<String, Value>) -> Result<Arc<Schema>, SchemaError> {
        let mut schema = read::node(map, &mut |_, child| self.read(child))?;
        let bare = schema.properties.is_empty() && schema.additional.is_none() && !schema.closed;
        if bare && matches!(schema.ty, Type::Object | Type::Any) {
            schema.preserve_unknown_fields = true;
        }
        if let Some(value) = schema.value.as_deref_mut().filter(|v| v.format == Some(Format::Byte)) {
            // An empty list of bytes is fine in a Go type; only CRDs refuse it.
            value.format = Some(Format::Bytes);
        }
        Ok(intern(schema))
    }

    fn definition(&mut self, name: &str) -> Result<Arc<Schema>, SchemaError> {
        match self.known.get(name) {
            Some(Known::Done(schema)) => return Ok(Arc::clone(schema)),
            Some(Known::Reading(cell)) => {
                let recursion = Recursion(Some(Arc::clone(cell)));
                return Ok(Arc::new(Schema {
                    recursion,
                    preserve_unknown_fields: true,
                    ..Schema::default()
                }));
            }
            None => {}
        }
        let value = (self.definitions)(name).ok_or_else(|| SchemaError::NoDefinition(name.to_owned()))?;
        let cell = Arc::new(OnceLock::new());
        self.known.insert(name.to_owned(), Known::Reading(Arc::clone(&cell)));
        let schema = self.read(&value)?;
        if schema.recursion.is_some() {
            return Err(SchemaError::Circle(name.to_owned()));
        }
        // Only this call made the cell, and it sets it once. With nobody referring back, cell and all go with the reader.
        let _ = cell.set(Arc::clone(&schema));
        self.known.insert(name.to_owned(), Known::Done(Arc::clone(&schema)));
        Ok(schema)
    }
}

/// The name in `{"$ref": …}` or `{"allOf": [{"$ref": …}]}`.
fn reference(map: &Map<String, Value>) -> Option<&str> {
    let text = match map.get("$ref") {
        Some(text) => text.as_str()?,
        None => match map.get("allOf")?.as_array()?.as_slice() {
            [Value::Object(only)] => only.get("$ref")?.as_str()?,
            _ => return None,
        },
    };
    Some(
        PREFIXES
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
            .unwrap_or(text),
    )
}

/// What stands beside a reference is about its place, not its target: how it merges, its default.
fn overlay(target: Arc<Schema>, map: &Map<String, Value>) -> Result<Arc<Schema>, SchemaError> {
    let says = |name: &String| name == "default" || name == "nullable" || name.starts_with("x-kubernetes-");
    if !map.keys().any(says) {
        return Ok(target);
    }
    let beside: Map<String, Value> = map
        .iter()
        .filter(|(name, _)| says(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let own = read::node(&beside, &mut |_, _| Err(SchemaError::NotAnObject))?;
    let mut schema = Arc::unwrap_or_clone(target);
    schema.nullable |= own.nullable;
    schema.default = own.default.or(schema.default);
    for name in beside.keys() {
        match name.as_str() {
            "x-kubernetes-list-type" => schema.list_type = own.list_type,
            "x-kubernetes-list-map-keys" => schema.list_map_keys.clone_from(&own.list_map_keys),
            "x-kubernetes-map-type" => schema.map_type = own.map_type,
            "x-kubernetes-patch-strategy" => schema.patch_strategy.clone_from(&own.patch_strategy),
            "x-kubernetes-patch-merge-key" => schema.patch_merge_key.clone_from(&own.patch_merge_key),
            "x-kubernetes-preserve-unknown-fields" => schema.preserve_unknown_fields = own.preserve_unknown_fields,
            "x-kubernetes-embedded-resource" => schema.embedded_resource = own.embedded_resource,
            "x-kubernetes-validations" => schema.rules.extend(own.rules.iter().cloned()),
            _ => {}
        }
    }
    Ok(intern(schema))
}

#[cfg(test)]
mod tests;
