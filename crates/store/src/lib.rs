//! The store contract: one versioned, watchable map from keys to bytes, which everything else in Setpoint meets in.
//!
//! # Guarantees
//! - **One revision.** Every successful commit gets a [`Revision`] one greater than the last; all of its operations share it. It never
//!   repeats or goes back, across restarts, compaction and restore.
//! - **Atomic.** A commit's preconditions hold and all of its operations apply, or nothing happens.
//! - **Durable.** When [`Store::commit`] answers `Ok`, the commit survives a crash of the process and of the machine.
//! - **Readable at a revision.** Inside the retention window, [`Store::get`] and [`Store::list`] at revision N answer as they did when N was current.
//! - **Ordered watches.** [`Store::watch`] from N yields every event with revision > N below the prefix, once, in revision order (within one
//!   commit: in operation order), with no gap; or it ends with [`WatchEnd`], never silently skipping.
//!
//! # How one could get it wrong
//! - Acknowledging from a buffer that fsync has not covered; retrying an fsync that failed (the kernel may have dropped the dirty pages).
//! - Publishing to watchers before the commit is durable, or reading a revision that a later failure takes back.
//! - Letting SQL sequence order stand for commit order.
//! - Answering a conflict, or any read, from a commit that is not durable yet: a crash would take back what a client was told.
//!
//! # Exact meanings, so that backends agree
//! - The *oldest readable* revision is where the retention window starts. Reads at it and after it work; before it they are
//!   [`StoreError::Compacted`]. A watch may start from it (and so yields what came after it), not from before it.
//! - [`Revision::ZERO`] is the empty store; it is readable like any other revision until it is compacted.
//! - Preconditions are checked in order, the first that fails names the [`StoreError::Conflict`]. Then operations are checked.
//! - A prefix is a plain string prefix: `/a` covers `/a`, `/ab` and `/a/b`; the empty prefix covers everything.
//! - Dropping the future of [`Store::commit`] does not take the commit back: it may or may not happen.
//!
//! [`MemoryStore`] is this contract in its simplest form; the `conformance` feature holds the suite that every backend passes.

use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
pub use setpoint_meta::Revision;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;

pub use memory::MemoryStore;

/// Longest key, in bytes. A key is group + resource + namespace + name with their slashes: 253 + 253 + 63 + 253 + 13 = 835 at most.
pub const MAX_KEY_BYTES: usize = 1_024;
/// Most operations in one commit, and most preconditions: the default limit of etcd (`--max-txn-ops`), so that a commit is portable.
pub const MAX_TXN_OPS: usize = 128;
/// Most bytes of keys and values in one commit: one object of the largest request body (3 MiB) and 1 MiB of what goes with it.
pub const MAX_TXN_BYTES: usize = 4 << 20;

/// A store key: a `/`-separated path such as `/registry/core/configmaps/default/a`. At most 1,024 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must hold for a commit to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key exists and was last modified at exactly this revision.
    At(Key, Revision),
    /// The key does not exist.
    Absent(Key),
}

/// One change in a commit. A key appears at most once in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set the key to these bytes.
    Put(Key, Bytes),
    /// Remove the key. Removing a key that does not exist is an error of the caller: name it in a precondition.
    Delete(Key),
}

/// A commit request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// Applied in order, all at one revision. May not be empty.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether the commit keeps the bounds of the contract: what each backend checks before it looks at any state.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with the reason.
    pub fn validate(&self) -> Result<(), StoreError> {
        let invalid = |why: String| Err(StoreError::Invalid(why));
        if self.ops.is_empty() {
            return invalid("it has no operation".into());
        }
        let longest = self.ops.len().max(self.preconditions.len());
        if longest > MAX_TXN_OPS {
            return invalid(format!(
                "it has {longest} operations or preconditions; at most {MAX_TXN_OPS} are allowed"
            ));
        }
        let keys = self
            .preconditions
            .iter()
            .map(Precondition::key)
            .chain(self.ops.iter().map(Op::key));
        for key in keys {
            let len = key.as_str().len();
            if len == 0 || len > MAX_KEY_BYTES {
                return invalid(format!("a key has {len} bytes; 1 to {MAX_KEY_BYTES} are allowed"));
            }
        }
        let mut seen = HashSet::with_capacity(self.ops.len());
        if let Some(twice) = self.ops.iter().map(Op::key).find(|key| !seen.insert(key.as_str())) {
            return invalid(format!("key {twice} appears twice"));
        }
        let bytes: usize = self.ops.iter().map(Op::bytes).sum();
        if bytes > MAX_TXN_BYTES {
            return invalid(format!("it has {bytes} bytes; at most {MAX_TXN_BYTES} are allowed"));
        }
        Ok(())
    }
}

