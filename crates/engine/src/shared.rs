//! What all loops of an engine share, and how a plan is computed without letting it harm the others.

use std::{
    any::Any,
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use setpoint_reconcile::{Key, Now, Reason};

use crate::{
    backoff::Backoff,
    cache::Caches,
    metrics::Metrics,
    wake::{Footprint, Recording},
};

/// A plan panicked.
pub(crate) const PANICKED: Reason = Reason::new("ReconcilePanicked");
/// A run went past its deadline.
pub(crate) const TIMED_OUT: Reason = Reason::new("ReconcileTimedOut");
/// Too many plans of this reconciler do not come back.
pub(crate) const STALLED: Reason = Reason::new("ReconcileStalled");
/// A write was refused or not answered.
pub(crate) const FAILED: Reason = Reason::new("ReconcileFailed");
/// A key failed so often that it is tried rarely from now on.
pub(crate) const QUARANTINED: Reason = Reason::new("ReconcileQuarantined");
/// A key that was in quarantine works again.
pub(crate) const RECOVERED: Reason = Reason::new("ReconcileRecovered");

/// Plans of one reconciler that were given up on and still occupy a thread. Each is a thread that spins or sleeps: beyond so many, the
/// reconciler waits for them instead of taking more.
const ABANDONED: usize = 4;

/// How hard a reconciler may work, and when it gives up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Objects that are planned and committed at the same time.
    pub concurrency: u16,
    /// Longest run, plan and commit together.
    pub deadline: Duration,
    /// Each object is looked at again after so long even if nothing seems to have changed, give or take a fifth.
    pub drift_scan: Duration,
    /// A pass waits so long after a wake for more to come. Not used for reconcilers of single objects.
    pub debounce: Duration,
    /// Delays of failing keys.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 8,
            deadline: Duration::from_secs(30),
            drift_scan: Duration::from_secs(600),
            debounce: Duration::from_millis(5),
            backoff: Backoff::default(),
        }
    }
}

/// What time it is. Injected, so that tests and simulations own it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) caches: Arc<Caches>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn now(&self) -> Now {
        Now::at((self.clock)())
    }
}

/// A run that failed by itself: what to tell and count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Label of the run in the metrics.
    pub(crate) result: &'static str,
}

impl Failure {
    pub(crate) fn timed_out(deadline: Duration) -> Self {
        let message = format!("the run did not end within {} s and was cut", deadline.as_secs_f64());
        Self {
            reason: TIMED_OUT,
            message,
            result: "timed_out",
        }
    }
}

/// The keys of one reconciler whose plan occupies a thread.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Mutex<HashSet<Key>>>);

struct Occupied(Threads, Key);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

impl Threads {
    /// A key has one plan at most: one that hangs does not take thread after thread, so it cannot use up what others need.
    fn occupy(&self, key: &Key, limits: &Limits) -> Result<Occupied, Failure> {
        let mut occupied = self.0.lock();
        if occupied.contains(key) {
            return Err(Failure {
                result: "stalled",
                ..Failure::timed_out(limits.deadline)
            });
        }
        if occupied.len() >= usize::from(limits.concurrency) + ABANDONED {
            let message = format!("{} earlier plans of this reconciler have not come back", occupied.len());
            return Err(Failure {
                reason: STALLED,
                message,
                result: "stalled",
            });
        }
        occupied.insert(key.clone());
        Ok(Occupied(self.clone(), key.clone()))
    }
}

/// Computes a plan on a thread of its own, where a panic ends in a [`Failure`] and a loop holds up nobody.
pub(crate) async fn isolated<T: Send + 'static>(
    shared: &Shared,
    threads: &Threads,
    key: &Key,
    limits: &Limits,
    plan: impl FnOnce(&Recording) -> T + Send + 'static,
) -> Result<(T, BTreeSet<Footprint>), Failure> {
    let occupied = threads.occupy(key, limits)?;
    let caches = shared.caches.clone();
    let span = tracing::Span::current();
    let planned = tokio::task::spawn_blocking(move || {
        let _occupied = occupied;
        span.in_scope(|| {
            let recording = Recording::over(caches);
            let plan = plan(&recording);
            (plan, recording.into_footprints())
        })
    });
    planned.await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => Failure {
            reason: PANICKED,
            message: message_of(panic.as_ref()),
            result: "panicked",
        },
        // The runtime is being shut down.
        Err(_) => Failure {
            reason: STALLED,
            message: "the plan was cancelled".to_owned(),
            result: "stalled",
        },
    })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the plan panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_do_not_come_back_are_bounded() {
        let threads = Threads::default();
        let limits = Limits {
            concurrency: 2,
            ..Limits::default()
        };
        let key = |number: usize| Key::cluster(number.to_string());
        let occupied: Vec<_> = (0..6).map(|number| threads.occupy(&key(number), &limits)).collect();
        assert!(occupied.iter().all(Result::is_ok));
        assert_eq!(
            threads.occupy(&key(6), &limits).err().map(|failure| failure.reason),
            Some(STALLED)
        );
        drop(occupied);
        let first = threads.occupy(&key(0), &limits);
        assert_eq!(
            threads.occupy(&key(0), &limits).err().map(|failure| failure.reason),
            Some(TIMED_OUT)
        );
        drop(first);
        assert!(threads.occupy(&key(0), &limits).is_ok());
    }
}
