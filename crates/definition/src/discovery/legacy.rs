//! One document for each path: APIVersions, APIGroupList, APIGroup, APIResourceList.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Group, Subresource, groups, storage_version_hash, subresources, verb_names};
use crate::resource::{ResourceDefinition, Scope, Version};

/// `/api`: APIVersions. `server_address` is `host:port`, as clients should reach this server.
pub fn api_versions(defs: &[Arc<ResourceDefinition>], server_address: &str) -> Value {
    let groups = groups(defs);
    let core = groups.iter().find(|group| group.name.is_empty());
    let versions: Vec<&str> = core
        .into_iter()
        .flat_map(|group| &group.versions)
        .map(|version| version.name)
        .collect();
    json!({
        "kind": "APIVersions",
        "apiVersion": "v1",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis`: APIGroupList.
pub fn api_group_list(defs: &[Arc<ResourceDefinition>]) -> Value {
    let groups: Vec<Value> = groups(defs)
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(describe)
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`: APIGroup; `None` if nothing is served in it.
pub fn api_group(group: &str, defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    let groups = groups(defs);
    let mut document = describe(groups.iter().find(|found| !group.is_empty() && found.name == group)?);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

fn describe(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{}/{}", group.name, version.name), "version": version.name}))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions[0]})
}

/// `/api/v1` and `/apis/GROUP/VERSION`: APIResourceList; `None` if nothing is served in it.
pub fn api_resource_list(group: &str, version: &str, defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    let groups = groups(defs);
    let found = groups
        .iter()
        .find(|found| found.name == group)?
        .versions
        .iter()
        .find(|found| found.name == version)?;
    let resources: Vec<Value> = found
        .resources
        .iter()
        .flat_map(|(def, version)| resources(def, version))
        .collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": setpoint_meta::gvk::group_version(group, version),
        "resources": resources,
    }))
}

fn resources(def: &ResourceDefinition, version: &Version) -> Vec<Value> {
    let mut main = json!({
        "name": def.plural,
        "singularName": def.singular,
        "namespaced": def.scope == Scope::Namespaced,
        "kind": def.kind,
        "verbs": verb_names(def.verbs),
    });
    insert_names(&mut main, def);
    if def.is_stored() {
        main["storageVersionHash"] = json!(storage_version_hash(def));
    }
    let mut found = vec![main];
    found.extend(
        subresources(def, version)
            .iter()
            .map(|sub| subresource(def, version, sub)),
    );
    found
}

fn insert_names(resource: &mut Value, def: &ResourceDefinition) {
    for (field, names) in [("shortNames", &def.short_names), ("categories", &def.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
}

fn subresource(def: &ResourceDefinition, version: &Version, sub: &Subresource<'_>) -> Value {
    let mut found = Map::new();
    found.insert("name".to_owned(), json!(format!("{}/{}", def.plural, sub.name)));
    found.insert("singularName".to_owned(), json!(""));
    found.insert("namespaced".to_owned(), json!(def.scope == Scope::Namespaced));
    // the group version is said where it is not that of the list
    if (sub.group, sub.version) != (&*def.group, &*version.name) {
        found.insert("group".to_owned(), json!(sub.group));
        found.insert("version".to_owned(), json!(sub.version));
    }
    found.insert("kind".to_owned(), json!(sub.kind));
    found.insert("verbs".to_owned(), json!(verb_names(sub.verbs)));
    Value::Object(found)
}
