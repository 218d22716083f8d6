//! How a replica's model server is started and judged. The agent reads it; the control plane only carries it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model server of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.type != 'Command' || size(self.command) > 0",
    "message": "command is required for engine type Command",
    "reason": "FieldValueRequired",
    "fieldPath": ".command",
}]))]
pub struct Engine {
    /// Which server runs.
    #[serde(rename = "type", default)]
    pub type_: EngineType,
    /// The program and its first arguments, for type Command. Each element is a template: `{model}` is the path of the weights on
    /// the worker, `{host}` and `{port}` the address to listen on, `{name}` the model's public name, `{devices}` the device ids,
    /// comma-separated. Literal braces are doubled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Further arguments, for every type; the same templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Environment variables; the same templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// The path that answers 200 when the server can take requests.
    #[serde(default = "default_health_path")]
    #[schemars(regex(pattern = r"^/"), length(max = 1024))]
    pub health_path: String,
    /// Seconds between two looks at the health path.
    #[serde(default = "default_probe_period")]
    #[schemars(range(min = 1, max = 300))]
    pub probe_period_seconds: u32,
    /// Failed looks in a row after which a ready replica is no longer ready.
    #[serde(default = "default_failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: u32,
    /// Seconds that a start may take, after the weights are there, before it counts as failed.
    #[serde(default = "default_startup_timeout")]
    #[schemars(range(min = 1, max = 7200))]
    pub startup_timeout_seconds: u32,
}

/// Kinds of model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum EngineType {
    /// Setpoint's own server for GGUF models on the CPU; the agent knows how to start it.
    #[default]
    Candle,
    /// Any program that listens on the port that it is given.
    Command,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"), length(max = 256))]
    pub name: String,
    /// Its value, a template like `command`.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub value: String,
}

fn default_health_path() -> String {
    "/health".to_owned()
}
fn default_probe_period() -> u32 {
    1
}
fn default_failure_threshold() -> u32 {
    3
}
fn default_startup_timeout() -> u32 {
    600
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            type_: EngineType::default(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            health_path: default_health_path(),
            probe_period_seconds: default_probe_period(),
            failure_threshold: default_failure_threshold(),
            startup_timeout_seconds: default_startup_timeout(),
        }
    }
}
