//! The embedded store: a directory on the local file system, no server. The default backend.
//!
//! # Guarantees
//! Those of the store contract ([`setpoint_store`]), and:
//! - One process at a time has the directory open; a second one is refused and told who has it.
//! - `kill -9` or a power cut at any instant loses no acknowledged commit and leaves none half done; the next open needs no repair.
//! - Damage to the files is found by checksum and reported with file and offset; it is not served.
//! - After a write or fsync that failed (also a full disk) no commit is acknowledged any more; reads go on. It ends when the store
//!   is opened again.
//! - Past revisions stay readable for the retention window of [`Options`], across restarts.
//!
//! # Assumptions
//! - The file system keeps what fdatasync covered, and a rename is atomic. Network file systems often keep neither.
//! - All live objects fit in memory (about 190 bytes each beside key and value; see `mvcc`).
//! - It is used inside a tokio runtime with its timer on.
//!
//! # Shape
//! ```text
//!  commit ─▶ bounded queue ─▶ writer thread: gather, check, one write, one fdatasync ─▶ state in memory ─▶ watches, answers
//!                                                  │                                      ▲      │
//!                                           log segments ── open: checkpoint + log ───────┘      └─▶ checkpoint thread
//! ```
//! `format` is what is on disk, `mvcc` what is in memory, `writer` the only place that changes either, `recovery` the way back.
//! Why it is a log of our own and not a library: `docs/decisions/0001-embedded-store.md`.

mod checkpoint;
mod disk;
mod format;
mod mvcc;
mod options;
mod recovery;
mod shared;
mod watch;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod sim;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use setpoint_store::{Key, Page, Revision, Store, StoreError, Txn, Versioned, WatchStream};
use tokio::sync::{mpsc, oneshot};

pub use options::{CHANGE_OVERHEAD_BYTES, Options, Retention};

use crate::{
    disk::{Directory, Disk},
    format::FrameWriter,
    recovery::Recovered,
    shared::Shared,
    writer::{Reply, Request, Writer},
};

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{} is in use by another process{}; stop it, or choose another directory",
        path.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, when it could be read.
        holder: Option<u32>,
    },
    /// The file system refused.
    #[error("could not {what}: {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// What had been acknowledged is damaged or missing. Restore a snapshot.
    #[error("{} is damaged at byte {offset}: {why}", path.display())]
    Corrupt {
        /// The file; the directory when a file is missing.
        path: PathBuf,
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong.
        why: String,
    },
}

/// Numbers about an open store, for metrics. Counts are since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The current revision.
    pub revision: Revision,
    /// The oldest readable revision.
    pub oldest: Revision,
    /// Keys that exist now.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Changes in the retention window.
    pub window_changes: u64,
    /// Bytes that count against [`Retention::max_bytes`].
    pub window_bytes: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that were refused by a precondition or for an operation.
    pub refused: u64,
    /// Groups written; `commits / batches` is the mean group.
    pub batches: u64,
    /// Most commits in one group.
    pub largest_batch: u64,
    /// fdatasyncs of the log.
    pub fsyncs: u64,
    /// How long the last one took.
    pub last_fsync: Duration,
    /// Commits that wait for the writer now.
    pub queued: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Checkpoints that failed; the log grows until one succeeds.
    pub failed_checkpoints: u64,
    /// Open watches.
    pub watches: u64,
    /// Why the store is read-only, if it is.
    pub read_only: Option<String>,
}

/// A store in a directory. Dropping it waits for what is queued, and lets go of the directory.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Last, so that the lock goes after the writer.
    _disk: Arc<dyn Disk>,
}

