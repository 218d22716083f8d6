//! The OpenAPI definitions of Kubernetes' own types, by name: `io.k8s.api.core.v1.ConfigMap`.
//!
//! They come from `schemas/kubernetes-1.36.json`, which `cargo xtask schemas` makes and which is compiled in. The document holds one
//! definition a line, so that finding them all is a scan for line ends (under a millisecond for 300 KB) and only definitions that are
//! asked for are parsed, once. A server that serves no FlowSchema never parses one.
//!
//! How to get it wrong: expecting defaults here. Kubernetes publishes none in this document; a kind's file adds them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::Value;
use setpoint_schema::Schema;

const DOCUMENT: &str = include_str!("../../schemas/kubernetes-1.36.json");

/// What a `$ref` starts with.
pub const REFERENCE: &str = "#/components/schemas/";
/// The name of the definition of `metadata`.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

struct Entry {
    text: &'static str,
    parsed: OnceLock<Value>,
}

static INDEX: LazyLock<BTreeMap<&'static str, Entry>> = LazyLock::new(|| DOCUMENT.lines().filter_map(entry).collect());

/// `"NAME":{…},` without what surrounds the two.
fn entry(line: &'static str) -> Option<(&'static str, Entry)> {
    let (name, text) = line.strip_prefix('"')?.split_once("\":")?;
    let text = text.strip_suffix(',').unwrap_or(text);
    Some((
        name,
        Entry {
            text,
            parsed: OnceLock::new(),
        },
    ))
}

/// The definition with this name. Its `$ref`s start with [`REFERENCE`].
pub fn definition(name: &str) -> Option<&'static Value> {
    let entry = INDEX.get(name)?;
    // the document is compiled in and a test parses all of it
    Some(
        entry
            .parsed
            .get_or_init(|| serde_json::from_str(entry.text).unwrap_or(Value::Null)),
    )
}

/// The SHA-256 of the compiled-in document.
pub(crate) fn digest() -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(DOCUMENT).into()
}

/// The names of all definitions, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    INDEX.keys().copied()
}

/// The structural schema of `metadata` of any object, shared by all.
pub fn object_meta() -> Arc<Schema> {
    static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(schema(&reference(OBJECT_META))));
    Arc::clone(&SCHEMA)
}

/// `{"$ref": "#/components/schemas/NAME"}`
pub fn reference(name: &str) -> Value {
    serde_json::json!({"$ref": format!("{REFERENCE}{name}")})
}

/// The structural schema of an OpenAPI schema that may refer to definitions of this library.
///
/// # Panics
/// If the compiled-in document does not hold together; a test makes the schema of every definition.
pub(crate) fn schema(openapi: &Value) -> Schema {
    let lookup = |name: &str| definition(name.strip_prefix(REFERENCE).unwrap_or(name)).cloned();
    match Schema::from_openapi(openapi, &lookup) {
        Ok(schema) => schema,
        Err(error) => panic!("the compiled-in OpenAPI document does not hold together: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_parses_and_refers_to_others() {
        assert!(names().count() > 150);
        for name in names() {
            let definition = definition(name).filter(|d| d.is_object());
            assert!(definition.is_some(), "{name}");
        }
    }

    #[test]
    fn every_definition_makes_a_schema() {
        for name in names() {
            schema(&reference(name));
        }
    }
}
