//! `Replica`: one running copy of a model. Three writers, one part each: the deployment reconciler writes `spec`, the scheduler
//! writes `binding`, and the agent of the worker that it is bound to writes `status`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::definition::{Column, Definition};
use super::{Accelerator, Condition, Engine, HostResources, LocalRef, Market, ModelFormat, Money, Placement, Time};

kind! {
    /// One running copy of a model.
    pub struct Replica in "inference.setpoint.dev/v1alpha1", plural "replicas", scope Namespaced {
        /// What is wanted.
        spec: ReplicaSpec,
        /// Where it runs, or why it runs nowhere yet; written by the scheduler.
        part binding: Binding,
        /// What the agent sees; written by the agent of the bound worker.
        part status: ReplicaStatus,
    }
}

/// The label of a replica that names its deployment.
pub const DEPLOYMENT_LABEL: &str = "inference.setpoint.dev/deployment";
/// The label of a replica that names its revision.
pub const REVISION_LABEL: &str = "inference.setpoint.dev/revision";
/// The finalizer that keeps a replica until its process is gone.
pub const AGENT_FINALIZER: &str = "inference.setpoint.dev/agent";

/// All that an agent needs to run the replica, without a look at another object. Never changes once written: a new revision is a
/// new replica.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSpec {
    /// The deployment that it belongs to, in the same namespace.
    pub deployment_ref: LocalRef,
    /// The deployment's revision that it is made from.
    #[schemars(length(min = 1, max = 63))]
    pub revision: String,
    /// The weights.
    pub model: ReplicaModel,
    /// The model server.
    pub engine: Engine,
    /// Acceptable accelerators, in order of preference. None at all means the host's processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub accelerators: Vec<Accelerator>,
    /// Processor and memory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<HostResources>,
    /// Where it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Higher is placed first.
    #[serde(default)]
    pub priority: i32,
    /// Seconds that it gets to finish its requests once it is deleted.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
}

/// The weights of a replica: what its Model said when the revision was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaModel {
    /// The Model's name: also the name under which clients ask for it.
    pub name: String,
    /// Where the weights come from.
    pub uri: String,
    /// What they must hash to: `sha256:` and 64 hexadecimal digits.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Their format.
    #[serde(default)]
    pub format: ModelFormat,
    /// Their size, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// Where a replica runs, or why it runs nowhere yet. Once `worker` is set it never changes: a replica that must move is replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The worker. Absent while the replica waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The flavor of the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Ids of the devices on that worker, which are this replica's alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub devices: Vec<String>,
    /// The worker's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The worker's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The worker's market.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<Market>,
    /// What the replica costs an hour, if the flavor has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cost: Option<Money>,
    /// When it was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Time>,
    /// `Bound`, or a stable word for why it waits.
    #[serde(default)]
    pub reason: String,
    /// The same for people, with its numbers.
    #[serde(default)]
    pub message: String,
    /// How many workers were looked at.
    #[serde(default)]
    pub considered: u32,
    /// How many workers each constraint ruled out; with the workers that fit, they add up to `considered`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["reason"]))]
    pub filtered: Vec<Filtered>,
    /// What would unblock it, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub counterfactuals: Vec<Counterfactual>,
}

/// Workers that one constraint ruled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Filtered {
    /// The constraint, by the same words as `Binding.reason`.
    pub reason: String,
    /// How many workers failed it (and passed every one before it).
    pub workers: u32,
}

/// A single change after which the replica would fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counterfactual {
    /// The change, for people: `drop placement.regions`.
    pub change: String,
    /// How many workers would then fit.
    pub workers: u32,
}

/// How far a replica has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The agent has not begun.
    #[default]
    Pending,
    /// The weights are on their way to the worker.
    Fetching,
    /// The model server has been started and does not answer yet.
    Starting,
    /// It takes requests.
    Ready,
    /// It takes no new requests and finishes the ones it has.
    Draining,
    /// Its process is gone, as was asked for.
    Stopped,
    /// It cannot run here; the message says why. The deployment replaces it.
    Failed,
}

impl Phase {
    /// The phase as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Fetching => "Fetching",
            Self::Starting => "Starting",
            Self::Ready => "Ready",
            Self::Draining => "Draining",
            Self::Stopped => "Stopped",
            Self::Failed => "Failed",
        }
    }
}

/// What the agent sees of a replica.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Whether it takes requests now. Gateways route by this alone.
    #[serde(default)]
    pub ready: bool,
    /// Where it listens, as in `http://127.0.0.1:41200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When the process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it last became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// How often the process was started again.
    #[serde(default)]
    pub restarts: u32,
    /// Progress of the phase Fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// A stable word for the state, where the phase does not say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further conditions of the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How much of the weights has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Bytes that have arrived.
    #[serde(default)]
    pub done_bytes: u64,
    /// Bytes in all, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The share that has arrived, in percent, if the whole is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
}

impl Replica {
    /// The worker that the replica is bound to.
    pub fn worker(&self) -> Option<&str> {
        self.binding.as_ref()?.worker.as_deref()
    }

    /// Whether the agent says that it takes requests. False once it is being deleted: it drains.
    pub fn is_ready(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && self.status.as_ref().is_some_and(|status| status.ready)
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Pending, |status| status.phase)
    }
}

pub(super) fn definition() -> Definition {
    Definition::new::<Replica, ReplicaSpec>("One running copy of a model.")
        .short_names(&["rep"])
        .all()
        .part::<ReplicaStatus>("status")
        .part::<Binding>("binding")
        .columns(&[
            Column::new("Phase", "string", ".status.phase"),
            Column::new("Ready", "boolean", ".status.ready"),
            Column::new("Worker", "string", ".binding.worker"),
            Column::new("Flavor", "string", ".binding.flavor"),
            Column::new("Region", "string", ".binding.region"),
            Column::new("Reason", "string", ".binding.reason"),
            Column::AGE,
            Column::new("Restarts", "integer", ".status.restarts").wide(),
            Column::new("Zone", "string", ".binding.zone").wide(),
            Column::new("Endpoint", "string", ".status.endpoint").wide(),
            Column::new("Message", "string", ".binding.message").wide(),
        ])
}
