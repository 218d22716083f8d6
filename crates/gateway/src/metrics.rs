//! What a gateway counts. Labels are model names of routes and status codes: bounded by what is configured.

use std::sync::{Arc, atomic::AtomicU64};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) model: String,
    pub(crate) code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ModelLabels {
    pub(crate) model: String,
}

/// The metrics of a gateway.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    pub(crate) requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    pub(crate) retries: Family<ModelLabels, Counter<u64, AtomicU64>>,
    pub(crate) first_byte: Family<ModelLabels, Histogram, fn() -> Histogram>,
}

fn buckets() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            retries: Family::default(),
            first_byte: Family::new_with_constructor(buckets),
        };
        let mut registry = metrics.registry.lock();
        registry.register(
            "setpoint_gateway_requests",
            "Requests answered",
            metrics.requests.clone(),
        );
        registry.register(
            "setpoint_gateway_retries",
            "Requests tried on another replica",
            metrics.retries.clone(),
        );
        registry.register(
            "setpoint_gateway_first_byte_seconds",
            "Time from request to the head of the answer",
            metrics.first_byte.clone(),
        );
        drop(registry);
        metrics
    }
}

impl Metrics {
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        // writing to a String cannot fail
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry.lock());
        out
    }
}
