//! What a replica asks of the place where it runs: accelerators, where, and beside whom. Shared by `ModelDeployment`, which
//! users write, and `Replica`, which carries a copy so that the scheduler and the agent need no other object.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amounts::{Bytes, MilliCpu, Money};

/// The label of a worker's zone; taken from `Worker.spec.zone`.
pub const ZONE_KEY: &str = "topology.kubernetes.io/zone";
/// The label of a worker's region; taken from `Worker.spec.region`.
pub const REGION_KEY: &str = "topology.kubernetes.io/region";
/// The label of a worker's own name; taken from `Worker.metadata.name`.
pub const HOSTNAME_KEY: &str = "kubernetes.io/hostname";

/// How a worker is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Market {
    /// Kept for as long as it is paid for.
    #[default]
    OnDemand,
    /// Cheaper, and may be taken back at any time.
    Spot,
}

/// One acceptable kind of accelerator. Alternatives are tried in the order written: the first that fits wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Name of a GpuFlavor.
    #[schemars(length(min = 1, max = 253))]
    pub flavor: String,
    /// Devices of that flavor that one replica uses, all on one worker.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
    /// Only workers of this market. Any market when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<Market>,
    /// The most that one replica may cost an hour on this alternative. A flavor without a price never passes a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hourly_cost: Option<Money>,
}

fn one() -> u32 {
    1
}

/// Processor and memory of the host that one replica uses, beside its accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostResources {
    /// Processor cores, as in `2` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Host memory, as in `8Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
}

/// Where replicas may run, and how they spread.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Only workers in one of these regions. Any region when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub regions: Vec<String>,
    /// Only workers in one of these zones. Any zone when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,
    /// Labels that a worker must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that these replicas put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// How evenly the replicas of the deployment are spread over zones, regions or workers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topologyKey"]))]
    pub spread: Vec<Spread>,
}

/// A bound on the difference in replicas between topology domains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// `topology.kubernetes.io/zone`, `topology.kubernetes.io/region`, `kubernetes.io/hostname`, or a label of workers.
    #[schemars(length(min = 1, max = 316))]
    pub topology_key: String,
    /// The most by which one domain may lead the emptiest domain where the replica could run.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: u32,
    /// What happens where the bound cannot be kept.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

/// What happens where a spread cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    /// The replica stays Pending.
    #[default]
    DoNotSchedule,
    /// The replica runs in the domain that keeps the skew smallest.
    ScheduleAnyway,
}

/// Says that a replica may run on workers with a matching taint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; every key when absent, which needs the operator Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether the value counts.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value, for the operator Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect; every effect when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration compares itself with a taint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are equal.
    #[default]
    Equal,
    /// The key is equal.
    Exists,
}

/// A mark on a worker that keeps replicas away which do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// What the taint is about.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does to replicas that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does. `NoExecute` keeps new replicas away, as `NoSchedule` does; it does not evict yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new replica.
    NoSchedule,
    /// No new replica where another worker would do.
    PreferNoSchedule,
    /// No new replica.
    NoExecute,
}

impl Toleration {
    /// Whether this toleration covers `taint` (Kubernetes' rule, `core/v1` Toleration).
    pub fn covers(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        match &self.key {
            None => self.operator == TolerationOperator::Exists,
            Some(key) if *key != taint.key => false,
            Some(_) => {
                self.operator == TolerationOperator::Exists || self.value.as_deref().unwrap_or_default() == taint.value
            }
        }
    }
}
