//! The schemas of a document: those of its kinds, and whatever they refer to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::builtin::library::{self, REFERENCE};
use crate::resource::{Origin, ResourceDefinition, Version};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// The definition of autoscaling/v1 Scale.
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// The full name of a type of `meta/v1`.
pub(super) fn meta(name: &str) -> String {
    format!("{META}{name}")
}

/// The name of the schema of a kind: `io.k8s.api.core.v1.ConfigMap`, `com.example.stable.v1.CronTab`.
pub(super) fn name(def: &ResourceDefinition, version: &Version) -> String {
    match library_name(version) {
        Some(name) => name.to_owned(),
        None => {
            let mut parts: Vec<&str> = def.group.split('.').rev().collect();
            parts.extend([&*version.name, &*def.kind]);
            parts.join(".")
        }
    }
}

/// The name of the schema of its list.
pub(super) fn list_name(def: &ResourceDefinition, version: &Version) -> String {
    let name = name(def, version);
    let prefix = name.rsplit_once('.').map_or("", |(prefix, _)| prefix);
    format!("{prefix}.{}", def.list_kind)
}

/// The name of the schema of a kind by group, version and kind, for subresources that speak another.
pub(super) fn foreign_name(gvk: (&str, &str, &str)) -> Option<String> {
    if gvk == ("autoscaling", "v1", "Scale") {
        return Some(SCALE.to_owned());
    }
    library::names()
        .filter(|name| name.ends_with(&format!(".{}.{}", gvk.1, gvk.2)))
        .find(|name| is(library::definition(name), gvk))
        .map(str::to_owned)
}

fn is(definition: Option<&Value>, (group, version, kind): (&str, &str, &str)) -> bool {
    definition.is_some_and(|d| d["x-kubernetes-group-version-kind"][0] == gvk(group, version, kind))
}

fn library_name(version: &Version) -> Option<&str> {
    version.openapi.get("$ref")?.as_str()?.strip_prefix(REFERENCE)
}

/// An entry of `x-kubernetes-group-version-kind`.
pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The schemas of some kinds and all that they and some more refer to.
pub(super) fn closure<'d>(
    kinds: impl Iterator<Item = (&'d ResourceDefinition, &'d Version)>,
    more: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open: Vec<String> = more.into_iter().collect();
    for (def, version) in kinds {
        open.push(name(def, version));
        if def.is_stored() {
            open.push(list_name(def, version));
        }
        if def.origin != Origin::Kubernetes {
            for (name, schema) in custom(def, version) {
                references(&schema, &mut open);
                found.insert(name, schema);
            }
        }
        open.extend(version.actions.iter().filter_map(|action| foreign_name(action.gvk)));
        open.extend(version.scale.iter().map(|_| SCALE.to_owned()));
    }
    while let Some(name) = open.pop() {
        if let (false, Some(schema)) = (found.contains_key(&name), library::definition(&name)) {
            references(schema, &mut open);
            found.insert(name, schema.clone());
        }
    }
    found
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(REFERENCE))
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// The two schemas of a custom resource: itself and its list.
fn custom(def: &ResourceDefinition, version: &Version) -> [(String, Value); 2] {
    let name = name(def, version);
    let mut schema = (*version.openapi).clone();
    if let Value::Object(map) = &mut schema {
        map.entry("type").or_insert_with(|| json!("object"));
        if let Value::Object(properties) = map.entry("properties").or_insert_with(|| json!({})) {
            complete(properties, &meta("ObjectMeta"));
        }
        map.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!([gvk(&def.group, &version.name, &def.kind)]),
        );
    }
    let mut properties = Map::new();
    complete(&mut properties, &meta("ListMeta"));
    properties.insert(
        "items".to_owned(),
        json!({
            "description": format!("The {}.", def.plural),
            "type": "array",
            "items": library::reference(&name),
        }),
    );
    let list = json!({
        "description": format!("{} is a list of {}", def.list_kind, def.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [gvk(&def.group, &version.name, &def.list_kind)],
    });
    [(name, schema), (list_name(def, version), list)]
}

/// `apiVersion`, `kind` and `metadata`, described as on every object.
fn complete(properties: &mut Map<String, Value>, metadata: &str) {
    let described = library::definition(&meta("APIResourceList"));
    for field in ["apiVersion", "kind"] {
        let property = described.map_or_else(|| json!({"type": "string"}), |d| d["properties"][field].clone());
        properties.insert(field.to_owned(), property);
    }
    properties.insert("metadata".to_owned(), library::reference(metadata));
}
