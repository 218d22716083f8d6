//! The state in memory: each key with its versions, and the batches of events of the retention window.
//!
//! # Guarantees
//! - What is here is durable: only what an fsync has covered is applied.
//! - `floor` ≤ `oldest` ≤ `revision`. Reads at `oldest` and after it are right; every event after `floor` is in `batches`.
//! - No call holds its lock for more than about [`CHUNK`] keys or one batch of events.
//!
//! # Memory
//! A key that has one version costs, beside its text and its value: slot 56 + key pointer 16 in a B-tree node that is two thirds
//! full (108), the `Arc<str>` header and the rounding of the allocator (24), the same for the value and its `Bytes` header (56):
//! about 190 bytes. 1,000,000 objects of 1 KiB with 60-byte keys are about 1.3 GB.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use setpoint_store::{Event, Key, Revision, StoreError, Versioned};

use crate::options::{CHANGE_OVERHEAD_BYTES, Retention};

/// Most keys that are looked at under one hold of the lock: about 100 µs when they are out of the CPU's caches.
pub(crate) const CHUNK: usize = 1_024;

/// One version of a key; no value when it was deleted.
#[derive(Clone, Debug)]
struct Version {
    value: Option<Bytes>,
    created: Revision,
    modified: Revision,
}

impl Version {
    fn versioned(&self) -> Option<Versioned> {
        let (created, modified) = (self.created, self.modified);
        self.value.clone().map(|value| Versioned {
            value,
            created,
            modified,
        })
    }
}

#[derive(Debug)]
struct Slot {
    newest: Version,
    /// What the window still shows; nothing for most keys.
    older: Option<Box<Older>>,
}

/// Versions before the newest, oldest first. A key that is changed all the time has as many as the window has changes, and each
/// change frees one: at the front, in constant time.
#[derive(Debug, Default)]
struct Older(VecDeque<Version>);

impl Slot {
    fn at(&self, at: Revision) -> Option<Versioned> {
        if self.newest.modified <= at {
            return self.newest.versioned();
        }
        let older = &self.older.as_ref()?.0;
        let after = older.partition_point(|v| v.modified <= at);
        older.get(after.checked_sub(1)?)?.versioned()
    }
}

/// The events of one group of commits, whole commits in order. Immutable, shared with watches.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    /// The revision of the last commit.
    pub(crate) last: Revision,
    /// When it was written. Never before the batch before it.
    pub(crate) unix_ms: u64,
    /// What it counts against [`Retention::max_bytes`].
    cost: u64,
}

impl Batch {
    pub(crate) fn new(events: Vec<Event>, last: Revision, unix_ms: u64) -> Self {
        let cost = events.iter().map(cost).sum();
        Self {
            events,
            last,
            unix_ms,
            cost,
        }
    }
}

fn cost(event: &Event) -> u64 {
    let len = |v: &Option<Versioned>| v.as_ref().map_or(0, |v| v.value.len());
    (event.key.as_str().len() + len(&event.current) + len(&event.previous)) as u64 + CHANGE_OVERHEAD_BYTES
}

/// Numbers about the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) live_keys: u64,
    pub(crate) live_bytes: u64,
    /// Of the batches that have a revision after `oldest`.
    pub(crate) window_changes: u64,
    pub(crate) window_bytes: u64,
}

/// Part of a list.
pub(crate) struct Chunk {
    pub(crate) items: Vec<(Key, Versioned)>,
    /// Where to go on, strictly after; `None` at the end of the prefix.
    pub(crate) resume: Option<Key>,
}

/// The state. See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Mvcc {
    slots: BTreeMap<Key, Slot>,
    /// Those before `window` are only there until they are purged.
    batches: VecDeque<Arc<Batch>>,
    window: usize,
    revision: Revision,
    oldest: Revision,
    floor: Revision,
    sizes: Sizes,
}

