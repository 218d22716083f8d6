//! Placement: which worker and which devices a replica gets, or why it gets none. Pure and deterministic.
//!
//! ```text
//! filter → choose the accelerator (in the order written; the first that fits wins) → score → reserve
//! ```
//!
//! # Guarantees
//! - One [`Fleet`] is the ledger of one batch: a device that was reserved or [held](Fleet::hold) is never given out again.
//! - The same workers, flavors, held replicas and requests (in the same order) give the same placements, in whatever order workers are
//!   listed. Scores are integers; ties go to the worker whose name sorts first.
//! - A replica that is not placed comes with an explanation whose numbers add up: each worker that was considered failed exactly one
//!   constraint, the first one in the order of [`Reason`] (with several accelerators: on the one that came furthest).
//! - Constant work for each candidate, without allocation. What depends on the request's shape and not on the ledger (regions, labels, taints,
//!   prices, memory) is worked out once a shape; a shape that did not fit is not tried again until something could have changed.
//!
//! # Assumptions
//! - Every replica that is bound is held before anything is placed, terminating ones included: its process may still use the devices.
//! - Replicas of one (namespace, deployment, revision) ask for the same; others are told apart by comparing them.
//!
//! # How to get it wrong
//! To judge a worker by less than its lifecycle part: a worker without one has not been heard yet, and gets nothing.

mod explain;
mod fleet;
mod fragmentation;
#[cfg(test)]
mod tests;

pub use fleet::Fleet;

use std::fmt;

use crate::kinds::{Counterfactual, Filtered, Market, Money};

/// Weights in device memory need room beside them for the KV cache and for activations: a fifth of their size, the rule of thumb of vLLM's and
/// llama.cpp's users for short contexts. An estimate from the model's own header replaces it later.
const MEMORY_HEADROOM_DIVISOR: u64 = 5;

/// Why a worker does not fit, or why a replica is placed nowhere. In the order in which constraints are tried: what the user asked for,
/// then what state the worker is in, then what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No worker has registered at all.
    NoWorkers,
    /// It is in none of the regions.
    NoMatchingRegion,
    /// It is in none of the zones.
    NoMatchingZone,
    /// It lacks a label of the node selector.
    NoMatchingLabels,
    /// It has no device of an acceptable flavor.
    FlavorUnavailable,
    /// It is of another market than the accelerator's.
    MarketUnavailable,
    /// The replica would cost more than `maxHourlyCost` there, or nobody said what it costs.
    TooExpensive,
    /// The weights and their working memory do not fit in the devices' memory.
    ModelTooLarge,
    /// It has a taint that is not tolerated.
    Tainted,
    /// Its heartbeat is late, gone, or not heard yet.
    NoReadyWorkers,
    /// It takes nothing new.
    Cordoned,
    /// It has too few free devices.
    InsufficientDevices,
    /// It has too little processor time left.
    InsufficientCpu,
    /// It has too little host memory left.
    InsufficientMemory,
    /// Its domain would lead the others by more than the spread's `maxSkew`.
    SpreadUnsatisfiable,
}

impl Reason {
    /// The reason as the API writes it. Stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoWorkers => "NoWorkers",
            Self::NoMatchingRegion => "NoMatchingRegion",
            Self::NoMatchingZone => "NoMatchingZone",
            Self::NoMatchingLabels => "NoMatchingLabels",
            Self::FlavorUnavailable => "FlavorUnavailable",
            Self::MarketUnavailable => "MarketUnavailable",
            Self::TooExpensive => "TooExpensive",
            Self::ModelTooLarge => "ModelTooLarge",
            Self::Tainted => "Tainted",
            Self::NoReadyWorkers => "NoReadyWorkers",
            Self::Cordoned => "Cordoned",
            Self::InsufficientDevices => "InsufficientDevices",
            Self::InsufficientCpu => "InsufficientCpu",
            Self::InsufficientMemory => "InsufficientMemory",
            Self::SpreadUnsatisfiable => "SpreadUnsatisfiable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a replica goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The worker.
    pub worker: String,
    /// The flavor of the devices; none for a replica on the host's processor.
    pub flavor: Option<String>,
    /// The devices, in the worker's order.
    pub devices: Vec<String>,
    /// The worker's region.
    pub region: String,
    /// The worker's zone.
    pub zone: Option<String>,
    /// The worker's market.
    pub market: Market,
    /// What the replica costs an hour, if the flavor has a price.
    pub hourly_cost: Option<Money>,
    /// How many workers there were.
    pub considered: u32,
    /// How many of them would have done, on the accelerator that was chosen.
    pub feasible: u32,
    /// Which of the accelerators was chosen, from zero.
    pub alternative: usize,
}

/// Why a replica goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// The constraint on which the workers failed that came furthest.
    pub reason: Reason,
    /// The same for people, with its numbers.
    pub message: String,
    /// How many workers there were.
    pub considered: u32,
    /// How many of them failed each constraint. The sum is `considered`.
    pub filtered: Vec<Filtered>,
    /// Single changes after which it would fit, best first.
    pub counterfactuals: Vec<Counterfactual>,
}
