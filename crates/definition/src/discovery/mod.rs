//! What is served: the discovery documents of `/api` and `/apis`, in the legacy form (one document a group version) and the aggregated one
//! (KEP-3352, `apidiscovery.k8s.io/v2`).
//!
//! Pure functions of the definitions. They sort by themselves, so that the same definitions in any order give the same document
//! and so the same [`etag`]; the caller keeps the results until a definition changes.
//!
//! Only served versions appear; a group without one does not.

mod aggregated;
mod legacy;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

pub use self::aggregated::{aggregated_api, aggregated_apis};
pub use self::legacy::{api_group, api_group_list, api_resource_list, api_versions};
use crate::crd::compare_versions;
use crate::resource::{ResourceDefinition, Verb, Version};

/// The ETag of an encoded document as Kubernetes makes it: the SHA-256 in upper-case hex, in quotes.
pub fn etag(encoded: &[u8]) -> String {
    format!("\"{}\"", hex::encode_upper(Sha256::digest(encoded)))
}

/// `storageVersionHash` of discovery: changes when the version in which objects are stored does, and says nothing else.
pub fn storage_version_hash(def: &ResourceDefinition) -> String {
    let group = def.view.map_or(&*def.group, |view| view.group);
    let digest = Sha256::digest(format!("{group}/{}/{}", def.stored().name, def.kind));
    STANDARD.encode(&digest[..8])
}

/// A group with something served in it.
pub(crate) struct Group<'d> {
    pub(crate) name: &'d str,
    /// The most preferred version first.
    pub(crate) versions: Vec<GroupVersion<'d>>,
}

/// A group version with something served in it.
pub(crate) struct GroupVersion<'d> {
    pub(crate) name: &'d str,
    /// By plural name.
    pub(crate) resources: Resources<'d>,
}

/// Kinds, each with one of its versions.
pub(crate) type Resources<'d> = Vec<(&'d ResourceDefinition, &'d Version)>;

/// Every served group, core first, then by [`priority`] and name.
pub(crate) fn groups(defs: &[Arc<ResourceDefinition>]) -> Vec<Group<'_>> {
    let mut found: BTreeMap<&str, BTreeMap<&str, Resources<'_>>> = BTreeMap::new();
    for def in defs {
        for version in def.versions.iter().filter(|version| version.served) {
            found
                .entry(&def.group)
                .or_default()
                .entry(&version.name)
                .or_default()
                .push((&**def, version));
        }
    }
    let mut groups: Vec<Group<'_>> = found
        .into_iter()
        .map(|(name, versions)| group(name, versions))
        .collect();
    groups.sort_by_key(|group| (Reverse(priority(group.name)), group.name));
    groups
}

fn group<'d>(name: &'d str, versions: BTreeMap<&'d str, Resources<'d>>) -> Group<'d> {
    let mut versions: Vec<GroupVersion<'d>> = versions
        .into_iter()
        .map(|(name, mut resources)| {
            resources.sort_by_key(|(def, _)| &def.plural);
            GroupVersion { name, resources }
        })
        .collect();
    versions.sort_by(|a, b| compare_versions(b.name, a.name));
    Group { name, versions }
}

/// Which groups clients should look into first when a short name is in several. The order is that of Kubernetes; groups that it does
/// not know, those of custom resources, come last.
fn priority(group: &str) -> usize {
    const ORDER: [&str; 11] = [
        "",
        "apiregistration.k8s.io",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "coordination.k8s.io",
        "flowcontrol.apiserver.k8s.io",
    ];
    ORDER
        .iter()
        .position(|known| *known == group)
        .map_or(0, |at| ORDER.len() - at)
}

/// A subresource as discovery shows it.
pub(crate) struct Subresource<'d> {
    pub(crate) name: &'d str,
    pub(crate) group: &'d str,
    pub(crate) version: &'d str,
    pub(crate) kind: &'d str,
    pub(crate) verbs: &'static [Verb],
}

/// The subresources of a version, by name.
pub(crate) fn subresources<'d>(def: &'d ResourceDefinition, version: &'d Version) -> Vec<Subresource<'d>> {
    let part = |name: &'d str| Subresource {
        name,
        group: &def.group,
        version: &version.name,
        kind: &def.kind,
        verbs: Verb::PART,
    };
    let mut found: Vec<Subresource<'d>> = version.parts.iter().map(|p| part(&p.name)).collect();
    if version.scale.is_some() {
        found.push(Subresource {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: Verb::PART,
        });
    }
    found.extend(version.actions.iter().map(|action| {
        let (group, version, kind) = action.gvk;
        Subresource {
            name: action.name,
            group,
            version,
            kind,
            verbs: action.verbs,
        }
    }));
    found.sort_by_key(|subresource| subresource.name);
    found
}

pub(crate) fn verb_names(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

#[cfg(test)]
mod tests;
