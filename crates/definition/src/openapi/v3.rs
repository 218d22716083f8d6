//! OpenAPI 3.0, one document a group version.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::operations::{Operation, PRODUCES, Parameter, extensions, groups, paths, root};
use super::schemas::{self, meta};
use crate::builtin::library;
use crate::discovery::{GroupVersion, subresources};
use crate::resource::ResourceDefinition;

/// `/openapi/v3`: where each document is. The hash in an address changes with the document, so that answers to addresses with the
/// right hash may be cached for ever.
pub fn v3_index(defs: &[Arc<ResourceDefinition>]) -> Value {
    let mut found = Map::new();
    for group in groups(defs) {
        for version in &group.versions {
            let path = format!("openapi/v3{}", root(group.name, version.name));
            let key = path.trim_start_matches("openapi/v3/").to_owned();
            let hash = hash(group.name, version);
            found.insert(key, json!({"serverRelativeURL": format!("/{path}?hash={hash}")}));
        }
    }
    json!({"paths": found})
}

/// The hash in the index of the document of a group version; `None` if nothing is served in it.
pub fn v3_hash(group: &str, version: &str, defs: &[Arc<ResourceDefinition>]) -> Option<String> {
    with(group, version, defs, |version| hash(group, version))
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`; `None` if nothing is served in it.
pub fn v3_document(group: &str, version: &str, defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    with(group, version, defs, |version| document(group, version))
}

fn with<T>(
    group: &str,
    version: &str,
    defs: &[Arc<ResourceDefinition>],
    make: impl FnOnce(&GroupVersion<'_>) -> T,
) -> Option<T> {
    let groups = groups(defs);
    let group = groups.iter().find(|found| found.name == group)?;
    group.versions.iter().find(|found| found.name == version).map(make)
}

/// Of everything that a document is made from: this program, the library, and the definitions.
fn hash(group: &str, version: &GroupVersion<'_>) -> String {
    static LIBRARY: LazyLock<[u8; 32]> = LazyLock::new(library::digest);
    let mut hasher = Sha256::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    hasher.update(*LIBRARY);
    hasher.update(root(group, version.name));
    for (def, version) in &version.resources {
        let subresources: Vec<&str> = subresources(def, version).iter().map(|sub| sub.name).collect();
        let parts = json!([
            def.plural,
            def.kind,
            def.list_kind,
            format!("{:?} {:?}", def.scope, def.origin),
            subresources
        ]);
        hasher.update(parts.to_string());
        // BTreeMap order or insertion order, either is that of the object as stored
        hasher.update(version.openapi.to_string());
    }
    hex::encode_upper(hasher.finalize())
}

fn document(group: &str, version: &GroupVersion<'_>) -> Value {
    let mut rendered = Map::new();
    for path in paths(group, version) {
        let mut item = Map::new();
        for operation in &path.operations {
            item.insert(operation.method.to_owned(), render(operation));
        }
        if !path.parameters.is_empty() {
            item.insert("parameters".to_owned(), path.parameters.iter().map(parameter).collect());
        }
        rendered.insert(path.path, Value::Object(item));
    }
    let common = ["APIResourceList", "DeleteOptions", "Patch", "Status", "WatchEvent"].map(meta);
    let mut found = schemas::closure(version.resources.iter().copied(), common);
    found.values_mut().for_each(wrap_references);
    json!({"openapi": "3.0.0", "info": super::info(), "paths": rendered, "components": {"schemas": found}})
}

fn parameter(parameter: &Parameter) -> Value {
    let mut found = json!({
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": parameter.ty, "uniqueItems": true},
    });
    if parameter.place == "path" {
        found["required"] = json!(true);
    }
    found
}

fn content<'m>(schema: &str, media: impl IntoIterator<Item = &'m str>) -> Value {
    let schema = json!({"schema": library::reference(schema)});
    media
        .into_iter()
        .map(|media| (media.to_owned(), schema.clone()))
        .collect::<Map<_, _>>()
        .into()
}

fn render(operation: &Operation) -> Value {
    let streams = ["application/json;stream=watch"];
    let mut responses = Map::new();
    for (code, description, schema) in &operation.responses {
        let media = PRODUCES
            .into_iter()
            .chain(streams.into_iter().filter(|_| operation.action == "list"));
        responses.insert(
            code.to_string(),
            json!({"description": description, "content": content(schema, media)}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut found = json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses,
    });
    if !operation.parameters.is_empty() {
        found["parameters"] = operation.parameters.iter().map(parameter).collect();
    }
    if let Some((schema, media)) = &operation.body {
        found["requestBody"] =
            json!({"content": content(schema, media.iter().copied()), "required": operation.body_required});
    }
    if let (Value::Object(found), Value::Object(more)) = (&mut found, extensions(operation)) {
        found.extend(more);
    }
    found
}

/// `{$ref, description}` becomes `{allOf: [{$ref}], description}`.
fn wrap_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.len() > 1
                && map.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = map.remove("$ref")
            {
                map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(wrap_references),
        _ => {}
    }
}
