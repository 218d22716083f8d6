//! [`Cache`]: fed by one watch of the whole store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use parking_lot::RwLock;
use setpoint_store::{Key, Revision, Store, StoreError, WatchEnd, WatchItem};
use tokio::sync::watch;

use crate::{Event, Object, ResourceCache, resource::Changes};

/// Everything that is cached lies below it.
const ROOT: &str = "/registry/";
/// Keys a page of the initial list.
const PAGE: usize = 10_000;

/// Called, in order, with the events of each commit of one resource after they are visible, and before [`Cache::revision`] reaches
/// them. Must be quick and must not call back into the cache's waiting functions.
pub type Hook = Box<dyn Fn(&[Arc<Event>]) + Send + Sync>;

/// The cache could not be filled or has not caught up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The store failed.
    #[error("the watch cache could not read the store")]
    Store(#[from] StoreError),
    /// The cache did not reach a revision in time.
    #[error("the watch cache is at {current} and did not reach {asked} in time")]
    Behind {
        /// The revision waited for.
        asked: Revision,
        /// Where the cache is.
        current: Revision,
    },
}

struct Shared {
    store: Arc<dyn Store>,
    resources: RwLock<HashMap<Box<str>, Arc<ResourceCache>>>,
    hooks: HashMap<Box<str>, Hook>,
    progress: watch::Sender<Revision>,
    /// The revision of the initial list: resources that appear later have nothing before it.
    start: Revision,
}

/// The watch cache of a store. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

impl Cache {
    /// Reads the store and follows it until the last clone is dropped. `hooks` are called for the resources (prefixes) that they
    /// name, first with the initial objects as one batch of `Added` events.
    pub async fn start(store: Arc<dyn Store>, hooks: Vec<(String, Hook)>) -> Result<Self, CacheError> {
        let first = store.list(ROOT, None, None, PAGE).await?;
        let start = first.revision;
        let shared = Arc::new(Shared {
            store: store.clone(),
            resources: RwLock::default(),
            hooks: hooks.into_iter().map(|(prefix, hook)| (prefix.into(), hook)).collect(),
            progress: watch::Sender::new(start),
            start,
        });
        let cache = Self { shared };
        let mut page = first;
        loop {
            for (key, versioned) in &page.items {
                cache.load(key, versioned);
            }
            let Some((last, _)) = page.items.last().filter(|_| page.more) else {
                break;
            };
            page = store.list(ROOT, Some(start), Some(last), PAGE).await?;
        }
        cache.shared.announce_initial();
        let stream = store.watch(ROOT, start).await?;
        tokio::spawn(follow(Arc::downgrade(&cache.shared), stream));
        Ok(cache)
    }

    fn load(&self, key: &Key, versioned: &setpoint_store::Versioned) {
        match Object::new(key.clone(), versioned) {
            Ok(object) => self.resource(resource_prefix(key.as_str())).load(object),
            Err(error) => tracing::error!(%error, "an unreadable object in the store is not served"),
        }
    }

    /// The cache of the resource with this key prefix (`/registry/GROUP/PLURAL/`).
    pub fn resource(&self, prefix: &str) -> Arc<ResourceCache> {
        self.shared.resource(prefix)
    }

    /// The revision that every resource has reached.
    pub fn revision(&self) -> Revision {
        *self.shared.progress.borrow()
    }

    /// Follows [`Cache::revision`].
    pub fn progress(&self) -> watch::Receiver<Revision> {
        self.shared.progress.subscribe()
    }

    /// The store behind the cache.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Waits until the cache shows everything that was committed before the call (KEP-2340); answers the revision reached.
    pub async fn fresh(&self) -> Result<Revision, CacheError> {
        let current = self.shared.store.current().await?;
        self.reach(current, Duration::from_secs(3)).await
    }

    /// Waits until the cache has reached `revision`, at most `timeout`; answers the revision reached.
    pub async fn reach(&self, revision: Revision, timeout: Duration) -> Result<Revision, CacheError> {
        let seen = self.revision();
        if seen >= revision {
            return Ok(seen);
        }
        let mut progress = self.progress();
        let reached = tokio::time::timeout(timeout, progress.wait_for(|r| *r >= revision)).await;
        match reached {
            Ok(Ok(r)) => Ok(*r),
            _ => Err(CacheError::Behind {
                asked: revision,
                current: self.revision(),
            }),
        }
    }
}

