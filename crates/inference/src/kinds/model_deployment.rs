//! `ModelDeployment`: a number of replicas of one model. The kind that users write.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use setpoint_reconcile::kind;

use super::autoscaler::{Behavior, Metric};
use super::definition::{Column, Definition};
use super::{Accelerator, Condition, Engine, HostResources, LocalRef, Placement};

kind! {
    /// A number of replicas of one model, kept running and kept current.
    pub struct ModelDeployment in "inference.setpoint.dev/v1alpha1", plural "modeldeployments", scope Namespaced {
        /// What is wanted.
        spec: ModelDeploymentSpec,
        /// What became of it; written by the deployment reconciler.
        part status: ModelDeploymentStatus,
    }
}

/// What is wanted of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The Model to serve, in the same namespace.
    pub model_ref: LocalRef,
    /// How many replicas are wanted. With autoscaling, where the autoscaler starts: a change restarts it from here.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: u32,
    /// Scale with the load. Without it, `replicas` is what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Acceptable accelerators, in order of preference: the first that fits wins. None at all means the host's processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub accelerators: Vec<Accelerator>,
    /// Processor and memory of the host for each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<HostResources>,
    /// Where replicas may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The model server.
    #[serde(default)]
    pub engine: Engine,
    /// How a change of model, engine or shape reaches the replicas.
    #[serde(default)]
    pub rollout: Rollout,
    /// Replicas of higher priority are placed first.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Seconds that a replica gets to finish its requests before it is stopped.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
}

/// Bounds and law of the number of replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.minReplicas <= self.maxReplicas",
    "message": "minReplicas must not be greater than maxReplicas",
    "fieldPath": ".minReplicas",
}]))]
pub struct Autoscaling {
    /// Never fewer than this.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_replicas: u32,
    /// Never more than this. Quota is charged for it.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_replicas: u32,
    /// What is measured, and what each replica should carry of it. The metric that asks for most replicas wins.
    #[serde(default = "default_metrics")]
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub metrics: Vec<Metric>,
    /// Windows and tolerances.
    #[serde(default)]
    pub behavior: Behavior,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many replicas beyond the wanted number may exist: a number, or a percentage rounded up.
    #[serde(default = "default_max_surge")]
    #[schemars(extend("pattern" = PERCENT_PATTERN, "minimum" = 0, "maximum" = 100_000))]
    pub max_surge: IntOrString,
    /// How many of the wanted number may be missing: a number, or a percentage rounded down. Where both are zero, one may be missing.
    #[serde(default = "default_max_unavailable")]
    #[schemars(extend("pattern" = PERCENT_PATTERN, "minimum" = 0, "maximum" = 100_000))]
    pub max_unavailable: IntOrString,
}

const PERCENT_PATTERN: &str = "^(100|[0-9]{1,2})%$";

fn one() -> u32 {
    1
}
fn thirty() -> u32 {
    30
}
fn default_max_surge() -> IntOrString {
    IntOrString::Int(1)
}
fn default_max_unavailable() -> IntOrString {
    IntOrString::Int(0)
}
fn default_metrics() -> Vec<Metric> {
    vec![Metric::default()]
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_surge: default_max_surge(),
            max_unavailable: default_max_unavailable(),
        }
    }
}

/// As the API server fills it in.
impl Default for ModelDeploymentSpec {
    fn default() -> Self {
        Self::of_model("")
    }
}

impl ModelDeploymentSpec {
    /// A deployment of `model` with every default that the API server would fill in.
    pub fn of_model(model: &str) -> Self {
        Self {
            model_ref: LocalRef::new(model),
            replicas: one(),
            autoscaling: None,
            accelerators: Vec::new(),
            resources: None,
            placement: None,
            engine: Engine::default(),
            rollout: Rollout::default(),
            priority: 0,
            drain_seconds: thirty(),
        }
    }
}

/// Condition: at least as many replicas as must be are ready.
pub const AVAILABLE: &str = "Available";
/// Condition: replicas are being made, moved, replaced or removed.
pub const PROGRESSING: &str = "Progressing";
/// Condition: something keeps the deployment from what is wanted; the reason and message say what.
pub const BLOCKED: &str = "Blocked";

/// What became of a deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many replicas are wanted now: by the autoscaler if there is one, by `spec.replicas` otherwise.
    #[serde(default)]
    pub desired_replicas: u32,
    /// Replicas that exist and are not being removed.
    #[serde(default)]
    pub replicas: u32,
    /// Replicas that can take requests.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Replicas of the current revision.
    #[serde(default)]
    pub updated_replicas: u32,
    /// Wanted replicas that cannot take requests.
    #[serde(default)]
    pub unavailable_replicas: u32,
    /// Replicas that are being removed: they finish their requests, or their worker is gone.
    #[serde(default)]
    pub terminating_replicas: u32,
    /// The current revision: a digest of what makes a replica differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The label selector of the replicas, for `/scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// `Available`, `Progressing`, `Blocked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Why replicas are not placed yet, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["reason"]))]
    pub pending: Vec<PendingReason>,
}

/// Replicas that wait for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingReason {
    /// The scheduler's stable reason.
    pub reason: String,
    /// How many replicas wait for it.
    pub count: u32,
    /// What the scheduler says of the first of them.
    #[serde(default)]
    pub message: String,
}

pub(super) fn definition() -> Definition {
    Definition::new::<ModelDeployment, ModelDeploymentSpec>(
        "A number of replicas of one model, kept running and kept current.",
    )
    .short_names(&["md"])
    .all()
    .part::<ModelDeploymentStatus>("status")
    .scale(json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }))
    .columns(&[
        Column::new("Desired", "integer", ".status.desiredReplicas"),
        Column::new("Ready", "integer", ".status.readyReplicas"),
        Column::new("Up-to-date", "integer", ".status.updatedReplicas"),
        Column::new("Model", "string", ".spec.modelRef.name"),
        Column::new("Pending", "string", ".status.pending[0].reason"),
        Column::AGE,
        Column::new("Min", "integer", ".spec.autoscaling.minReplicas").wide(),
        Column::new("Max", "integer", ".spec.autoscaling.maxReplicas").wide(),
        Column::new("Blocked", "string", ".status.conditions[?(@.type==\"Blocked\")].reason").wide(),
    ])
}
