//! `ModelRoute`: a public model name, and the deployments that answer for it. Gateways read it; nobody writes a status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::LocalRef;
use super::definition::{Column, Definition};

kind! {
    /// A public model name, and the deployments that answer for it.
    pub struct ModelRoute in "inference.setpoint.dev/v1alpha1", plural "modelroutes", scope Namespaced {
        /// What is wanted.
        spec: ModelRouteSpec,
    }
}

/// Who answers for a name, and within which limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteSpec {
    /// The name that clients put in the field `model` of a request.
    #[schemars(length(min = 1, max = 253))]
    pub model_name: String,
    /// Deployments in the same namespace, by weight.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub backends: Vec<RouteBackend>,
    /// Limits of the route.
    #[serde(default)]
    pub limits: RouteLimits,
}

/// One deployment of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteBackend {
    /// The ModelDeployment.
    pub deployment_ref: LocalRef,
    /// Its share of the requests, against the sum of the weights. Zero takes none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
}

/// Limits of a route, at each gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteLimits {
    /// Requests that may wait for a replica; beyond it they are refused with 429.
    #[serde(default = "default_queue")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_queued: u32,
    /// Seconds that a request may wait for a replica before it is refused with 503.
    #[serde(default = "default_queue_timeout")]
    #[schemars(range(min = 0, max = 3600))]
    pub queue_timeout_seconds: u32,
}

fn one() -> u32 {
    1
}
fn default_queue() -> u32 {
    256
}
fn default_queue_timeout() -> u32 {
    30
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self {
            max_queued: default_queue(),
            queue_timeout_seconds: default_queue_timeout(),
        }
    }
}

pub(super) fn definition() -> Definition {
    Definition::new::<ModelRoute, ModelRouteSpec>("A public model name, and the deployments that answer for it.")
        .short_names(&["mr"])
        .columns(&[
            Column::new("Model", "string", ".spec.modelName"),
            Column::new("Backends", "string", ".spec.backends[*].deploymentRef.name"),
            Column::AGE,
        ])
}
