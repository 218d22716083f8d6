//! One resource: its objects, and the window of recent events that watchers read with a cursor each.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::RwLock;
use setpoint_store::{Key, Revision};
use tokio::sync::watch;

use crate::Object;

/// The window a resource keeps for watchers: whichever bound is met first. 4,096 events is 0.3 s of the busiest resource we aim for
/// (12,000 writes/s); 32 MiB bounds what large objects can pin. A watcher behind both is told so and lists again.
const WINDOW_EVENTS: usize = 4_096;
const WINDOW_BYTES: usize = 32 << 20;

/// What happened, as an unfiltered watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// The `type` of a watch event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Something that happened to an object.
#[derive(Debug)]
pub struct Event {
    /// What, to a watcher without a selector.
    pub change: Change,
    /// The state after it; for a deletion the last state, at the revision of the deletion.
    pub object: Arc<Object>,
    /// The state before it, if the object existed.
    pub previous: Option<Arc<Object>>,
    frame: OnceLock<Bytes>,
}

impl Event {
    /// An event as the cache makes it.
    pub fn new(change: Change, object: Arc<Object>, previous: Option<Arc<Object>>) -> Self {
        Self {
            change,
            object,
            previous,
            frame: OnceLock::new(),
        }
    }

    /// The revision at which it happened.
    pub fn revision(&self) -> Revision {
        self.object.revision
    }

    /// The JSON line of a watch without selector, framed once and shared by all such watchers.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| frame(self.change, &self.object)).clone()
    }
}

/// A watch event as a JSON line.
pub(crate) fn frame(change: Change, object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(object.json_len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(change.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write_json(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// The reader stands before the window: it must list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {from} ({oldest})")]
pub struct Lagged {
    /// Where it stood.
    pub from: Revision,
    /// The oldest revision from which the window can continue.
    pub oldest: Revision,
}

/// Objects of one resource at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// In key order.
    pub objects: Vec<Arc<Object>>,
    /// All of the resource's events at or below it are in, none above it.
    pub revision: Revision,
    /// How many objects follow the last (only with a limit).
    pub remaining: usize,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Arc<Object>>,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    /// Events at or below it may be missing from the window.
    forgotten: Revision,
    /// The last applied event.
    revision: Revision,
}

/// Changes of one commit: the key, and the new state or `None`.
pub(crate) type Changes = Vec<(Key, Option<Object>)>;

/// The cached objects of one resource.
#[derive(Debug)]
pub struct ResourceCache {
    state: RwLock<State>,
    changed: watch::Sender<Revision>,
}

impl ResourceCache {
    pub(crate) fn new(forgotten: Revision) -> Self {
        let state = State {
            forgotten,
            revision: forgotten,
            ..State::default()
        };
        Self {
            state: RwLock::new(state),
            changed: watch::Sender::new(forgotten),
        }
    }

    /// Puts an object of the initial list.
    pub(crate) fn load(&self, object: Object) {
        self.state.write().objects.insert(object.key.clone(), Arc::new(object));
    }

    /// Applies the events of one commit.
    pub(crate) fn apply(&self, revision: Revision, changes: Changes) -> Vec<Arc<Event>> {
        let mut applied = Vec::with_capacity(changes.len());
        {
            let mut state = self.state.write();
            for (key, object) in changes {
                let event = match object {
                    Some(object) => {
                        let object = Arc::new(object);
                        let previous = state.objects.insert(key, object.clone());
                        let change = if previous.is_some() {
                            Change::Modified
                        } else {
                            Change::Added
                        };
                        Event::new(change, object, previous)
                    }
                    None => match state.objects.remove(key.as_str()) {
                        Some(previous) => Event::new(Change::Deleted, Arc::new(previous.at(revision)), Some(previous)),
                        None => continue,
                    },
                };
                let event = Arc::new(event);
                state.remember(event.clone());
                applied.push(event);
            }
            state.revision = revision;
        }
        self.changed.send_replace(revision);
        applied
    }

    /// The object under this key.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    /// The revision of the last event applied to this resource.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects below `prefix` strictly after `after` for which `keep` holds, at most `limit` (0 = all). `seen` is a revision that the
    /// whole cache is known to have reached, read before the call ([`crate::Cache::revision`]).
    pub fn snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        seen: Revision,
        keep: impl Fn(&Object) -> bool,
    ) -> Snapshot {
        let state = self.state.read();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut matching = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(k, _)| k.as_str().starts_with(prefix))
            .filter(|(_, o)| keep(o));
        let objects: Vec<_> = matching
            .by_ref()
            .take(if limit == 0 { usize::MAX } else { limit })
            .map(|(_, o)| o.clone())
            .collect();
        let remaining = if limit == 0 { 0 } else { matching.count() };
        Snapshot {
            objects,
            revision: state.revision.max(seen),
            remaining,
        }
    }

    /// A cursor behind `from`, or [`Lagged`] when the window does not reach back that far.
    pub fn subscribe(self: &Arc<Self>, from: Revision) -> Result<Subscription, Lagged> {
        let oldest = self.state.read().forgotten;
        if from < oldest {
            return Err(Lagged { from, oldest });
        }
        Ok(Subscription {
            resource: self.clone(),
            cursor: from,
            changed: self.changed.subscribe(),
        })
    }
}

impl State {
    fn remember(&mut self, event: Arc<Event>) {
        self.window_bytes += event.object.json_len();
        self.window.push_back(event);
        while self.window.len() > WINDOW_EVENTS || self.window_bytes > WINDOW_BYTES {
            let Some(oldest) = self.window.pop_front() else { break };
            self.window_bytes -= oldest.object.json_len();
            self.forgotten = oldest.revision();
        }
    }
}

/// A reader of a resource's events.
#[derive(Debug)]
pub struct Subscription {
    resource: Arc<ResourceCache>,
    cursor: Revision,
    changed: watch::Receiver<Revision>,
}

impl Subscription {
    /// The events that follow, whole commits only, at least `max` if there are so many; empty when there is none at the moment.
    pub fn take(&mut self, max: usize) -> Result<Vec<Arc<Event>>, Lagged> {
        self.changed.mark_unchanged();
        let state = self.resource.state.read();
        if self.cursor < state.forgotten {
            return Err(Lagged {
                from: self.cursor,
                oldest: state.forgotten,
            });
        }
        let first = state.window.partition_point(|e| e.revision() <= self.cursor);
        let mut taken: Vec<Arc<Event>> = Vec::new();
        for event in state.window.range(first..) {
            if taken.len() >= max && taken.last().is_some_and(|last| last.revision() != event.revision()) {
                break;
            }
            taken.push(event.clone());
        }
        if let Some(last) = taken.last() {
            self.cursor = last.revision();
        }
        Ok(taken)
    }

    /// Waits until something may have happened since the last [`Subscription::take`].
    pub async fn changed(&mut self) {
        // the sender lives in `self.resource`, so it cannot be gone
        let _ = self.changed.changed().await;
    }

    /// The revision of the last event taken.
    pub fn cursor(&self) -> Revision {
        self.cursor
    }
}
