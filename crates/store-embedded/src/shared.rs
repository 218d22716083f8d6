//! What the handle, the writer, the checkpoint and the watches share.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use setpoint_store::{Revision, StoreError};

use crate::{mvcc::Mvcc, watch::Watchers};

/// The shared part of an open store.
pub(crate) struct Shared {
    /// Written by the writer thread only. Never held across an await, nor for more than one chunk of keys.
    pub(crate) state: RwLock<Mvcc>,
    /// Who still reads which past revision. Taken only while `state` is held, so that a purge cannot miss a pin.
    pins: Mutex<BTreeMap<Revision, usize>>,
    pub(crate) watchers: Watchers,
    /// Why the store takes no more writes, once it does not.
    read_only: OnceLock<String>,
    closed: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) progress_every: Duration,
}

/// Counts since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) largest_batch: AtomicU64,
    pub(crate) last_fsync_nanos: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) failed_checkpoints: AtomicU64,
}

impl Shared {
    pub(crate) fn new(state: Mvcc, progress_every: Duration) -> Self {
        Self {
            state: RwLock::new(state),
            pins: Mutex::default(),
            watchers: Watchers::default(),
            read_only: OnceLock::new(),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
            progress_every,
        }
    }

    /// The refusal that every commit gets, once there is one.
    pub(crate) fn refusal(&self) -> Option<StoreError> {
        self.read_only.get().map(|why| StoreError::ReadOnly(why.clone()))
    }

    /// Takes no more writes from now on. The first reason stays.
    pub(crate) fn refuse_writes(&self, why: String) {
        tracing::error!(reason = %why, "the store is read-only from now on");
        let _ = self.read_only.set(why);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.watchers.wake_all();
    }

    /// Keeps a revision readable for as long as the pin lives, though the window moves on. `state` proves that the caller holds the
    /// lock under which it saw that the revision is readable.
    pub(crate) fn pin(&self, _state: &RwLockReadGuard<'_, Mvcc>, at: Revision) -> Pin<'_> {
        *self.pins.lock().entry(at).or_default() += 1;
        Pin { shared: self, at }
    }

    /// Frees one batch that nobody sees any more. Answers whether there may be more.
    pub(crate) fn purge(&self) -> bool {
        let mut state = self.state.write();
        let pinned = self.pins.lock().keys().next().copied();
        state.purge(pinned)
    }
}

/// Keeps a revision readable. See [`Shared::pin`].
pub(crate) struct Pin<'a> {
    shared: &'a Shared,
    at: Revision,
}

impl Pin<'_> {
    pub(crate) fn revision(&self) -> Revision {
        self.at
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock();
        if let Some(count) = pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.at);
            }
        }
    }
}
