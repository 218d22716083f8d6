//! Who owns whom: a graph of metadata, kept from watches. Pure.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The finalizers of the propagation policies (meta/v1).
pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// An object of any kind.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// `GROUP/PLURAL`
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    pub(crate) finalizers: Vec<String>,
}

impl Node {
    fn new(kind: &str, metadata: &ObjectMeta) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            owners: metadata.owner_references.clone().unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn waits_for(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == finalizer)
    }
}

/// What should be done about a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// None of its owners is known: delete it if they are really gone.
    CheckOwners(Vec<OwnerReference>),
    /// It is being deleted in the foreground: delete those that have no other owner, free the others of it, and let it go when none that
    /// blocks is left.
    DeleteDependents { delete: Vec<String>, free: Vec<String> },
    /// It is being deleted in the foreground and nothing blocks it any more.
    Release,
    /// It is being deleted and leaves its dependents as orphans: take it out of their owners.
    OrphanDependents(Vec<String>),
}

/// The graph, by uid.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// Takes in an object; answers the uids that should be looked at.
    pub(crate) fn upsert(&mut self, kind: &str, metadata: &ObjectMeta) -> Vec<String> {
        let Some(uid) = metadata.uid.clone() else {
            return Vec::new();
        };
        let node = Node::new(kind, metadata);
        self.unlink(&uid);
        let mut look = Vec::new();
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
            // its owner may be waiting for it, or have just lost it
            look.push(owner.uid.clone());
        }
        if !node.owners.is_empty() || node.deleting {
            look.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        look
    }

    /// Forgets an object; answers the uids that should be looked at: its dependents, and owners that may wait for it.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        self.unlink(uid);
        let mut look: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(node) = self.nodes.remove(uid) {
            look.extend(node.owners.into_iter().map(|o| o.uid));
        }
        look
    }

    /// Forgets every object of a kind that is not in `seen`: what a new list of it no longer holds.
    pub(crate) fn retain(&mut self, kind: &str, seen: &HashSet<String>) -> Vec<String> {
        let gone: Vec<String> = self
            .nodes
            .iter()
            .filter(|(uid, n)| n.kind == kind && !seen.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    fn unlink(&mut self, uid: &str) {
        let Some(node) = self.nodes.get(uid) else { return };
        for owner in &node.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    pub(crate) fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Whether an owner other than this one holds on to the object: it is there, and is not waiting for its own dependents to go.
    fn has_solid_owner(&self, uid: &str, but: &str) -> bool {
        let owners = self.nodes.get(uid).into_iter().flat_map(|node| &node.owners);
        owners.filter(|owner| owner.uid != but).any(|owner| {
            self.nodes
                .get(&owner.uid)
                .is_some_and(|owner| !owner.waits_for(FOREGROUND))
        })
    }

    /// Whether the object has dependents of its own.
    pub(crate) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// What should be done about an object.
    pub(crate) fn judge(&self, uid: &str) -> Verdict {
        let Some(node) = self.nodes.get(uid) else {
            return Verdict::Keep;
        };
        let dependents = || -> Vec<String> {
            self.dependents
                .get(uid)
                .into_iter()
                .flatten()
                .filter(|d| self.nodes.contains_key(*d))
                .cloned()
                .collect()
        };
        if node.waits_for(ORPHAN) {
            return Verdict::OrphanDependents(dependents());
        }
        if node.waits_for(FOREGROUND) {
            let all = dependents();
            let blocks = |d: &String| {
                self.nodes[d]
                    .owners
                    .iter()
                    .any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
            };
            let pending: Vec<String> = all.iter().filter(|d| !self.nodes[*d].deleting).cloned().collect();
            let (free, delete): (Vec<String>, Vec<String>) =
                pending.into_iter().partition(|d| self.has_solid_owner(d, uid));
            return match (delete.is_empty() && free.is_empty(), all.iter().any(blocks)) {
                (false, _) => Verdict::DeleteDependents { delete, free },
                (true, true) => Verdict::Keep,
                (true, false) => Verdict::Release,
            };
        }
        if node.deleting || node.owners.is_empty() || node.owners.iter().any(|o| self.nodes.contains_key(&o.uid)) {
            return Verdict::Keep;
        }
        Verdict::CheckOwners(node.owners.clone())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(uid: &str, owners: &[(&str, bool)], finalizers: &[&str], deleting: bool) -> ObjectMeta {
        let owner = |(uid, block): &(&str, bool)| OwnerReference {
            uid: (*uid).into(),
            block_owner_deletion: Some(*block),
            ..OwnerReference::default()
        };
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(uid.into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
            deletion_timestamp: deleting.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn what_has_lost_all_its_owners_is_checked_and_the_rest_is_kept() {
        let mut graph = Graph::default();
        graph.upsert("g/owners", &meta("a", &[], &[], false));
        graph.upsert("g/owners", &meta("b", &[], &[], false));
        graph.upsert("g/things", &meta("x", &[("a", true), ("b", true)], &[], false));
        assert_eq!(graph.judge("x"), Verdict::Keep);
        assert_eq!(graph.remove("a"), ["x"]);
        assert_eq!(graph.judge("x"), Verdict::Keep);
        assert_eq!(graph.remove("b"), ["x"]);
        assert!(matches!(graph.judge("x"), Verdict::CheckOwners(owners) if owners.len() == 2));
        // a second removal of the dependent leaves nothing behind
        graph.remove("x");
        assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
    }

    #[test]
    fn foreground_deletion_waits_for_dependents_that_block() {
        let mut graph = Graph::default();
        graph.upsert("g/owners", &meta("a", &[], &[FOREGROUND], true));
        graph.upsert("g/things", &meta("x", &[("a", true)], &["other"], false));
        graph.upsert("g/things", &meta("y", &[("a", false)], &[], false));
        let Verdict::DeleteDependents { delete: mut both, free } = graph.judge("a") else {
            panic!("{:?}", graph.judge("a"))
        };
        both.sort();
        assert_eq!((both, free), (vec!["x".to_owned(), "y".to_owned()], vec![]));
        graph.upsert("g/things", &meta("x", &[("a", true)], &["other"], true));
        graph.upsert("g/things", &meta("y", &[("a", false)], &["other"], true));
        assert_eq!(graph.judge("a"), Verdict::Keep);
        assert_eq!(graph.remove("x"), ["a"]);
        assert_eq!(graph.judge("a"), Verdict::Release);
    }

    #[test]
    fn foreground_deletion_leaves_what_another_owner_holds() {
        let mut graph = Graph::default();
        graph.upsert("g/owners", &meta("a", &[], &[FOREGROUND], true));
        graph.upsert("g/owners", &meta("b", &[], &[], false));
        graph.upsert("g/things", &meta("x", &[("a", true), ("b", true)], &[], false));
        assert_eq!(
            graph.judge("a"),
            Verdict::DeleteDependents {
                delete: vec![],
                free: vec!["x".to_owned()]
            }
        );
        graph.upsert("g/things", &meta("x", &[("b", true)], &[], false));
        assert_eq!(graph.judge("a"), Verdict::Release);
        // Both owners are being deleted in the foreground: neither holds it.
        graph.upsert("g/owners", &meta("b", &[], &[FOREGROUND], true));
        graph.upsert("g/things", &meta("x", &[("a", true), ("b", true)], &[], false));
        assert_eq!(
            graph.judge("a"),
            Verdict::DeleteDependents {
                delete: vec!["x".to_owned()],
                free: vec![]
            }
        );
    }

    #[test]
    fn a_circle_of_owners_does_not_block_itself_in_the_background() {
        let mut graph = Graph::default();
        graph.upsert("g/things", &meta("x", &[("y", true)], &[], false));
        graph.upsert("g/things", &meta("y", &[("x", true)], &[], false));
        assert_eq!(graph.remove("x"), ["y", "y"]);
        assert!(matches!(graph.judge("y"), Verdict::CheckOwners(_)));
    }

    #[test]
    fn a_new_list_shows_what_went_while_nobody_watched() {
        let mut graph = Graph::default();
        graph.upsert("g/owners", &meta("a", &[], &[], false));
        graph.upsert("g/things", &meta("x", &[("a", true)], &[], false));
        assert_eq!(graph.retain("g/owners", &HashSet::new()), ["x"]);
        assert!(matches!(graph.judge("x"), Verdict::CheckOwners(_)));
    }
}
