//! `Worker`: a machine that runs replicas. Its agent (or an admin) writes `spec`, its agent writes `status`, and the worker-lifecycle
//! reconciler writes `lifecycle` from the heartbeat: a `coordination.k8s.io/v1` Lease of the worker's name in [`WORKER_NAMESPACE`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::definition::{Column, Definition};
use super::{Bytes, Condition, HOSTNAME_KEY, Market, MicroTime, MilliCpu, REGION_KEY, Taint, Time, ZONE_KEY};

kind! {
    /// A machine that runs replicas.
    pub struct Worker in "inference.setpoint.dev/v1alpha1", plural "workers", scope Cluster {
        /// What is wanted.
        spec: WorkerSpec,
        /// What its agent sees; written by the agent.
        part status: WorkerStatus,
        /// Whether its heartbeat is heard; written by the worker-lifecycle reconciler.
        part lifecycle: Lifecycle,
    }
}

/// The namespace of the workers' heartbeat Leases.
pub const WORKER_NAMESPACE: &str = "setpoint-workers";

/// What a worker is and has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// The host name or IP address at which its replicas are reached.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    /// Its region.
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Its zone within the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// How it is paid for.
    #[serde(default)]
    pub market: Market,
    /// Labels that placement sees, beside those of the zone, the region and the worker's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Marks that keep replicas away which do not tolerate them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key", "effect"]))]
    pub taints: Vec<Taint>,
    /// Its accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub devices: Vec<Device>,
    /// Processor cores for replicas. Unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Host memory for replicas. Unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Cordoned: what runs stays, nothing new comes.
    #[serde(default)]
    pub unschedulable: bool,
}

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id on the worker, as in `0`.
    #[schemars(length(min = 1, max = 63))]
    pub id: String,
    /// Name of its GpuFlavor.
    #[schemars(length(min = 1, max = 253))]
    pub flavor: String,
    /// Its memory in bytes. That of the flavor when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// What the agent sees on its worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// When the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Number of accelerators.
    #[serde(default)]
    pub devices_total: u32,
    /// Number of accelerators that no replica has.
    #[serde(default)]
    pub devices_free: u32,
    /// Which replica has which accelerator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub devices_in_use: Vec<DeviceInUse>,
    /// Weights in the worker's cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["digest"]))]
    pub cached_models: Vec<CachedModel>,
    /// Conditions of the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An accelerator and the replica that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceInUse {
    /// The accelerator's id.
    pub id: String,
    /// The replica, as `namespace/name`.
    pub replica: String,
}

/// Weights that a worker holds, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CachedModel {
    /// What they hash to: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Their size.
    #[serde(default)]
    pub bytes: u64,
}

/// Whether a worker's heartbeat is heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// The verdict.
    pub state: WorkerState,
    /// Since when.
    pub since: Time,
    /// The last heartbeat that the verdict rests on, as it was when the verdict was made (not kept current with each beat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<MicroTime>,
    /// The verdict for people.
    #[serde(default)]
    pub message: String,
}

/// Verdicts on a worker. A worker without a lifecycle has not been judged, and gets no replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkerState {
    /// Its heartbeat is heard.
    Ready,
    /// Its heartbeat is late: nothing new is placed there, and what runs there is left alone.
    Suspect,
    /// Its heartbeat is gone for good: its replicas are replaced.
    Lost,
}

impl WorkerState {
    /// The state as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Suspect => "Suspect",
            Self::Lost => "Lost",
        }
    }
}

impl Worker {
    /// The value of a label as placement sees it: zone, region and name are labels too; then those of the spec, then those of the
    /// object.
    pub fn placement_label(&self, key: &str) -> Option<&str> {
        let own = match key {
            ZONE_KEY => self.spec.zone.as_deref(),
            REGION_KEY => Some(self.spec.region.as_str()),
            HOSTNAME_KEY => self.metadata.name.as_deref(),
            _ => None,
        };
        own.or_else(|| self.spec.labels.get(key).map(String::as_str))
            .or_else(|| self.metadata.labels.as_ref()?.get(key).map(String::as_str))
    }

    /// Whether its cache holds the weights with this digest.
    pub fn has_cached(&self, digest: &str) -> bool {
        let cached = self.status.iter().flat_map(|status| &status.cached_models);
        cached.into_iter().any(|model| model.digest == digest)
    }

    /// The verdict on the worker, if there is one yet.
    pub fn state(&self) -> Option<WorkerState> {
        self.lifecycle.as_ref().map(|lifecycle| lifecycle.state)
    }
}

pub(super) fn definition() -> Definition {
    Definition::new::<Worker, WorkerSpec>("A machine that runs replicas.")
        .short_names(&["wrk"])
        .all()
        .part::<WorkerStatus>("status")
        .part::<Lifecycle>("lifecycle")
        .columns(&[
            Column::new("State", "string", ".lifecycle.state"),
            Column::new("Region", "string", ".spec.region"),
            Column::new("Zone", "string", ".spec.zone"),
            Column::new("GPUs", "integer", ".status.devicesTotal"),
            Column::new("Free", "integer", ".status.devicesFree"),
            Column::new("Cordoned", "boolean", ".spec.unschedulable"),
            Column::AGE,
            Column::new("Address", "string", ".spec.address").wide(),
            Column::new("Agent", "string", ".status.agentVersion").wide(),
            Column::new("Message", "string", ".lifecycle.message").wide(),
        ])
}