impl EmbeddedStore {
    /// Opens the store in `directory`, making it if it does not exist. Blocks while it reads what is there: about a second for
    /// each gigabyte.
    ///
    /// # Errors
    /// When the directory is in use, cannot be used, or is damaged.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = directory.as_ref();
        let disk = Arc::new(Directory::open(path)?);
        Self::open_on(path, disk, options, unix_ms)
    }

    fn open_on(path: &Path, disk: Arc<dyn Disk>, options: Options, now_ms: fn() -> u64) -> Result<Self, OpenError> {
        let Recovered {
            state,
            log,
            last_ms,
            torn_bytes,
        } = recovery::recover(path, &*disk, &options.retention)?;
        if torn_bytes > 0 {
            tracing::info!(torn_bytes, "cut off a write that was never acknowledged");
        }
        let shared = Arc::new(Shared::new(state, options.progress_every));
        shared
            .counters
            .log_bytes
            .store(log.segments.iter().map(|s| s.bytes).sum(), Ordering::Relaxed);
        let (queue, requests) = mpsc::channel(options.queue.max(1));
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk: Arc::clone(&disk),
            checkpoint_due: options.checkpoint_after_bytes,
            options,
            log,
            now_ms,
            last_ms,
            frame: FrameWriter::default(),
            checkpoint: None,
            checkpoint_asked: Vec::new(),
            own_queue: queue.downgrade(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(requests));
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            what: "start the writer's thread",
            source,
        };
        Ok(Self {
            shared,
            queue: Some(queue),
            writer: Some(thread.map_err(failed)?),
            _disk: disk,
        })
    }

    /// Numbers about it.
    pub fn stats(&self) -> Stats {
        let (revision, oldest, sizes) = {
            let state = self.shared.state.read();
            (state.revision(), state.oldest(), state.sizes())
        };
        let counters = &self.shared.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            revision,
            oldest,
            keys: sizes.live_keys,
            bytes: sizes.live_bytes,
            window_changes: sizes.window_changes,
            window_bytes: sizes.window_bytes,
            log_bytes: count(&counters.log_bytes),
            commits: count(&counters.commits),
            refused: count(&counters.conflicts),
            batches: count(&counters.batches),
            largest_batch: count(&counters.largest_batch),
            fsyncs: count(&counters.fsyncs),
            last_fsync: Duration::from_nanos(count(&counters.last_fsync_nanos)),
            queued: self
                .queue
                .as_ref()
                .map_or(0, |q| (q.max_capacity() - q.capacity()) as u64),
            checkpoints: count(&counters.checkpoints),
            failed_checkpoints: count(&counters.failed_checkpoints),
            watches: self.shared.watchers.count() as u64,
            read_only: self.shared.refusal().map(|e| e.to_string()),
        }
    }

    /// Writes a checkpoint of the start of the retention window now, and waits for it. The store does so by itself when it is due.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it could not be written; nothing is lost then.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.ask(Request::Checkpoint).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let gone =
            || StoreError::Unavailable("the store's writer is gone; what was queued may or may not be kept".into());
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.close();
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        txn.validate()?;
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        self.ask(|reply| Request::Commit(txn, reply)).await
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Versioned>, StoreError> {
        let state = self.shared.state.read();
        match at {
            None => Ok(state.newest(key).map(|(_, v)| v)),
            Some(at) => state.check_readable(at).map(|()| state.get_at(key, at)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        // The first chunk finds out at which revision; the pin keeps it readable for the others.
        let (pin, mut items, mut resume) = {
            let state = self.shared.state.read();
            let at = at.unwrap_or(state.revision());
            state.check_readable(at)?;
            let chunk = state.chunk(prefix, at, after, limit);
            (self.shared.pin(&state, at), chunk.items, chunk.resume)
        };
        let revision = pin.revision();
        while let Some(last) = resume.take_if(|_| items.len() < limit) {
            tokio::task::yield_now().await;
            let chunk = self
                .shared
                .state
                .read()
                .chunk(prefix, revision, Some(&last), limit - items.len());
            items.extend(chunk.items);
            resume = chunk.resume;
        }
        let mut more = false;
        while let Some(last) = resume.take() {
            let any = self.shared.state.read().any_after(prefix, revision, &last);
            match any {
                Ok(any) => more = any,
                Err(go_on) => {
                    resume = Some(go_on);
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(Page {
            items,
            revision,
            more,
            remaining: None,
        })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let state = self.shared.state.read();
        state.check_readable(from)?;
        Ok(watch::stream(&self.shared, &state, prefix, from))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        self.ask(|reply| Request::Compact(before, reply)).await
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.state.read().revision())
    }

    async fn request_progress(&self, prefix: &str) -> Result<(), StoreError> {
        self.shared.watchers.ask_progress(prefix);
        Ok(())
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
