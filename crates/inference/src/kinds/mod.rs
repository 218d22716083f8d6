//! The kinds of `inference.setpoint.dev/v1alpha1`: one file each, with its types, its defaults, and how it is served.
//!
//! # Guarantees
//! The JSON schema of a kind is derived from the type that reconcilers, agents and gateways read, doc comments included:
//! what `kubectl explain` says is what the code says. [`definitions`] gives each kind as a CustomResourceDefinition, and
//! `crds/` holds them as golden files.
//!
//! # How to get it wrong
//! - A type that is stricter than its schema. A watch decodes whole lists, so one object that was stored and cannot be
//!   decoded blinds every reader of the kind. Every rule that a type enforces must be a rule of the schema.
//! - A new field without `#[serde(default)]`: objects stored before it existed no longer decode.
//! - Two writers for one part. Each kind has a main part and named parts, each with its own subresource and its own writer
//!   (see the table in `lib.rs`).

pub mod amounts;
mod autoscaler;
pub mod definition;
mod engine;
mod gpu_flavor;
mod gpu_pool;
mod model;
mod model_deployment;
mod model_route;
mod placement;
mod replica;
mod worker;

pub use amounts::{Bytes, MilliCpu, Money};
pub use autoscaler::*;
pub use definition::definitions;
pub use engine::*;
pub use gpu_flavor::*;
pub use gpu_pool::*;
pub use model::*;
pub use model_deployment::*;
pub use model_route::*;
pub use placement::*;
pub use replica::*;
pub use worker::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};

/// The API group of every kind here.
pub const GROUP: &str = "inference.setpoint.dev";
/// The version of every kind here.
pub const VERSION: &str = "v1alpha1";
/// Group and version as `apiVersion` writes them.
pub const API_VERSION: &str = "inference.setpoint.dev/v1alpha1";

/// A reference to an object of a known kind in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl LocalRef {
    /// A reference to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}