impl Precondition {
    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::At(key, _) | Self::Absent(key) => key,
        }
    }

    /// Whether it holds when `current` is the state of its key.
    pub fn holds(&self, current: Option<&Versioned>) -> bool {
        match self {
            Self::At(_, revision) => current.is_some_and(|v| v.modified == *revision),
            Self::Absent(_) => current.is_none(),
        }
    }
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// Bytes of its key and value: what [`MAX_TXN_BYTES`] bounds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.as_str().len() + value.len(),
            Self::Delete(key) => key.as_str().len(),
        }
    }
}

/// A value and where it stands in the history of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes, shared: cloning does not copy.
    pub value: Bytes,
    /// The revision that created the key (since it last did not exist).
    pub created: Revision,
    /// The revision that last modified it: the resourceVersion of a Kubernetes object.
    pub modified: Revision,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Items in key order.
    pub items: Vec<(Key, Versioned)>,
    /// The revision that the page shows.
    pub revision: Revision,
    /// Whether keys remain after the last item.
    pub more: bool,
    /// How many keys remain after this page, if the backend knows it for free.
    pub remaining: Option<u64>,
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// The revision at which it happened.
    pub revision: Revision,
    /// The new state; `None` when the key was deleted.
    pub current: Option<Versioned>,
    /// The state just before, when the key existed and the backend still has it.
    pub previous: Option<Versioned>,
}

/// An item of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// All events of one or more whole commits, in order. Never splits a commit.
    Events(Vec<Event>),
    /// Nothing at or below this revision is still to come (sent when the store has been idle below the prefix, so that caches can prove progress).
    Progress(Revision),
}

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The reader fell behind what the store keeps: list again.
    #[error("revision {from} has been compacted; the oldest readable revision is {oldest}")]
    Compacted {
        /// Where the reader stood.
        from: Revision,
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The store is closing or has lost its backend; resume from the last seen revision.
    #[error("the store's watch was interrupted: {0}")]
    Interrupted(String),
}

/// An ordered stream of what happens below a prefix.
pub type WatchStream = futures::stream::BoxStream<'static, Result<WatchItem, WatchEnd>>;

/// Why a store operation failed. Its retryability is [`StoreError::retry`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing was written. Carries what is there now.
    #[error("precondition failed on {key}")]
    Conflict {
        /// The key whose precondition failed first.
        key: Key,
        /// Its state when the commit was refused.
        current: Option<Versioned>,
    },
    /// The revision asked for is older than the retention window.
    #[error("revision {asked} has been compacted; the oldest readable revision is {oldest}")]
    Compacted {
        /// The revision asked for.
        asked: Revision,
        /// The oldest readable one.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {asked} is in the future; the store is at {current}")]
    Future {
        /// The revision asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The request cannot be carried out as it stands (too large, a key twice, no operation).
    #[error("invalid commit: {0}")]
    Invalid(String),
    /// The store refuses writes (full disk, failed fsync) and says why; reads go on. Needs an operator.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The backend could not be reached, or its answer was lost. For a commit the outcome is *unknown*.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What was read is damaged (checksum).
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// Whether trying the same thing again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Yes, as it stands, after a pause.
    Later,
    /// Yes, after reading again.
    AfterRead,
    /// No.
    Never,
}

impl StoreError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) => Retry::Later,
            Self::Conflict { .. } | Self::Compacted { .. } => Retry::AfterRead,
            Self::Future { .. } => Retry::Later,
            Self::Invalid(_) | Self::ReadOnly(_) | Self::Corrupt(_) => Retry::Never,
        }
    }
}

/// A versioned, watchable store. See the crate documentation for the contract.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies `txn` atomically and durably; answers the new revision.
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError>;

    /// The value of `key`, now (linearizable) or at a past revision.
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Versioned>, StoreError>;

    /// Keys that start with `prefix`, in key order, strictly after `after`, at most `limit` (0 = all), now or at a past revision.
    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Everything that happens below `prefix` after revision `from`.
    /// `from` = current: only what is to come. A `from` that is compacted or in the future is an error.
    /// Nothing is delivered before the stream is polled; a stream that is not polled for longer than the retention window ends
    /// with [`WatchEnd::Compacted`]. After an error the stream is over.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Forgets what only revisions before `before` show. Idempotent; `before` beyond current is clamped.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;

    /// The current revision (linearizable).
    async fn current(&self) -> Result<Revision, StoreError>;

    /// Asks the open watches of exactly this prefix to send [`WatchItem::Progress`] for the current revision or a later one, soon.
    /// So a cache proves that it has seen all that [`Store::current`] covers (Kubernetes KEP-2340, consistent reads from cache).
    /// It is a hint: a backend may send progress to more watches, or merge requests, but must not ignore it.
    async fn request_progress(&self, prefix: &str) -> Result<(), StoreError>;
}
