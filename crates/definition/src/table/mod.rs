//! What `kubectl get` prints: objects in the form of `meta.k8s.io/v1` Table, and their metadata alone.
//!
//! The columns are those of the [`Version`]; every column is sent, clients leave out those with a priority above 0 unless asked for
//! wide output. Times become ages here, on the server, against the `now` of [`Options`].
//!
//! How to get it wrong: `metadata.resourceVersion` and `continue` of a list are not known here; the caller puts them into the
//! `metadata` of the Table.

pub mod duration;
mod json_path;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::json_path::{JsonPath, JsonPathError};
use crate::resource::{Cell, Column, ResourceDefinition, Version};

/// How a computed cell of a built-in kind comes to be. Printers live in the file of their kind.
#[derive(Clone, Copy)]
pub struct Printer {
    /// Names it among all printers, e.g. `configmaps.data`.
    pub name: &'static str,
    /// The cell, from the object and the present time.
    pub print: fn(&Value, Timestamp) -> Value,
}

impl PartialEq for Printer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Printer {}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Printer").field(&self.name).finish()
    }
}

/// What the `object` of each row holds (`includeObject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The object's PartialObjectMetadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// From the query parameter; empty means the default. `None` for a value that Kubernetes refuses.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// How to render.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What each row carries beside its cells.
    pub include_object: IncludeObject,
    /// What ages are counted from.
    pub now: Timestamp,
    /// Leaves the column definitions out: they are sent with the first event of a watch only.
    pub no_headers: bool,
}

/// The Table of some objects of one kind.
pub fn render<'a>(
    def: &ResourceDefinition,
    version: &Version,
    objects: impl Iterator<Item = &'a Value>,
    options: &Options,
) -> Value {
    let headers = if options.no_headers {
        Value::Null
    } else {
        column_definitions(version)
    };
    let rows: Vec<Value> = objects.map(|object| row(def, version, object, options)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": headers,
        "rows": rows,
    })
}

/// The headings, as `columnDefinitions`.
pub fn column_definitions(version: &Version) -> Value {
    let definition = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.ty,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    version.columns.iter().map(definition).collect()
}

fn row(def: &ResourceDefinition, version: &Version, object: &Value, options: &Options) -> Value {
    let cells: Vec<Value> = version
        .columns
        .iter()
        .map(|column| cell(column, object, options.now))
        .collect();
    let object = match options.include_object {
        IncludeObject::None => return json!({"cells": cells}),
        IncludeObject::Metadata => partial_object_metadata(object),
        IncludeObject::Object => whole(def, version, object),
    };
    json!({"cells": cells, "object": object})
}

/// The object with its type, which stored objects and list items may lack.
fn whole(def: &ResourceDefinition, version: &Version, object: &Value) -> Value {
    let mut object = object.clone();
    if let Value::Object(map) = &mut object {
        map.entry("apiVersion")
            .or_insert_with(|| Value::String(def.api_version(version)));
        map.entry("kind").or_insert_with(|| Value::String(def.kind.to_string()));
    }
    object
}

/// The object's `meta.k8s.io/v1` PartialObjectMetadata.
pub fn partial_object_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// The PartialObjectMetadataList of some objects. `metadata` is that of the list.
pub fn partial_object_metadata_list<'a>(objects: impl Iterator<Item = &'a Value>, metadata: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "items": objects.map(partial_object_metadata).collect::<Vec<_>>(),
    })
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    match &column.cell {
        Cell::Name => object.pointer("/metadata/name").cloned().unwrap_or_else(|| json!("")),
        Cell::Age => json!(duration::age(creation(object), now)),
        Cell::Path(path) => path
            .first(object)
            .map_or(Value::Null, |value| typed(&column.ty, value, now)),
        Cell::Computed(printer) => (printer.print)(object, now),
    }
}

fn creation(object: &Value) -> Option<&str> {
    object.pointer("/metadata/creationTimestamp").and_then(Value::as_str)
}

/// A value as a cell of a column of this type; null where it does not fit, as in Kubernetes.
fn typed(ty: &str, value: &Value, now: Timestamp) -> Value {
    match (ty, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => json!(text),
        ("string", value) => json!(value.to_string()),
        // Go's conversion, which cuts towards zero
        ("integer", Value::Number(number)) => number
            .as_i64()
            .map_or_else(|| json!(number.as_f64().map(|n| n as i64)), Value::from),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(time)) => json!(duration::age(Some(time), now)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_by_type() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        for (ty, value, cell) in [
            ("string", json!("a"), json!("a")),
            ("string", json!(3), json!("3")),
            ("string", json!(true), json!("true")),
            ("string", json!(["a"]), json!("[\"a\"]")),
            ("string", Value::Null, Value::Null),
            ("integer", json!(3), json!(3)),
            ("integer", json!(3.7), json!(3)),
            ("integer", json!("3"), Value::Null),
            ("number", json!(3.5), json!(3.5)),
            ("boolean", json!(false), json!(false)),
            ("boolean", json!("false"), Value::Null),
            ("date", json!("2026-01-01T00:00:00Z"), json!("60s")),
            ("date", json!("soon"), json!("<invalid>")),
            ("date", json!(3), Value::Null),
        ] {
            assert_eq!(typed(ty, &value, now), cell, "{ty} {value}");
        }
    }

    #[test]
    fn include_object() {
        assert_eq!(IncludeObject::parse(""), Some(IncludeObject::Metadata));
        assert_eq!(IncludeObject::parse("Object"), Some(IncludeObject::Object));
        assert_eq!(IncludeObject::parse("all"), None);
    }
}
