//! Who has to look again when an object changes.
//!
//! A plan's reads are recorded as *footprints*; a change that touches a footprint wakes the keys whose last plan left it. So a deployment
//! that looked at one Model is woken by that Model, not by all of them, and nobody writes a mapping by hand.
//!
//! # How one could get it wrong
//! Recording what was *found* instead of what was *asked*: an object that was looked for and missing must wake too.

use std::{
    any::TypeId,
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use setpoint_reconcile::{AnyObject, Key, Query, Snapshot};

use crate::cache::{Caches, Change};

/// Something that a plan asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Footprint {
    /// All objects of a type.
    All(TypeId),
    /// Those in a namespace.
    Namespace(TypeId, String),
    /// One object, there or not: namespace (empty for cluster scope) and name.
    Object(TypeId, String, String),
    /// The children of an owner, by its uid.
    Owner(TypeId, String),
}

/// A snapshot that remembers what it was asked.
pub(crate) struct Recording {
    caches: Arc<Caches>,
    asked: RefCell<BTreeSet<Footprint>>,
}

impl Recording {
    pub(crate) fn over(caches: Arc<Caches>) -> Self {
        Self {
            caches,
            asked: RefCell::default(),
        }
    }

    pub(crate) fn into_footprints(self) -> BTreeSet<Footprint> {
        self.asked.into_inner()
    }

    fn asked(&self, footprint: Footprint) {
        self.asked.borrow_mut().insert(footprint);
    }
}

impl Snapshot for Recording {
    fn get(&self, kind: TypeId, namespace: &str, name: &str) -> Option<AnyObject> {
        self.asked(Footprint::Object(kind, namespace.to_owned(), name.to_owned()));
        self.caches.of(kind)?.get(namespace, name)
    }

    fn list(&self, kind: TypeId, query: &Query) -> Vec<AnyObject> {
        self.asked(match &query.namespace {
            Some(namespace) => Footprint::Namespace(kind, namespace.clone()),
            None => Footprint::All(kind),
        });
        self.caches.of(kind).map(|cache| cache.list(query)).unwrap_or_default()
    }

    fn owned(&self, kind: TypeId, owner_uid: &str) -> Vec<AnyObject> {
        self.asked(Footprint::Owner(kind, owner_uid.to_owned()));
        self.caches
            .of(kind)
            .map(|cache| cache.owned(owner_uid))
            .unwrap_or_default()
    }
}

/// The footprints of the last plan of each key, both ways.
#[derive(Default)]
pub(crate) struct Footprints {
    of: HashMap<Key, BTreeSet<Footprint>>,
    left_by: HashMap<Footprint, HashSet<Key>>,
}

impl Footprints {
    /// Replaces what the key's last plan asked.
    pub(crate) fn record(&mut self, key: &Key, asked: BTreeSet<Footprint>) {
        if self.of.get(key) == Some(&asked) {
            return;
        }
        self.forget(key);
        for footprint in &asked {
            self.left_by.entry(footprint.clone()).or_default().insert(key.clone());
        }
        self.of.insert(key.clone(), asked);
    }

    /// The key is gone.
    pub(crate) fn forget(&mut self, key: &Key) {
        for footprint in self.of.remove(key).into_iter().flatten() {
            if let Some(keys) = self.left_by.get_mut(&footprint) {
                keys.remove(key);
                if keys.is_empty() {
                    self.left_by.remove(&footprint);
                }
            }
        }
    }

    /// The keys whose last plan asked about what changed.
    pub(crate) fn touched(&self, change: &Change) -> HashSet<Key> {
        let (namespace, name) = (change.namespace.clone(), change.name.clone());
        let owners = change
            .owners
            .iter()
            .map(|owner| Footprint::Owner(change.kind, owner.uid.clone()));
        [
            Footprint::All(change.kind),
            Footprint::Namespace(change.kind, namespace.clone()),
            Footprint::Object(change.kind, namespace, name),
        ]
        .into_iter()
        .chain(owners)
        .filter_map(|footprint| self.left_by.get(&footprint))
        .flatten()
        .cloned()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{ConfigMap, Secret},
        apimachinery::pkg::apis::meta::v1::OwnerReference,
    };

    use super::*;

    fn change(kind: TypeId, namespace: &str, name: &str, owner: Option<&str>) -> Change {
        let owners = owner.map(|uid| OwnerReference {
            uid: uid.to_owned(),
            ..OwnerReference::default()
        });
        Change {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            owners: owners.into_iter().collect(),
        }
    }

    #[test]
    fn a_change_wakes_who_asked_and_nobody_else() {
        let (config, secret) = (TypeId::of::<ConfigMap>(), TypeId::of::<Secret>());
        let key = |name: &str| Key::namespaced("a", name);
        let mut footprints = Footprints::default();
        footprints.record(&key("one"), [Footprint::Object(config, "a".into(), "x".into())].into());
        footprints.record(&key("some"), [Footprint::Namespace(config, "a".into())].into());
        footprints.record(&key("all"), [Footprint::All(config)].into());
        footprints.record(&key("owner"), [Footprint::Owner(config, "u".into())].into());
        let woken = |footprints: &Footprints, change: &Change| {
            let mut names: Vec<_> = footprints.touched(change).into_iter().map(|key| key.name).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(woken(&footprints, &change(config, "a", "x", None)), "all one some");
        assert_eq!(
            woken(&footprints, &change(config, "a", "y", Some("u"))),
            "all owner some"
        );
        assert_eq!(woken(&footprints, &change(config, "b", "x", None)), "all");
        assert_eq!(woken(&footprints, &change(secret, "a", "x", Some("u"))), "");

        footprints.record(&key("all"), BTreeSet::new());
        footprints.forget(&key("some"));
        assert_eq!(woken(&footprints, &change(config, "a", "x", None)), "one");
        footprints.forget(&key("one"));
        footprints.forget(&key("owner"));
        assert!(footprints.left_by.is_empty(), "no footprint is left behind");
    }
}
