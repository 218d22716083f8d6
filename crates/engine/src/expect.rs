//! Read-your-writes: what the view must have reached before a key is planned again.
//!
//! # Guarantees
//! A key is not planned on a view that lacks the engine's own last commit for it, except after [`PATIENCE`], when a watch that lags so
//! far has to be given up on (counted in `setpoint_reconcile_stale_views_total`).
//!
//! # Assumes
//! resourceVersions of one API server compare as numbers, and a watch shows the changes of a kind in their order. Both hold for Setpoint and
//! for Kubernetes (KEP-5504).

use std::{
    any::TypeId,
    collections::HashMap,
    time::{Duration, Instant},
};

use setpoint_reconcile::Key;

use crate::cache::Caches;

/// After so long a commit is no longer waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a commit did that the view must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// The kind's view has reached this revision.
    Revision { kind: TypeId, revision: u64 },
    /// This object is gone, replaced or terminating.
    Gone { kind: TypeId, key: Key, uid: String },
}

impl Expectation {
    fn is_met(&self, caches: &Caches) -> bool {
        match self {
            Self::Revision { kind, revision } => caches.of(*kind).is_none_or(|cache| cache.revision() >= *revision),
            Self::Gone { kind, key, uid } => caches
                .of(*kind)
                .and_then(|cache| cache.identity(key.namespace.as_deref().unwrap_or_default(), &key.name))
                .is_none_or(|identity| identity.uid != *uid || identity.terminating),
        }
    }
}

/// Whether a key may be planned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum View {
    Current,
    Behind,
    /// Given up waiting.
    Stale,
}

/// The commits of one reconciler that its view has not shown yet.
#[derive(Default)]
pub(crate) struct Expectations(HashMap<Key, (Instant, Vec<Expectation>)>);

impl Expectations {
    /// Adds to what the key waits for.
    pub(crate) fn expect(&mut self, key: &Key, expectations: Vec<Expectation>, now: Instant) {
        if !expectations.is_empty() {
            let entry = self.0.entry(key.clone()).or_insert_with(|| (now, Vec::new()));
            entry.0 = now;
            entry.1.extend(expectations);
        }
    }

    /// Whether the view has reached the key's last commit.
    pub(crate) fn check(&mut self, key: &Key, caches: &Caches, now: Instant) -> View {
        let Some((since, waiting)) = self.0.get_mut(key) else {
            return View::Current;
        };
        waiting.retain(|expectation| !expectation.is_met(caches));
        let view = match (waiting.is_empty(), now.duration_since(*since) >= PATIENCE) {
            (true, _) => View::Current,
            (false, true) => View::Stale,
            (false, false) => return View::Behind,
        };
        self.0.remove(key);
        view
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::cache::AnyCache as _;

    fn config(name: &str, uid: &str, revision: u64) -> ConfigMap {
        let mut config = ConfigMap::default();
        config.metadata.namespace = Some("a".to_owned());
        config.metadata.name = Some(name.to_owned());
        config.metadata.uid = Some(uid.to_owned());
        config.metadata.resource_version = Some(revision.to_string());
        config
    }

    #[test]
    fn a_key_waits_until_the_view_has_reached_its_own_commit() {
        let mut caches = Caches::default();
        let cache = caches.add::<ConfigMap>();
        let kind = TypeId::of::<ConfigMap>();
        let key = Key::namespaced("a", "owner");
        let now = Instant::now();
        for event in [Event::Init, Event::InitApply(config("x", "u1", 5)), Event::InitDone] {
            cache.apply(event);
        }
        let mut expectations = Expectations::default();
        let gone = Expectation::Gone {
            kind,
            key: Key::namespaced("a", "x"),
            uid: "u1".to_owned(),
        };
        expectations.expect(&key, vec![Expectation::Revision { kind, revision: 7 }, gone], now);
        assert_eq!(expectations.check(&key, &caches, now), View::Behind);
        cache.apply(Event::Apply(config("y", "u2", 7)));
        assert_eq!(expectations.check(&key, &caches, now), View::Behind);
        cache.apply(Event::Delete(config("x", "u1", 8)));
        assert_eq!(expectations.check(&key, &caches, now), View::Current);
        assert_eq!(expectations.check(&Key::cluster("never"), &caches, now), View::Current);
    }

    #[test]
    fn a_relist_that_began_after_the_commit_shows_it() {
        let mut caches = Caches::default();
        let cache = caches.add::<ConfigMap>();
        let kind = TypeId::of::<ConfigMap>();
        let key = Key::namespaced("a", "owner");
        let now = Instant::now();
        let mut expectations = Expectations::default();
        cache.wrote(9);
        expectations.expect(&key, vec![Expectation::Revision { kind, revision: 9 }], now);
        // Everything was deleted meanwhile: the list is empty, and no object tells how far it reaches.
        cache.apply(Event::Init);
        assert_eq!(expectations.check(&key, &caches, now), View::Behind);
        cache.apply(Event::InitDone);
        assert_eq!(expectations.check(&key, &caches, now), View::Current);
    }

    #[test]
    fn patience_ends() {
        let mut caches = Caches::default();
        caches.add::<ConfigMap>();
        let kind = TypeId::of::<ConfigMap>();
        let key = Key::namespaced("a", "owner");
        let now = Instant::now();
        let mut expectations = Expectations::default();
        expectations.expect(&key, vec![Expectation::Revision { kind, revision: 9 }], now);
        assert_eq!(expectations.check(&key, &caches, now + PATIENCE / 2), View::Behind);
        assert_eq!(expectations.check(&key, &caches, now + PATIENCE), View::Stale);
        assert_eq!(expectations.check(&key, &caches, now + PATIENCE), View::Current);
    }
}
