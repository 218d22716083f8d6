//! How much is in flight, now and on average: the measure that autoscaling stands on.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The short window of a signal, in seconds.
pub(crate) const SHORT: u64 = 6;
/// The long window, in seconds.
pub(crate) const LONG: u64 = 60;

/// The load of one deployment at this gateway. Time-weighted: a request counts for as long as it is in flight.
#[derive(Debug)]
pub(crate) struct Load {
    /// Requests in flight, those that wait included.
    inner: Mutex<Inner>,
    queued: AtomicUsize,
    began: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    in_flight: u64,
    /// Request-seconds up to `at`.
    area: f64,
    at: Instant,
    since: Instant,
    /// (when, area, began) once a second, as far back as the long window.
    marks: VecDeque<(Instant, f64, u64)>,
}

/// Averages at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Averages {
    pub(crate) short: f64,
    /// Over the long window, or over the gateway's life if that is shorter.
    pub(crate) long: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) queued: usize,
    pub(crate) in_flight: u64,
}

impl Default for Load {
    fn default() -> Self {
        let now = Instant::now();
        let inner = Inner {
            in_flight: 0,
            area: 0.0,
            at: now,
            since: now,
            marks: VecDeque::from([(now, 0.0, 0)]),
        };
        Self {
            inner: Mutex::new(inner),
            queued: AtomicUsize::new(0),
            began: AtomicU64::new(0),
        }
    }
}

impl Inner {
    fn advance(&mut self, now: Instant) {
        self.area += self.in_flight as f64 * now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
    }

    /// Average since `ago` before now, from the newest mark that is at least as old.
    fn average(&self, now: Instant, ago: u64) -> f64 {
        let mark = self
            .marks
            .iter()
            .rev()
            .find(|(when, ..)| now.saturating_duration_since(*when) >= Duration::from_secs(ago));
        let (when, area) = mark
            .or(self.marks.front())
            .map_or((self.since, 0.0), |(when, area, _)| (*when, *area));
        let span = now.saturating_duration_since(when).as_secs_f64();
        if span > 0.0 {
            (self.area - area) / span
        } else {
            self.in_flight as f64
        }
    }
}

impl Load {
    /// Counts a request from now until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let mut inner = self.inner.lock();
        inner.advance(Instant::now());
        inner.in_flight += 1;
        self.began.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Counts a request as waiting for a replica until the guard is dropped; `None` when `most` wait already.
    pub(crate) fn wait(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let entered = self
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then_some(n + 1));
        entered.is_ok().then(|| Waiting(self.clone()))
    }

    /// The averages now. Called once a second, which also sets the marks that the windows are measured from.
    pub(crate) fn measure(&self) -> Averages {
        let now = Instant::now();
        let began = self.began.load(Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.advance(now);
        let began_before = inner
            .marks
            .iter()
            .rev()
            .find(|(when, ..)| now.saturating_duration_since(*when) >= Duration::from_secs(SHORT));
        let (when, before) = began_before
            .or(inner.marks.front())
            .map_or((inner.since, 0), |(when, _, n)| (*when, *n));
        let span = now.saturating_duration_since(when).as_secs_f64().max(1.0);
        let averages = Averages {
            short: inner.average(now, SHORT),
            long: inner.average(now, LONG),
            requests_per_second: (began - before) as f64 / span,
            queued: self.queued.load(Ordering::Acquire),
            in_flight: inner.in_flight,
        };
        let area = inner.area;
        inner.marks.push_back((now, area, began));
        while inner.marks.len() > 2 && now.saturating_duration_since(inner.marks[1].0) >= Duration::from_secs(LONG) {
            inner.marks.pop_front();
        }
        averages
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.advance(Instant::now());
        inner.in_flight -= 1;
    }
}

/// A request that waits for a replica.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Load>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn averages_weigh_by_time() {
        let load = Arc::new(Load::default());
        assert_eq!(load.measure().short, 0.0);
        let a = load.begin();
        let b = load.begin();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            load.measure();
        }
        drop(b);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            load.measure();
        }
        // two for three seconds, one for three
        let averages = load.measure();
        assert!((averages.short - 1.5).abs() < 1e-9, "{averages:?}");
        drop(a);
        for _ in 0..70 {
            tokio::time::advance(Duration::from_secs(1)).await;
            load.measure();
        }
        let averages = load.measure();
        assert_eq!((averages.short, averages.long, averages.in_flight), (0.0, 0.0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded() {
        let load = Arc::new(Load::default());
        let first = load.wait(1);
        assert!(first.is_some() && load.wait(1).is_none());
        drop(first);
        assert!(load.wait(1).is_some());
    }
}
