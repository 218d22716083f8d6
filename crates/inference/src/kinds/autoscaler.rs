//! `Autoscaler`: how many replicas a deployment should have, and why. One for each autoscaled ModelDeployment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::definition::{Column, Definition};
use super::{Condition, LocalRef, MicroTime, Time};

kind! {
    /// How many replicas a deployment should have, decided from what gateways measure.
    pub struct Autoscaler in "inference.setpoint.dev/v1alpha1", plural "autoscalers", scope Namespaced {
        /// What is wanted.
        spec: AutoscalerSpec,
        /// What gateways measured; each gateway applies its own entry.
        part signals: Signals,
        /// The decision and its inputs; written by the autoscaler reconciler.
        part status: AutoscalerStatus,
    }
}

/// What to scale, between which bounds, by which law. Written by the deployment reconciler.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerSpec {
    /// The ModelDeployment, in the same namespace.
    pub target: LocalRef,
    /// Where to start, and where to start again whenever this changes.
    #[schemars(range(min = 0, max = 100_000))]
    pub baseline_replicas: u32,
    /// Never fewer than this.
    #[schemars(range(min = 0, max = 100_000))]
    pub min_replicas: u32,
    /// Never more than this.
    #[schemars(range(min = 0, max = 100_000))]
    pub max_replicas: u32,
    /// What is measured, and what each replica should carry of it.
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub metrics: Vec<Metric>,
    /// Windows and tolerances.
    #[serde(default)]
    pub behavior: Behavior,
}

/// A measure and what one replica should carry of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// What is measured.
    #[serde(rename = "type", default)]
    pub type_: MetricType,
    /// How much of it one replica should carry.
    #[serde(default = "default_target")]
    #[schemars(range(min = 1, max = 100_000))]
    pub target: u32,
}

impl Default for Metric {
    fn default() -> Self {
        Self {
            type_: MetricType::default(),
            target: default_target(),
        }
    }
}

/// Measures of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum MetricType {
    /// Requests in flight at the gateways, those that wait included.
    #[default]
    Concurrency,
}

/// Windows and tolerances of the law (after Knative's autoscaler and HorizontalPodAutoscaler v2 `behavior`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// The load must be this many percent off before anything changes.
    #[serde(default = "default_tolerance")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance_percent: u32,
    /// Panic begins when the short window asks for at least this percentage of the ready replicas.
    #[serde(default = "default_panic_threshold")]
    #[schemars(range(min = 110, max = 1000))]
    pub panic_threshold_percent: u32,
    /// Panic, in which nothing scales down, lasts this long after its last cause.
    #[serde(default = "default_stable_window")]
    #[schemars(range(min = 1, max = 3600))]
    pub panic_hold_seconds: u32,
    /// Scaling down goes no lower than the highest recommendation of this many seconds.
    #[serde(default = "default_stabilization")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: u32,
    /// Scaling up goes no higher than the lowest recommendation of this many seconds.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_up_stabilization_seconds: u32,
    /// A gateway's signal older than this says nothing: the load is unknown, which is not zero.
    #[serde(default = "default_stale")]
    #[schemars(range(min = 2, max = 600))]
    pub stale_after_seconds: u32,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            tolerance_percent: default_tolerance(),
            panic_threshold_percent: default_panic_threshold(),
            panic_hold_seconds: default_stable_window(),
            scale_down_stabilization_seconds: default_stabilization(),
            scale_up_stabilization_seconds: 0,
            stale_after_seconds: default_stale(),
        }
    }
}

fn default_target() -> u32 {
    16
}
fn default_tolerance() -> u32 {
    10
}
fn default_panic_threshold() -> u32 {
    200
}
fn default_stable_window() -> u32 {
    60
}
fn default_stabilization() -> u32 {
    300
}
fn default_stale() -> u32 {
    30
}

/// What gateways measured for one deployment: one entry a gateway, which applies it under its own field manager.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend(
    "maxItems" = 256,
    "x-kubernetes-list-type" = "map",
    "x-kubernetes-list-map-keys" = ["source"]
))]
pub struct Signals(pub Vec<Signal>);

