//! [`MemoryStore`]: the contract in its simplest form, for tests and as the model that backends are compared with.
//!
//! # Guarantees
//! Everything in the contract but durability: it forgets all when it is dropped.
//!
//! # Why it looks the way it does
//! It is meant to be obviously correct, so it keeps one list of events and derives the rest: a past state is the state at the
//! start of the window with the events up to that revision replayed over it. That is slow for a large past state; the embedded
//! store is the one that is fast.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Event, Key, Op, Page, Revision, Store, StoreError, Txn, Versioned, WatchEnd, WatchItem, WatchStream};

/// How long a watch is silent before it sends [`WatchItem::Progress`].
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

type State = BTreeMap<Key, Versioned>;

/// A store that lives in memory. Cloning gives another handle to the same store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// Held by handles only, so that watches see when the last one is gone.
    _open: Arc<watch::Sender<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Says to look again: a commit, a compaction, or a request for progress happened.
    bell: watch::Sender<()>,
    /// Becomes ready with an error when the last handle is dropped.
    open: watch::Receiver<()>,
    window: usize,
}

#[derive(Default)]
struct Inner {
    revision: Revision,
    oldest: Revision,
    current: State,
    /// The state at `oldest`.
    base: State,
    /// All events after `oldest`, in order.
    events: Vec<Event>,
    /// Prefixes whose watches were asked for progress, and the ticket of the last request.
    progress_asked: BTreeMap<String, u64>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that keeps every revision until it is told to compact.
    pub fn new() -> Self {
        Self::with_window(usize::MAX)
    }

    /// An empty store that keeps the last `changes` events readable, and compacts what is before them by itself.
    pub fn with_window(changes: usize) -> Self {
        let (open_sender, open) = watch::channel(());
        let shared = Shared {
            inner: Mutex::default(),
            bell: watch::Sender::new(()),
            open,
            window: changes,
        };
        Self {
            shared: Arc::new(shared),
            _open: Arc::new(open_sender),
        }
    }
}

impl Inner {
    fn check_readable(&self, asked: Revision) -> Result<(), StoreError> {
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

    /// The state at a revision.
    fn state(&self, at: Option<Revision>) -> Result<State, StoreError> {
        let Some(at) = at else {
            return Ok(self.current.clone());
        };
        self.check_readable(at)?;
        let mut state = self.base.clone();
        for event in self.events.iter().filter(|e| e.revision <= at) {
            replay(&mut state, event);
        }
        Ok(state)
    }

    fn commit(&mut self, txn: &Txn) -> Result<Revision, StoreError> {
        txn.validate()?;
        for precondition in &txn.preconditions {
            let current = self.current.get(precondition.key());
            if !precondition.holds(current) {
                return Err(StoreError::Conflict {
                    key: precondition.key().clone(),
                    current: current.cloned(),
                });
            }
        }
        let absent = |op: &&Op| matches!(op, Op::Delete(key) if !self.current.contains_key(key));
        if let Some(op) = txn.ops.iter().find(absent) {
            return Err(StoreError::Invalid(format!(
                "it deletes {}, which does not exist",
                op.key()
            )));
        }
        let revision = self.revision.next();
        for op in &txn.ops {
            let key = op.key().clone();
            let previous = self.current.get(&key).cloned();
            let current = match op {
                Op::Put(_, value) => Some(Versioned {
                    value: value.clone(),
                    created: previous.as_ref().map_or(revision, |v| v.created),
                    modified: revision,
                }),
                Op::Delete(_) => None,
            };
            let event = Event {
                key,
                revision,
                current,
                previous,
            };
            replay(&mut self.current, &event);
            self.events.push(event);
        }
        self.revision = revision;
        Ok(revision)
    }

    fn compact(&mut self, before: Revision) {
        let oldest = before.min(self.revision).max(self.oldest);
        let gone = self.events.partition_point(|e| e.revision <= oldest);
        for event in self.events.drain(..gone) {
            replay(&mut self.base, &event);
        }
        self.oldest = oldest;
    }

    /// Compacts until at most `changes` events are kept. A commit stays whole.
    fn keep(&mut self, changes: usize) {
        if self.events.len() > changes {
            let last_gone = self.events[self.events.len() - changes - 1].revision;
            self.compact(last_gone);
        }
    }

    /// What a watch that has seen everything up to `seen` gets next.
    fn after(&self, seen: Revision, prefix: &str) -> Result<Vec<Event>, WatchEnd> {
        if seen < self.oldest {
            return Err(WatchEnd::Compacted {
                from: seen,
                oldest: self.oldest,
            });
        }
        let wanted = |e: &&Event| e.revision > seen && e.key.as_str().starts_with(prefix);
        Ok(self.events.iter().filter(wanted).cloned().collect())
    }

    fn progress_ticket(&self, prefix: &str) -> u64 {
        self.progress_asked.get(prefix).copied().unwrap_or_default()
    }
}

fn replay(state: &mut State, event: &Event) {
    match &event.current {
        Some(current) => state.insert(event.key.clone(), current.clone()),
        None => state.remove(&event.key),
    };
}

/// One watch: where it stands.
struct Cursor {
    shared: Arc<Shared>,
    prefix: String,
    seen: Revision,
    ticket: u64,
    bell: watch::Receiver<()>,
    open: watch::Receiver<()>,
    over: bool,
}

impl Cursor {
    async fn next(mut self) -> Option<(Result<WatchItem, WatchEnd>, Self)> {
        if self.over {
            return None;
        }
        let mut idle = false;
        loop {
            self.bell.mark_unchanged();
            if let Some(item) = self.look(idle) {
                self.over = item.is_err();
                return Some((item, self));
            }
            idle = tokio::select! {
                _ = self.bell.changed() => false,
                () = tokio::time::sleep(PROGRESS_EVERY) => true,
                _ = self.open.changed() => {
                    self.over = true;
                    return Some((Err(WatchEnd::Interrupted("the store was closed".into())), self));
                }
            };
        }
    }