impl Mvcc {
    /// The state that a checkpoint holds. Entries come in key order.
    pub(crate) fn from_checkpoint(revision: Revision, entries: Vec<(Key, Versioned)>) -> Self {
        let mut sizes = Sizes::default();
        let slots = entries.into_iter().map(|(key, v)| {
            sizes.live_keys += 1;
            sizes.live_bytes += (key.as_str().len() + v.value.len()) as u64;
            let newest = Version {
                value: Some(v.value),
                created: v.created,
                modified: v.modified,
            };
            (key, Slot { newest, older: None })
        });
        let slots = slots.collect();
        Self {
            slots,
            batches: VecDeque::new(),
            window: 0,
            revision,
            oldest: revision,
            floor: revision,
            sizes,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Whether `asked` can be read.
    pub(crate) fn check_readable(&self, asked: Revision) -> Result<(), StoreError> {
        if asked > self.revision {
            return Err(StoreError::Future {
                asked,
                current: self.revision,
            });
        }
        if asked < self.oldest {
            return Err(StoreError::Compacted {
                asked,
                oldest: self.oldest,
            });
        }
        Ok(())
    }

    /// The newest state of a key, with the store's own copy of the key.
    pub(crate) fn newest(&self, key: &Key) -> Option<(&Key, Versioned)> {
        let (key, slot) = self.slots.get_key_value(key)?;
        slot.newest.versioned().map(|v| (key, v))
    }

    /// The state of a key at a revision that is readable, or pinned.
    pub(crate) fn get_at(&self, key: &Key, at: Revision) -> Option<Versioned> {
        self.slots.get(key)?.at(at)
    }

    /// Keys of `prefix` strictly after `after` at a revision that is readable, or pinned: at most `limit`, looking at no more
    /// than [`CHUNK`] keys.
    pub(crate) fn chunk(&self, prefix: &str, at: Revision, after: Option<&Key>, limit: usize) -> Chunk {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut items = Vec::new();
        let below = self.slots.range::<str, _>((start, Bound::Unbounded));
        let below = below.take_while(|(key, _)| key.as_str().starts_with(prefix));
        for (looked_at, (key, slot)) in below.enumerate() {
            items.extend(slot.at(at).map(|v| (key.clone(), v)));
            if items.len() == limit || looked_at + 1 == CHUNK {
                return Chunk {
                    items,
                    resume: Some(key.clone()),
                };
            }
        }
        Chunk { items, resume: None }
    }

    /// Whether `prefix` has a key strictly after `after` at `at`; `Err` carries where to go on after [`CHUNK`] keys.
    pub(crate) fn any_after(&self, prefix: &str, at: Revision, after: &Key) -> Result<bool, Key> {
        let chunk = self.chunk(prefix, at, Some(after), 1);
        match chunk.resume {
            Some(resume) if chunk.items.is_empty() => Err(resume),
            _ => Ok(!chunk.items.is_empty()),
        }
    }

    /// Applies a durable batch.
    pub(crate) fn apply(&mut self, batch: Arc<Batch>) {
        for event in &batch.events {
            self.apply_event(event);
        }
        self.sizes.window_changes += batch.events.len() as u64;
        self.sizes.window_bytes += batch.cost;
        self.revision = batch.last;
        self.batches.push_back(batch);
    }

    fn apply_event(&mut self, event: &Event) {
        let size = |v: &Option<Versioned>| v.as_ref().map(|v| (event.key.as_str().len() + v.value.len()) as u64);
        if let Some(bytes) = size(&event.previous) {
            self.sizes.live_keys -= 1;
            self.sizes.live_bytes -= bytes;
        }
        if let Some(bytes) = size(&event.current) {
            self.sizes.live_keys += 1;
            self.sizes.live_bytes += bytes;
        }
        let newest = Version {
            value: event.current.as_ref().map(|v| v.value.clone()),
            created: event.current.as_ref().map_or(event.revision, |v| v.created),
            modified: event.revision,
        };
        match self.slots.get_mut(event.key.as_str()) {
            Some(slot) => {
                let before = std::mem::replace(&mut slot.newest, newest);
                slot.older.get_or_insert_default().0.push_back(before);
            }
            None => {
                self.slots.insert(event.key.clone(), Slot { newest, older: None });
            }
        }
    }

    /// The batches that a watch that has seen everything up to `seen` has yet to look at, at most `most`. `None` when the window no
    /// longer reaches back to `seen`.
    pub(crate) fn batches_after(&self, seen: Revision, most: usize) -> Option<Vec<Arc<Batch>>> {
        if seen < self.floor {
            return None;
        }
        let start = self.batches.partition_point(|b| b.last <= seen);
        Some(self.batches.range(start..).take(most).cloned().collect())
    }

    /// Moves the start of the window to what the bounds allow. [`Mvcc::purge`] then does the work.
    pub(crate) fn retain(&mut self, bounds: &Retention, now_ms: u64) {
        let expired = now_ms.saturating_sub(u64::try_from(bounds.max_age.as_millis()).unwrap_or(u64::MAX));
        while let Some(batch) = self.batches.get(self.window) {
            let fits =
                self.sizes.window_changes <= bounds.max_changes as u64 && self.sizes.window_bytes <= bounds.max_bytes;
            if fits && batch.unix_ms >= expired {
                break;
            }
            self.compact(batch.last);
        }
    }

    /// Moves the start of the window forward to `before`, or to the current revision if that is less.
    pub(crate) fn compact(&mut self, before: Revision) {
        self.oldest = self.oldest.max(before.min(self.revision));
        while let Some(batch) = self.batches.get(self.window).filter(|b| b.last <= self.oldest) {
            self.window += 1;
            self.sizes.window_changes -= batch.events.len() as u64;
            self.sizes.window_bytes -= batch.cost;
        }
    }

    /// Frees one batch that lies before the window and before `pinned`, the oldest revision that somebody still reads.
    /// Answers whether there may be more to do.
    pub(crate) fn purge(&mut self, pinned: Option<Revision>) -> bool {
        let bound = pinned.map_or(self.oldest, |pinned| pinned.min(self.oldest));
        let Some(batch) = self.batches.pop_front_if(|b| b.last <= bound) else {
            return false;
        };
        for event in &batch.events {
            // A created key has no older version, and so nothing to free until it is changed.
            if event.previous.is_some() || event.current.is_none() {
                self.forget_before(&event.key, bound);
            }
        }
        self.floor = batch.last;
        self.window -= 1;
        true
    }

    /// Forgets the versions of a key that only revisions before `bound` show.
    fn forget_before(&mut self, key: &Key, bound: Revision) {
        let Some(slot) = self.slots.get_mut(key.as_str()) else {
            return;
        };
        if slot.newest.modified <= bound {
            slot.older = None;
            if slot.newest.value.is_none() {
                self.slots.remove(key.as_str());
            }
            return;
        }
        let Some(older) = &mut slot.older else {
            return;
        };
        // The last version at or before the bound is what the bound shows; those before it are unseen.
        while older.0.get(1).is_some_and(|v| v.modified <= bound) {
            older.0.pop_front();
        }
        // A deletion that the bound shows looks the same as nothing.
        older.0.pop_front_if(|v| v.modified <= bound && v.value.is_none());
        if older.0.is_empty() {
            slot.older = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(n: u64) -> Revision {
        Revision::new(n)
    }

    /// A state to which single changes are applied, one batch each, one second apart.
    #[derive(Default)]
    struct Script(Mvcc);

    impl Script {
        fn step(&mut self, key: &str, value: Option<&'static str>) -> &mut Self {
            let key = Key::new(key);
            let revision = self.0.revision().next();
            let previous = self.0.newest(&key).map(|(_, v)| v);
            let current = value.map(|value| Versioned {
                value: Bytes::from_static(value.as_bytes()),
                created: previous.as_ref().map_or(revision, |v| v.created),
                modified: revision,
            });
            let events = vec![Event {
                key,
                revision,
                current,
                previous,
            }];
            self.0
                .apply(Arc::new(Batch::new(events, revision, revision.get() * 1_000)));
            self
        }

        fn purge_all(&mut self) {
            while self.0.purge(None) {}
        }
    }

    fn show(mvcc: &Mvcc, at: u64) -> String {
        let items = mvcc.chunk("", rev(at), None, usize::MAX).items;
        items
            .iter()
            .map(|(k, v)| format!("{k}={}@{} ", String::from_utf8_lossy(&v.value), v.modified))
            .collect()
    }

    #[test]
    fn the_past_stays_as_it_was_and_compaction_frees_only_the_unseen() {
        let mut s = Script::default();
        s.step("/a", Some("1"))
            .step("/b", Some("2"))
            .step("/a", None)
            .step("/a", Some("4"))
            .step("/b", Some("5"));
        let all: Vec<String> = (0..=5).map(|at| show(&s.0, at)).collect();
        assert_eq!(
            all,
            [
                "",
                "/a=1@1 ",
                "/a=1@1 /b=2@2 ",
                "/b=2@2 ",
                "/a=4@4 /b=2@2 ",
                "/a=4@4 /b=5@5 "
            ]
        );
        for oldest in 1..=5 {
            s.0.compact(rev(oldest));
            s.purge_all();
            for at in oldest..=5 {
                assert_eq!(show(&s.0, at), all[at as usize], "at {at} with oldest {oldest}");
            }
            assert!(s.0.check_readable(rev(oldest - 1)).is_err());
        }
        let left = Sizes {
            live_keys: 2,
            live_bytes: 6,
            window_changes: 0,
            window_bytes: 0,
        };
        assert_eq!(s.0.sizes(), left);
        assert!(s.0.slots.values().all(|slot| slot.older.is_none()), "{:?}", s.0.slots);
    }

    #[test]
    fn a_deleted_key_leaves_nothing_behind() {
        let mut s = Script::default();
        s.step("/a", Some("1"))
            .step("/a", None)
            .step("/a", Some("3"))
            .step("/a", None);
        s.0.compact(rev(4));
        s.purge_all();
        assert!(s.0.slots.is_empty());
        assert_eq!(s.0.sizes(), Sizes::default());
    }

    #[test]
    fn a_pin_keeps_what_it_reads_but_not_the_window() {
        let mut s = Script::default();
        s.step("/a", Some("1")).step("/a", Some("2")).step("/a", Some("3"));
        s.0.compact(rev(3));
        while s.0.purge(Some(rev(1))) {}
        assert_eq!(show(&s.0, 1), "/a=1@1 ");
        assert!(s.0.check_readable(rev(1)).is_err());
        s.purge_all();
        assert_eq!(show(&s.0, 3), "/a=3@3 ");
        assert!(s.0.batches_after(rev(2), 10).is_none());
    }

    #[test]
    fn each_bound_of_the_window_holds_alone() {
        let wide = Retention {
            max_age: std::time::Duration::from_secs(1_000),
            max_changes: 1_000,
            max_bytes: 1 << 20,
        };
        let cases = [
            (wide.clone(), 0),
            (
                Retention {
                    max_changes: 2,
                    ..wide.clone()
                },
                3,
            ),
            (
                Retention {
                    max_age: std::time::Duration::from_secs(3),
                    ..wide.clone()
                },
                1,
            ),
            // Each change after the first costs key 2 + new 1 + old 1 + overhead.
            (
                Retention {
                    max_bytes: 3 * (4 + CHANGE_OVERHEAD_BYTES),
                    ..wide
                },
                2,
            ),
        ];
        for (bounds, oldest) in cases {
            let mut s = Script::default();
            for value in ["1", "2", "3", "4", "5"] {
                s.step("/a", Some(value));
            }
            s.0.retain(&bounds, 5_000);
            assert_eq!(s.0.oldest(), rev(oldest), "{bounds:?}");
        }
    }

    #[test]
    fn a_chunk_stops_and_goes_on_where_it_stopped() {
        let mut s = Script::default();
        for n in 0..CHUNK + 10 {
            s.step(&format!("/k/{n:05}"), Some("v"));
        }
        let end = s.0.revision();
        let first = s.0.chunk("/k/", end, None, usize::MAX);
        assert_eq!(first.items.len(), CHUNK);
        let second = s.0.chunk("/k/", end, first.resume.as_ref(), usize::MAX);
        assert_eq!((second.items.len(), second.resume), (10, None));
    }
}
