//! Watches: each is a cursor over the batches of the retention window.
//!
//! # Guarantees
//! - A watch reads the same batches that readers see, from where it stands, in order: it cannot skip, repeat or reorder.
//! - It buffers nothing of its own. A slow one costs nothing but its place; when the window has moved past it, it ends.
//! - The writer wakes only the watches whose prefix was touched.
//!
//! - A watch whose prefix is quiet is up to date by definition: the window may move on without ending it.
//!
//! # How
//! While the writer applies a batch, still under the lock, it notes with each watch that the batch concerns the first revision that
//! the watch has not seen. So a watch that looks, under the same lock, and finds no note has seen everything.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLockReadGuard};
use setpoint_store::{Event, Revision, WatchEnd, WatchItem, WatchStream};
use tokio::sync::Notify;

use crate::{mvcc::Mvcc, shared::Shared};

/// Most batches taken under one hold of the lock; each costs a count of its pointer.
const BATCHES_AT_ONCE: usize = 64;
/// An item is closed when it has this many events; whole batches only, so it has at most 1,152 more.
const EVENTS_PER_ITEM: usize = 1_024;

/// How the writer reaches a watch.
#[derive(Default)]
pub(crate) struct Bell {
    notify: Notify,
    /// The first revision with an event for the watch since it last looked; 0 when there is none. Set under the state's write lock
    /// and taken under its read lock.
    unseen: AtomicU64,
    progress_asked: AtomicBool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.notify.notify_one();
    }
}

/// The open watches, found by the prefix they watch: a key's prefixes are looked up, one for each *length* in use (a few tens,
/// as resources have names of like lengths), however many watches there are.
#[derive(Default)]
pub(crate) struct Watchers {
    by_length: Mutex<ByLength>,
}

type ByLength = BTreeMap<usize, HashMap<Box<str>, Vec<Arc<Bell>>>>;

impl Watchers {
    fn add(&self, prefix: &str, bell: Arc<Bell>) {
        let mut by_length = self.by_length.lock();
        by_length
            .entry(prefix.len())
            .or_default()
            .entry(prefix.into())
            .or_default()
            .push(bell);
    }

    fn remove(&self, prefix: &str, bell: &Arc<Bell>) {
        let mut by_length = self.by_length.lock();
        let Some(same_length) = by_length.get_mut(&prefix.len()) else {
            return;
        };
        if let Some(bells) = same_length.get_mut(prefix) {
            bells.retain(|other| !Arc::ptr_eq(other, bell));
            if bells.is_empty() {
                same_length.remove(prefix);
            }
        }
        if same_length.is_empty() {
            by_length.remove(&prefix.len());
        }
    }

    /// Notes the batch with the watches that it concerns; the caller holds the state's write lock. Answers those that had nothing
    /// to see until now, to be rung when the lock is free.
    #[must_use]
    pub(crate) fn note(&self, events: &[Event]) -> Vec<Arc<Bell>> {
        let mut to_ring = Vec::new();
        let by_length = self.by_length.lock();
        for event in events {
            let key = event.key.as_str();
            for (len, same_length) in by_length.range(..=key.len()) {
                let bells = key.get(..*len).and_then(|prefix| same_length.get(prefix));
                for bell in bells.into_iter().flatten() {
                    let first =
                        bell.unseen
                            .compare_exchange(0, event.revision.get(), Ordering::AcqRel, Ordering::Acquire);
                    if first.is_ok() {
                        to_ring.push(Arc::clone(bell));
                    }
                }
            }
        }
        to_ring
    }

    /// Asks the watches of exactly this prefix for progress.
    pub(crate) fn ask_progress(&self, prefix: &str) {
        let by_length = self.by_length.lock();
        let bells = by_length
            .get(&prefix.len())
            .and_then(|same_length| same_length.get(prefix));
        for bell in bells.into_iter().flatten() {
            bell.progress_asked.store(true, Ordering::Release);
            bell.ring();
        }
    }

    pub(crate) fn wake_all(&self) {
        let by_length = self.by_length.lock();
        for bell in by_length.values().flat_map(HashMap::values).flatten() {
            bell.ring();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.by_length
            .lock()
            .values()
            .flat_map(HashMap::values)
            .map(Vec::len)
            .sum()
    }
}

/// One watch: where it stands.
struct Cursor {
    shared: Arc<Shared>,
    prefix: Box<str>,
    seen: Revision,
    /// Whether there may be unseen events that the bell does not tell of, because they came before it.
    behind: bool,
    bell: Arc<Bell>,
    over: bool,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.shared.watchers.remove(&self.prefix, &self.bell);
    }
}

/// A watch of `prefix` from `from`, which the caller has found readable under the lock that it still holds.
pub(crate) fn stream(
    shared: &Arc<Shared>,
    state: &RwLockReadGuard<'_, Mvcc>,
    prefix: &str,
    from: Revision,
) -> WatchStream {
    let bell = Arc::<Bell>::default();
    shared.watchers.add(prefix, Arc::clone(&bell));
    let behind = from < state.revision();
    let cursor = Cursor {
        shared: Arc::clone(shared),
        prefix: prefix.into(),
        seen: from,
        behind,
        bell,
        over: false,
    };
    Box::pin(futures::stream::unfold(cursor, Cursor::next))
}

/// What a look at the window found.
enum Look {
    Item(WatchItem),
    /// Nothing below the prefix, and more to look at.
    More,
    /// Nothing, up to the current revision.
    UpToDate,
}

impl Cursor {
    async fn next(mut self) -> Option<(Result<WatchItem, WatchEnd>, Self)> {
        if self.over {
            return None;
        }
        let item = self.item().await;
        self.over = item.is_err();
        Some((item, self))
    }

