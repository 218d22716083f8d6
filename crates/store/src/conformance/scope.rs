//! What the cases are written with: a store, below a prefix of the case's own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;

use super::Subject;
use crate::{
    Event, Key, Op, Page, Precondition, Revision, Store, StoreError, Txn, Versioned, WatchEnd, WatchItem, WatchStream,
};

/// How long a case waits for what must come. Far longer than any backend takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store, below a prefix. Names in its methods are what follows the prefix.
#[derive(Clone)]
pub struct Scope {
    /// The store itself.
    pub store: Arc<dyn Store>,
    prefix: String,
    /// Where the store was when the case began.
    pub start: Revision,
}

impl Scope {
    /// Opens a store for the case of this name.
    pub async fn open(subject: &dyn Subject, case: &str) -> Self {
        let store = subject.open().await;
        Self::on(store, case).await
    }

    /// A scope of this name in a store.
    pub async fn on(store: Arc<dyn Store>, case: &str) -> Self {
        let start = store.current().await.expect("the current revision");
        // The start makes the prefix new when a backend gives out the same database again.
        Self {
            store,
            prefix: format!("/conformance/{case}-{start}/"),
            start,
        }
    }

    /// The same scope in a store that was opened again. There must be no clone of the scope.
    pub async fn reopen(self, subject: &dyn Subject) -> Self {
        let Self { store, prefix, start } = self;
        Self {
            store: subject.reopen(store).await,
            prefix,
            start,
        }
    }

    /// The prefix, which ends with a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> Key {
        Key::new(format!("{}{name}", self.prefix))
    }

    /// What follows the prefix in the key.
    pub fn name(&self, key: &Key) -> String {
        key.as_str()
            .strip_prefix(&self.prefix)
            .expect("a key of the scope")
            .to_owned()
    }

    /// A put.
    pub fn put_op(&self, name: &str, value: &str) -> Op {
        Op::Put(self.key(name), Bytes::from(value.to_owned()))
    }

    /// Commits these operations without preconditions.
    pub async fn commit(&self, ops: Vec<Op>) -> Revision {
        let txn = Txn {
            preconditions: vec![],
            ops,
        };
        self.store.commit(txn).await.expect("a commit without preconditions")
    }

    /// Commits these operations under these preconditions.
    pub async fn commit_if(&self, preconditions: Vec<Precondition>, ops: Vec<Op>) -> Result<Revision, StoreError> {
        self.store.commit(Txn { preconditions, ops }).await
    }

    /// Sets a key.
    pub async fn put(&self, name: &str, value: &str) -> Revision {
        self.commit(vec![self.put_op(name, value)]).await
    }

    /// Removes a key, which exists.
    pub async fn delete(&self, name: &str) -> Revision {
        self.commit(vec![Op::Delete(self.key(name))]).await
    }

    /// The value and history of a key.
    pub async fn get(&self, name: &str) -> Option<Versioned> {
        self.store.get(&self.key(name), None).await.expect("a get")
    }

    /// The value of a key, as text.
    pub async fn text(&self, name: &str) -> Option<String> {
        self.get(name).await.map(|v| text(&v.value))
    }

    /// A page.
    pub async fn page(&self, at: Option<Revision>, after: Option<&str>, limit: usize) -> Page {
        let after = after.map(|name| self.key(name));
        self.store
            .list(&self.prefix, at, after.as_ref(), limit)
            .await
            .expect("a list")
    }

    /// All keys with their values, as `name=value`.
    pub async fn all(&self, at: Option<Revision>) -> Vec<String> {
        let page = self.page(at, None, 0).await;
        assert!(!page.more, "a list without a limit is whole");
        page.items
            .iter()
            .map(|(key, v)| format!("{}={}", self.name(key), text(&v.value)))
            .collect()
    }

    /// A watch of the whole scope.
    pub async fn watch(&self, from: Revision) -> Watcher {
        Watcher(self.store.watch(&self.prefix, from).await.expect("a watch"))
    }

    /// `name=value` or `-name`, with the revision after the start of the case.
    pub fn show(&self, event: &Event) -> String {
        let after = event.revision.get() - self.start.get();
        match &event.current {
            Some(v) => format!("{after} {}={}", self.name(&event.key), text(&v.value)),
            None => format!("{after} -{}", self.name(&event.key)),
        }
    }
}

/// The bytes as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A watch, with patience.
pub struct Watcher(WatchStream);

impl Watcher {
    /// A watch of the caller's own making.
    pub fn new(stream: WatchStream) -> Self {
        Self(stream)
    }

    /// The next item.
    pub async fn item(&mut self) -> Option<Result<WatchItem, WatchEnd>> {
        tokio::time::timeout(PATIENCE, self.0.next())
            .await
            .expect("a watch item in time")
    }

    /// The next events, at least `count`; panics if the watch ends before. Checks that no commit is split over two items.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while events.len() < count {
            match self.item().await {
                Some(Ok(WatchItem::Events(more))) => {
                    let first = more.first().expect("an item of events has one").revision;
                    assert!(
                        events.last().is_none_or(|last| last.revision < first),
                        "commit {first} is split"
                    );
                    events.extend(more);
                }
                Some(Ok(WatchItem::Progress(_))) => {}
                end => panic!("the watch ended after {} of {count} events: {end:?}", events.len()),
            }
        }
        events
    }

    /// The next progress at or after `at`, and the events before it.
    pub async fn until_progress(&mut self, at: Revision) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.item().await {
                Some(Ok(WatchItem::Events(more))) => events.extend(more),
                Some(Ok(WatchItem::Progress(seen))) if seen >= at => return events,
                Some(Ok(WatchItem::Progress(_))) => {}
                end => panic!("the watch ended: {end:?}"),
            }
        }
    }

    /// The events up to the end of the watch, and why it ended; or `None` as its end when `last` was seen before.
    pub async fn until_end_or(&mut self, last: Revision) -> (Vec<Event>, Option<WatchEnd>) {
        let mut events: Vec<Event> = Vec::new();
        while events.last().is_none_or(|e| e.revision < last) {
            match self.item().await.expect("an error before the end of the stream") {
                Ok(WatchItem::Events(more)) => events.extend(more),
                Ok(WatchItem::Progress(_)) => {}
                Err(end) => {
                    assert_eq!(self.item().await, None, "an error is the last item");
                    return (events, Some(end));
                }
            }
        }
        (events, None)
    }
}
