//! `GpuPool`: a set of workers, and what they have and use.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::definition::{Column, Definition};
use super::{Condition, Money};

kind! {
    /// A set of workers, and what they have and use.
    pub struct GpuPool in "inference.setpoint.dev/v1alpha1", plural "gpupools", scope Cluster {
        /// What is wanted.
        spec: GpuPoolSpec,
        /// What the workers have and use; written by the pool reconciler.
        part status: GpuPoolStatus,
    }
}

/// Which workers belong to a pool. A pool without any rule has every worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuPoolSpec {
    /// Workers of these regions. Of every region when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub regions: Vec<String>,
    /// Workers that carry all of these labels; zone, region and name are labels too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub worker_selector: BTreeMap<String, String>,
}

/// Condition of a [`GpuPool`]: at least one worker of the pool is Ready.
pub const POOL_READY: &str = "Ready";

/// What the workers of a pool have and use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuPoolStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workers in the pool.
    #[serde(default)]
    pub workers: u32,
    /// Workers whose heartbeat is heard.
    #[serde(default)]
    pub ready_workers: u32,
    /// Replicas bound to workers of the pool.
    #[serde(default)]
    pub replicas: u32,
    /// Accelerators in all.
    #[serde(default)]
    pub devices: Devices,
    /// Accelerators by flavor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["flavor"]))]
    pub flavors: Vec<FlavorUse>,
    /// What the replicas on the pool cost an hour, as far as flavors have prices.
    #[serde(default)]
    pub hourly_cost: Money,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How many accelerators there are, and what becomes of them. `total = used + free + unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// All of them.
    #[serde(default)]
    pub total: u32,
    /// Bound to replicas.
    #[serde(default)]
    pub used: u32,
    /// Free, on workers that take replicas.
    #[serde(default)]
    pub free: u32,
    /// Free, on workers that are cordoned or not Ready.
    #[serde(default)]
    pub unavailable: u32,
}

/// Accelerators of one flavor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlavorUse {
    /// The flavor.
    pub flavor: String,
    /// Its accelerators.
    #[serde(default)]
    pub devices: Devices,
}

pub(super) fn definition() -> Definition {
    Definition::new::<GpuPool, GpuPoolSpec>("A set of workers, and what they have and use.")
        .short_names(&["pool"])
        .part::<GpuPoolStatus>("status")
        .columns(&[
            Column::new("Workers", "integer", ".status.workers"),
            Column::new("Ready", "integer", ".status.readyWorkers"),
            Column::new("GPUs", "integer", ".status.devices.total"),
            Column::new("Used", "integer", ".status.devices.used"),
            Column::new("Free", "integer", ".status.devices.free"),
            Column::new("Replicas", "integer", ".status.replicas"),
            Column::AGE,
        ])
}