    async fn item(&mut self) -> Result<WatchItem, WatchEnd> {
        let mut idle = false;
        loop {
            if self.shared.is_closed() {
                return Err(WatchEnd::Interrupted("the store was closed".into()));
            }
            // Taken before the look: a request that comes after it gets a look of its own.
            let asked = self.bell.progress_asked.swap(false, Ordering::AcqRel);
            match self.look()? {
                Look::Item(item) => {
                    // The request stands until it is answered with progress.
                    self.bell.progress_asked.fetch_or(asked, Ordering::AcqRel);
                    return Ok(item);
                }
                Look::More => {
                    self.bell.progress_asked.fetch_or(asked, Ordering::AcqRel);
                    tokio::task::consume_budget().await;
                }
                Look::UpToDate if idle || asked => return Ok(WatchItem::Progress(self.seen)),
                Look::UpToDate => {
                    let rung = tokio::time::timeout(self.shared.progress_every, self.bell.notify.notified()).await;
                    idle = rung.is_err();
                }
            }
        }
    }

    fn look(&mut self) -> Result<Look, WatchEnd> {
        let (batches, current) = {
            let state = self.shared.state.read();
            let unseen = self.bell.unseen.swap(0, Ordering::AcqRel);
            if !self.behind {
                self.seen = match unseen {
                    0 => state.revision(),
                    first => Revision::new(first - 1),
                };
            }
            let compacted = || WatchEnd::Compacted {
                from: self.seen,
                oldest: state.oldest(),
            };
            let batches = state.batches_after(self.seen, BATCHES_AT_ONCE).ok_or_else(compacted)?;
            (batches, state.revision())
        };
        if batches.is_empty() {
            self.behind = false;
            return Ok(Look::UpToDate);
        }
        let mut events = Vec::new();
        let mut last = self.seen;
        for batch in &batches {
            let wanted = |e: &&Event| e.revision > self.seen && e.key.as_str().starts_with(&*self.prefix);
            events.extend(batch.events.iter().filter(wanted).cloned());
            last = batch.last;
            if events.len() >= EVENTS_PER_ITEM {
                break;
            }
        }
        self.seen = last;
        self.behind = last < current;
        Ok(if events.is_empty() {
            Look::More
        } else {
            Look::Item(WatchItem::Events(events))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use setpoint_store::{Key, Versioned};

    use super::*;
    use crate::mvcc::Batch;

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(Mvcc::default(), Duration::from_secs(3_600)))
    }

    /// Applies commits to one key each, as one group.
    fn group(shared: &Shared, keys: &[&str]) {
        let mut state = shared.state.write();
        let mut events = Vec::new();
        for (key, n) in keys.iter().zip(state.revision().get() + 1..) {
            let revision = Revision::new(n);
            let current = Some(Versioned {
                value: n.to_string().into(),
                created: revision,
                modified: revision,
            });
            events.push(Event {
                key: Key::new(*key),
                revision,
                current,
                previous: None,
            });
        }
        let last = events[events.len() - 1].revision;
        let to_ring = shared.watchers.note(&events);
        state.apply(Arc::new(Batch::new(events, last, 0)));
        drop(state);
        to_ring.iter().for_each(|bell| bell.ring());
    }

    fn watch(shared: &Arc<Shared>, prefix: &str, from: u64) -> WatchStream {
        stream(shared, &shared.state.read(), prefix, Revision::new(from))
    }

    async fn revisions(watch: &mut WatchStream) -> Vec<u64> {
        match watch.next().await {
            Some(Ok(WatchItem::Events(events))) => events.iter().map(|e| e.revision.get()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_watch_may_begin_inside_a_group() {
        let shared = shared();
        group(&shared, &["/a", "/a", "/b", "/a"]);
        assert_eq!(revisions(&mut watch(&shared, "/a", 1)).await, [2, 4]);
        assert_eq!(revisions(&mut watch(&shared, "/", 3)).await, [4]);
    }

    #[tokio::test]
    async fn what_is_noted_while_a_watch_is_behind_comes_once_and_in_order() {
        let shared = shared();
        group(&shared, &["/a"]);
        let mut behind = watch(&shared, "/a", 0);
        let mut live = watch(&shared, "/a", 1);
        group(&shared, &["/b", "/a"]);
        group(&shared, &["/a", "/b"]);
        assert_eq!(revisions(&mut behind).await, [1, 3, 4]);
        assert_eq!(revisions(&mut live).await, [3, 4]);
        group(&shared, &["/b"]);
        group(&shared, &["/a"]);
        assert_eq!(revisions(&mut behind).await, [7]);
        assert_eq!(revisions(&mut live).await, [7]);
    }

    #[tokio::test]
    async fn only_a_watch_with_something_to_see_falls_behind() {
        let shared = shared();
        let (mut quiet, mut slow) = (watch(&shared, "/quiet", 0), watch(&shared, "/busy", 0));
        group(&shared, &["/busy"]);
        group(&shared, &["/busy"]);
        shared.state.write().compact(Revision::new(2));
        while shared.purge() {}
        let end = WatchEnd::Compacted {
            from: Revision::ZERO,
            oldest: Revision::new(2),
        };
        assert_eq!(slow.next().await, Some(Err(end)));
        assert_eq!(slow.next().await, None);
        group(&shared, &["/quiet"]);
        assert_eq!(revisions(&mut quiet).await, [3]);
    }

    #[tokio::test]
    async fn a_dropped_watch_leaves_nothing_in_the_registry() {
        let shared = shared();
        let (first, second) = (watch(&shared, "/a", 0), watch(&shared, "/a", 0));
        assert_eq!(shared.watchers.count(), 2);
        drop((first, second));
        assert!(shared.watchers.by_length.lock().is_empty());
    }
}
