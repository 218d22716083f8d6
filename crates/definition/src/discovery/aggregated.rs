//! Everything in two documents: `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Group, GroupVersion, groups, subresources, verb_names};
use crate::resource::{ResourceDefinition, Scope, Version};

/// `/api` as APIGroupDiscoveryList: the core group.
pub fn aggregated_api(defs: &[Arc<ResourceDefinition>]) -> Value {
    list(groups(defs).iter().filter(|group| group.name.is_empty()))
}

/// `/apis` as APIGroupDiscoveryList: every other group.
pub fn aggregated_apis(defs: &[Arc<ResourceDefinition>]) -> Value {
    list(groups(defs).iter().filter(|group| !group.name.is_empty()))
}

fn list<'g, 'd: 'g>(groups: impl Iterator<Item = &'g Group<'d>>) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": groups.map(group).collect::<Vec<_>>(),
    })
}

fn group(group: &Group<'_>) -> Value {
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = json!(group.name);
    }
    json!({"metadata": metadata, "versions": group.versions.iter().map(version).collect::<Vec<_>>()})
}

fn version(version: &GroupVersion<'_>) -> Value {
    let resources: Vec<Value> = version
        .resources
        .iter()
        .map(|(def, version)| resource(def, version))
        .collect();
    json!({"version": version.name, "resources": resources, "freshness": "Current"})
}

fn resource(def: &ResourceDefinition, version: &Version) -> Value {
    let mut resource = json!({
        "resource": def.plural,
        "responseKind": {"group": def.group, "version": version.name, "kind": def.kind},
        "scope": match def.scope {
            Scope::Namespaced => "Namespaced",
            Scope::Cluster => "Cluster",
        },
        "singularResource": def.singular,
        "verbs": verb_names(def.verbs),
    });
    for (field, names) in [("shortNames", &def.short_names), ("categories", &def.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
    let subresources: Vec<Value> = subresources(def, version)
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": verb_names(sub.verbs),
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}