impl Shared {
    fn resource(&self, prefix: &str) -> Arc<ResourceCache> {
        if let Some(found) = self.resources.read().get(prefix) {
            return found.clone();
        }
        self.resources
            .write()
            .entry(prefix.into())
            .or_insert_with(|| Arc::new(ResourceCache::new(self.start)))
            .clone()
    }

    fn announce_initial(&self) {
        for (prefix, hook) in &self.hooks {
            let objects = self
                .resource(prefix)
                .snapshot(prefix, None, 0, self.start, |_| true)
                .objects;
            let events: Vec<_> = objects
                .into_iter()
                .map(|o| Arc::new(Event::new(crate::Change::Added, o, None)))
                .collect();
            hook(&events);
        }
    }

    /// Applies whole commits, in order.
    fn apply(&self, events: Vec<setpoint_store::Event>) {
        let mut events = events.into_iter().peekable();
        while let Some(first) = events.next() {
            let revision = first.revision;
            let mut commit = vec![first];
            while let Some(next) = events.next_if(|e| e.revision == revision) {
                commit.push(next);
            }
            self.apply_commit(revision, commit);
            self.progress.send_replace(revision);
        }
    }

    fn apply_commit(&self, revision: Revision, commit: Vec<setpoint_store::Event>) {
        // almost every commit touches one resource; keep their order for the rest
        let mut by_resource: Vec<(Box<str>, Changes)> = Vec::with_capacity(1);
        for event in commit {
            let object = match event
                .current
                .as_ref()
                .map(|v| Object::new(event.key.clone(), v))
                .transpose()
            {
                Ok(object) => object,
                Err(error) => {
                    tracing::error!(%error, "an unreadable object in the store is not served");
                    continue;
                }
            };
            let prefix = resource_prefix(event.key.as_str());
            let slot = by_resource.iter().position(|(p, _)| &**p == prefix).unwrap_or_else(|| {
                by_resource.push((prefix.into(), Vec::with_capacity(1)));
                by_resource.len() - 1
            });
            by_resource[slot].1.push((event.key, object));
        }
        for (prefix, changes) in by_resource {
            let applied = self.resource(&prefix).apply(revision, changes);
            if let Some(hook) = self.hooks.get(&prefix) {
                hook(&applied);
            }
        }
    }

    /// Waits while the store is away, then answers a stream that continues where the cache stands.
    async fn reopen(&self) -> Option<setpoint_store::WatchStream> {
        match self.store.watch(ROOT, self.progress_now()).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(%error, "the store cannot be watched; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
                None
            }
        }
    }

    fn progress_now(&self) -> Revision {
        *self.progress.borrow()
    }
}

/// Follows the store until the cache is dropped. A watch that was interrupted is resumed where the cache stands; one that has been
/// compacted past ends the process's usefulness as a cache, and is said loudly: compaction must stay behind the retention window.
async fn follow(shared: std::sync::Weak<Shared>, mut stream: setpoint_store::WatchStream) {
    loop {
        let item = stream.next().await;
        let Some(shared) = shared.upgrade() else { return };
        match item {
            Some(Ok(WatchItem::Events(events))) => shared.apply(events),
            Some(Ok(WatchItem::Progress(revision))) => {
                shared.progress.send_if_modified(|seen| {
                    revision > *seen && {
                        *seen = revision;
                        true
                    }
                });
            }
            end => {
                match end {
                    Some(Err(WatchEnd::Compacted { from, oldest })) => {
                        tracing::error!(%from, %oldest, "the watch cache fell behind compaction; restart the server");
                    }
                    Some(Err(error)) => tracing::warn!(%error, "the store's watch ended; resuming"),
                    _ => tracing::debug!("the store's watch ended; resuming"),
                }
                stream = loop {
                    if let Some(stream) = shared.reopen().await {
                        break stream;
                    }
                };
            }
        }
    }
}

/// `/registry/GROUP/PLURAL/` of a key.
fn resource_prefix(key: &str) -> &str {
    let end = key.match_indices('/').nth(3).map_or(key.len(), |(at, _)| at + 1);
    &key[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_of_a_key() {
        assert_eq!(
            resource_prefix("/registry/core/configmaps/default/a"),
            "/registry/core/configmaps/"
        );
        assert_eq!(resource_prefix("/registry/g/workers/a"), "/registry/g/workers/");
        assert_eq!(resource_prefix("/registry/g/workers"), "/registry/g/workers");
    }
}