/// What one gateway measured. A gateway reports zero as zero, and goes on reporting it: silence is not zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    /// The gateway's name.
    #[schemars(length(min = 1, max = 253))]
    pub source: String,
    /// When the windows ended.
    pub observed_at: MicroTime,
    /// Length of the short window, in seconds (6 where nothing says otherwise).
    #[serde(default = "default_short_window")]
    #[schemars(range(min = 1, max = 600))]
    pub window_seconds: u32,
    /// Requests in flight, those that wait included, averaged over the short window.
    #[schemars(range(min = 0))]
    pub concurrency: f64,
    /// Length of the long window, in seconds (60 where nothing says otherwise).
    #[serde(default = "default_stable_window")]
    #[schemars(range(min = 1, max = 3600))]
    pub stable_window_seconds: u32,
    /// The same average over the long window, or over as much of it as the gateway has been up. Absent: as the short one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub stable_concurrency: Option<f64>,
    /// Requests that began, a second, over the short window.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub requests_per_second: f64,
    /// Requests that waited for a replica at `observedAt`.
    #[serde(default)]
    pub queued: u32,
}

fn default_short_window() -> u32 {
    6
}

/// Condition: every gateway's signal is fresh, so that the decision follows the load.
pub const SIGNALS_FRESH: &str = "SignalsFresh";
/// Condition: the load asks for less than the minimum or more than the maximum.
pub const LIMITED: &str = "Limited";

/// The decision and its inputs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many replicas there should be. The deployment reconciler follows it.
    #[serde(default)]
    pub desired_replicas: u32,
    /// The `baselineReplicas` that this decision started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<u32>,
    /// Requests in flight over all gateways, long window. Absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_concurrency: Option<f64>,
    /// Nothing scales down before this time, since a burst was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_until: Option<Time>,
    /// When `desiredReplicas` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// The last decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Recommendations within the stabilization windows, oldest first, thinned to at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub recommendations: Vec<Recommendation>,
    /// `SignalsFresh`, `Limited`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What was decided, from what, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub time: Time,
    /// A stable word for what decided: `Steady`, `ScaleUp`, `ScaleDown`, `Panic`, `Stabilizing`, `WithinTolerance`, `SignalsMissing`,
    /// `Baseline`, `AtMinimum`, `AtMaximum`.
    pub reason: String,
    /// The same for people, with its numbers.
    pub message: String,
    /// Load over the long window, all gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_concurrency: Option<f64>,
    /// Load over the short window, all gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_concurrency: Option<f64>,
    /// What one replica should carry.
    pub target: u32,
    /// Replicas that could take requests.
    pub ready_replicas: u32,
    /// Replicas on their way, which count as capacity.
    pub starting_replicas: u32,
    /// What the law asked for before windows and bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<u32>,
    /// What was decided.
    pub desired: u32,
    /// Gateways that were heard.
    pub sources: u32,
    /// Gateways whose signal is too old.
    pub stale_sources: u32,
}

/// What the law asked for from some time on, until the next one or until now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// Since when.
    pub time: Time,
    /// The most replicas that were asked for.
    pub replicas: u32,
    /// The fewest.
    pub lowest: u32,
}

pub(super) fn definition() -> Definition {
    Definition::new::<Autoscaler, AutoscalerSpec>(
        "How many replicas a deployment should have, decided from what gateways measure.",
    )
    .short_names(&["as"])
    .part::<AutoscalerStatus>("status")
    .part::<Signals>("signals")
    .columns(&[
        Column::new("Target", "string", ".spec.target.name"),
        Column::new("Desired", "integer", ".status.desiredReplicas"),
        Column::new("Min", "integer", ".spec.minReplicas"),
        Column::new("Max", "integer", ".spec.maxReplicas"),
        Column::new("Load", "number", ".status.currentConcurrency"),
        Column::new("Reason", "string", ".status.decision.reason"),
        Column::AGE,
        Column::new("Message", "string", ".status.decision.message").wide(),
    ])
}