    fn look(&mut self, idle: bool) -> Option<Result<WatchItem, WatchEnd>> {
        let inner = self.shared.inner.lock();
        let events = match inner.after(self.seen, &self.prefix) {
            Ok(events) => events,
            Err(end) => return Some(Err(end)),
        };
        self.seen = inner.revision;
        if !events.is_empty() {
            return Some(Ok(WatchItem::Events(events)));
        }
        let ticket = inner.progress_ticket(&self.prefix);
        let asked = std::mem::replace(&mut self.ticket, ticket) != ticket;
        (idle || asked).then_some(Ok(WatchItem::Progress(self.seen)))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        let mut inner = self.shared.inner.lock();
        let revision = inner.commit(&txn)?;
        inner.keep(self.shared.window);
        self.shared.bell.send_replace(());
        Ok(revision)
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Versioned>, StoreError> {
        let inner = self.shared.inner.lock();
        match at {
            None => Ok(inner.current.get(key).cloned()),
            Some(_) => Ok(inner.state(at)?.remove(key)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let inner = self.shared.inner.lock();
        let state = inner.state(at)?;
        let wanted = |key: &&Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| *key > after);
        let rest: Vec<&Key> = state.keys().filter(wanted).collect();
        let take = if limit == 0 { rest.len() } else { limit.min(rest.len()) };
        let item = |key: &&Key| ((*key).clone(), state[*key].clone());
        Ok(Page {
            items: rest[..take].iter().map(item).collect(),
            revision: at.unwrap_or(inner.revision),
            more: take < rest.len(),
            remaining: Some((rest.len() - take) as u64),
        })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let inner = self.shared.inner.lock();
        inner.check_readable(from)?;
        let cursor = Cursor {
            shared: Arc::clone(&self.shared),
            prefix: prefix.to_owned(),
            seen: from,
            ticket: inner.progress_ticket(prefix),
            bell: self.shared.bell.subscribe(),
            open: self.shared.open.clone(),
            over: false,
        };
        Ok(Box::pin(futures::stream::unfold(cursor, Cursor::next)))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.shared.inner.lock().compact(before);
        self.shared.bell.send_replace(());
        Ok(())
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.inner.lock().revision)
    }

    async fn request_progress(&self, prefix: &str) -> Result<(), StoreError> {
        let mut inner = self.shared.inner.lock();
        *inner.progress_asked.entry(prefix.to_owned()).or_default() += 1;
        self.shared.bell.send_replace(());
        Ok(())
    }
}
