//! What the engine measures. Labels are names of reconcilers, results and kinds: bounded by the program, never by what users store.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

/// How a run ended, or what was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) reconciler: &'static str,
    pub(crate) result: &'static str,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Write {
    pub(crate) reconciler: &'static str,
    pub(crate) what: &'static str,
}

/// Which reconciler.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Name {
    pub(crate) reconciler: &'static str,
}

/// Which kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfKind {
    pub(crate) kind: String,
}

#[derive(Clone)]
pub(crate) struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        // 0.5 ms to 16 s, doubling: a run of the fast path to one that meets its deadline.
        Histogram::new((0..16).map(|power| 0.000_5 * f64::from(1 << power)))
    }
}

/// The engine's metrics. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) runs: Family<Outcome, Counter>,
    pub(crate) writes: Family<Write, Counter>,
    pub(crate) duration: Family<Name, Histogram, Seconds>,
    pub(crate) depth: Family<Name, Gauge>,
    pub(crate) backing_off: Family<Name, Gauge>,
    pub(crate) quarantined: Family<Name, Gauge>,
    pub(crate) stale_views: Family<Name, Counter>,
    pub(crate) undecodable: Family<OfKind, Counter>,
    pub(crate) leader: Gauge,
    pub(crate) events_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            runs: Family::default(),
            writes: Family::default(),
            duration: Family::new_with_constructor(Seconds),
            depth: Family::default(),
            backing_off: Family::default(),
            quarantined: Family::default(),
            stale_views: Family::default(),
            undecodable: Family::default(),
            leader: Gauge::default(),
            events_dropped: Counter::default(),
        }
    }
}

impl Metrics {
    /// Metrics that this registry shows, under their full names.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "setpoint_reconcile",
            "Runs of reconcilers, by how they ended",
            metrics.runs.clone(),
        );
        registry.register(
            "setpoint_reconcile_writes",
            "Writes of reconcilers, by what was written",
            metrics.writes.clone(),
        );
        registry.register(
            "setpoint_reconcile_duration_seconds",
            "Time of a run, from the start of the plan to the end of the commit",
            metrics.duration.clone(),
        );
        registry.register(
            "setpoint_reconcile_queue_depth",
            "Keys that wait for a run",
            metrics.depth.clone(),
        );
        registry.register(
            "setpoint_reconcile_backoff_keys",
            "Keys whose last run failed",
            metrics.backing_off.clone(),
        );
        registry.register(
            "setpoint_reconcile_quarantined_keys",
            "Keys that keep failing and are tried rarely",
            metrics.quarantined.clone(),
        );
        registry.register(
            "setpoint_reconcile_stale_views",
            "Runs whose view had not reached the last commit within 30 s",
            metrics.stale_views.clone(),
        );
        registry.register(
            "setpoint_engine_undecodable_objects",
            "Objects left out of the view because they do not decode",
            metrics.undecodable.clone(),
        );
        registry.register(
            "setpoint_engine_leader",
            "1 while this process may commit",
            metrics.leader.clone(),
        );
        registry.register(
            "setpoint_engine_events_dropped",
            "Events not recorded because too many came or the server refused them",
            metrics.events_dropped.clone(),
        );
        metrics
    }
}
