//! Swagger 2.0: everything in one document, for clients from before OpenAPI v3.
//!
//! The older notation says less. What it cannot say goes, and always in the direction of allowing more, because clients refuse objects by
//! this document: combinations (`oneOf` and its like), `nullable`, defaults; the fields of an object that keeps unknown ones.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::operations::{Operation, PRODUCES, Parameter, extensions, groups, paths};
use super::schemas::{self, meta};
use crate::builtin::library::REFERENCE;
use crate::resource::ResourceDefinition;

/// `/openapi/v2`, as JSON.
pub fn v2_document(defs: &[Arc<ResourceDefinition>]) -> Value {
    let mut rendered = Map::new();
    let groups = groups(defs);
    for group in &groups {
        for version in &group.versions {
            for path in paths(group.name, version) {
                let mut item = Map::new();
                for operation in &path.operations {
                    item.insert(operation.method.to_owned(), render(operation));
                }
                if !path.parameters.is_empty() {
                    item.insert("parameters".to_owned(), path.parameters.iter().map(parameter).collect());
                }
                rendered.insert(path.path, Value::Object(item));
            }
        }
    }
    let common = ["APIResourceList", "DeleteOptions", "Patch", "Status", "WatchEvent"].map(meta);
    let kinds = groups
        .iter()
        .flat_map(|group| &group.versions)
        .flat_map(|version| version.resources.iter().copied());
    let mut definitions = schemas::closure(kinds, common);
    for (name, schema) in &mut definitions {
        downgrade(schema);
        scalar(name, schema);
    }
    json!({"swagger": "2.0", "info": super::info(), "paths": rendered, "definitions": definitions})
}

fn parameter(parameter: &Parameter) -> Value {
    let mut found = json!({
        "name": parameter.name,
        "in": parameter.place,
        "type": parameter.ty,
        "description": parameter.description,
        "uniqueItems": true,
    });
    if parameter.place == "path" {
        found["required"] = json!(true);
    }
    found
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/definitions/{schema}")})
}

fn render(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for (code, description, schema) in &operation.responses {
        responses.insert(
            code.to_string(),
            json!({"description": description, "schema": reference(schema)}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut parameters: Vec<Value> = operation.parameters.iter().map(parameter).collect();
    let mut consumes = vec!["*/*"];
    if let Some((schema, media)) = &operation.body {
        consumes.clone_from(media);
        let body =
            json!({"name": "body", "in": "body", "required": operation.body_required, "schema": reference(schema)});
        parameters.insert(0, body);
    }
    let mut found = json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "consumes": consumes,
        "produces": PRODUCES,
        "schemes": ["https"],
        "parameters": parameters,
        "responses": responses,
    });
    if let (Value::Object(found), Value::Object(more)) = (&mut found, extensions(operation)) {
        found.extend(more);
    }
    found
}

/// Keywords that Swagger 2.0 lacks, or that clients of it take for more than they say.
const ABSENT: [&str; 7] = [
    "allOf",
    "anyOf",
    "default",
    "nullable",
    "not",
    "oneOf",
    "x-kubernetes-validations",
];

fn downgrade(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let is = |map: &Map<String, Value>, keyword: &str| map.get(keyword) == Some(&Value::Bool(true));
    let opaque = is(map, "x-kubernetes-preserve-unknown-fields");
    let (nullable, either) = (is(map, "nullable"), is(map, "x-kubernetes-int-or-string"));
    map.retain(|keyword, _| !ABSENT.contains(&keyword.as_str()));
    if opaque || nullable {
        map.remove("items");
        map.remove("properties");
        map.remove("required");
    }
    if nullable || either {
        map.remove("type");
    }
    if let Some(Value::String(reference)) = map.get_mut("$ref")
        && let Some(name) = reference.strip_prefix(REFERENCE)
    {
        *reference = format!("#/definitions/{name}");
    }
    for (keyword, value) in map.iter_mut() {
        match (keyword.as_str(), value) {
            ("items" | "additionalProperties", value) => downgrade(value),
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(downgrade),
            _ => {}
        }
    }
}

/// The two "either" scalars are strings in v2.
fn scalar(name: &str, schema: &mut Value) {
    if name.ends_with(".Quantity") || name.ends_with(".IntOrString") {
        schema["type"] = json!("string");
    }
}
