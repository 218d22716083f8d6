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

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
pub use setpoint_meta::Revision;

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
    async fn list(&self, prefix: &str, at: Option<Revision>, after: Option<&Key>, limit: usize) -> Result<Page, StoreError>;

    /// Everything that happens below `prefix` after revision `from`.
    /// `from` = current: only what is to come. A `from` that is compacted or in the future is an error.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Forgets what only revisions before `before` show. Idempotent; `before` beyond current is clamped.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;

    /// The current revision (linearizable).
    async fn current(&self) -> Result<Revision, StoreError>;
}
