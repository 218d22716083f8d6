//! What the server counts, under Kubernetes' names where they exist.
//!
//! Labels are bounded: a resource label is a served kind (anything else is `""`), verbs and codes are fixed sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct DurationLabels {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
}

/// The registry of the process and the API server's own metrics in it.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Gauge<i64, AtomicI64>,
    pub(crate) watches: Gauge<i64, AtomicI64>,
}

/// Buckets of `apiserver_request_duration_seconds`: the reference's, less its widest.
fn durations() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
        };
        metrics.register(|r| {
            r.register("apiserver_request", "Requests answered", metrics.requests.clone());
            r.register(
                "apiserver_request_duration_seconds",
                "Time from request to answer, watches not counted",
                metrics.durations.clone(),
            );
            r.register(
                "apiserver_current_inflight_requests",
                "Requests being handled, watches not counted",
                metrics.in_flight.clone(),
            );
            r.register(
                "apiserver_longrunning_requests",
                "Open watches",
                metrics.watches.clone(),
            );
        });
        metrics
    }
}

impl Metrics {
    /// Adds metrics of another part of the process to what `/metrics` shows.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    pub(crate) fn answered(&self, labels: RequestLabels, took: Duration) {
        if labels.verb != "watch" {
            let duration = DurationLabels {
                verb: labels.verb,
                resource: labels.resource.clone(),
            };
            self.durations.get_or_create(&duration).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&labels).inc();
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        // writing to a String cannot fail
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry.lock());
        out
    }
}
