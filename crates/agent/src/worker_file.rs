//! The worker's file: a `Worker` object in YAML, as `kubectl get worker NAME -o yaml` would print it.
//!
//! # How to get it wrong
//! Reading it into the typed struct alone: a misspelt optional field would be dropped without a word, and a worker whose `devices` are
//! written `device` would have none. What was read is written back and compared, so that each field that was not understood is named.

use serde_json::Value;
use setpoint_inference::kinds::{Worker, WorkerSpec};

/// A worker as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerFile {
    name: String,
    worker: Worker,
}

/// What is wrong with a worker's file.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFileError {
    /// It is no YAML, or a field has the wrong type.
    #[error("the worker file cannot be read as a Worker: {0}")]
    Syntax(String),
    /// A field that must be there is not.
    #[error("the worker file lacks {0}")]
    Missing(&'static str),
    /// A field that no Worker has.
    #[error("the worker file has a field that no Worker has: {0}")]
    Unknown(String),
    /// Two devices with one id.
    #[error("the worker file names device {0:?} twice")]
    DuplicateDevice(String),
}

impl WorkerFile {
    /// Reads a worker file.
    ///
    /// # Errors
    /// When it is not a `Worker` with a name, an address and a region, or says something that a Worker cannot say.
    pub fn from_yaml(text: &str) -> Result<Self, WorkerFileError> {
        let said: Value = serde_saphyr::from_str(text).map_err(|e| WorkerFileError::Syntax(e.to_string()))?;
        for field in ["apiVersion", "kind"] {
            if said.get(field).is_none() {
                return Err(WorkerFileError::Missing(match field {
                    "kind" => "kind: Worker",
                    _ => "apiVersion: inference.setpoint.dev/v1alpha1",
                }));
            }
        }
        let worker: Worker =
            serde_json::from_value(said.clone()).map_err(|e| WorkerFileError::Syntax(e.to_string()))?;
        let understood = serde_json::to_value(&worker).map_err(|e| WorkerFileError::Syntax(e.to_string()))?;
        if let Some(path) = unknown(&said, &understood, "") {
            return Err(WorkerFileError::Unknown(path));
        }
        Self::new(worker)
    }

    /// A worker that was made by other means than a file.
    ///
    /// # Errors
    /// As [`from_yaml`](Self::from_yaml).
    pub fn new(worker: Worker) -> Result<Self, WorkerFileError> {
        let name = worker.metadata.name.clone().unwrap_or_default();
        for (value, field) in [
            (&name, "metadata.name"),
            (&worker.spec.address, "spec.address"),
            (&worker.spec.region, "spec.region"),
        ] {
            if value.is_empty() {
                return Err(WorkerFileError::Missing(field));
            }
        }
        let mut ids = std::collections::BTreeSet::new();
        if let Some(twice) = worker.spec.devices.iter().find(|d| !ids.insert(&d.id)) {
            return Err(WorkerFileError::DuplicateDevice(twice.id.clone()));
        }
        Ok(Self { name, worker })
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host name or IP address at which its replicas are reached.
    pub fn address(&self) -> &str {
        &self.worker.spec.address
    }

    /// What the worker is and has.
    pub fn spec(&self) -> &WorkerSpec {
        &self.worker.spec
    }

    /// The whole object.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}

/// The first path that `said` has and `understood` lacks. Empty values may be left out on writing.
fn unknown(said: &Value, understood: &Value, path: &str) -> Option<String> {
    match (said, understood) {
        (Value::Object(said), Value::Object(understood)) => said.iter().find_map(|(key, value)| {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            match understood.get(key) {
                Some(found) => unknown(value, found, &path),
                None if is_empty(value) && is_known_empty(&path) => None,
                None => Some(path),
            }
        }),
        (Value::Array(said), Value::Array(understood)) => said
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(i, (said, found))| unknown(said, found, &format!("{path}[{i}]"))),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Fields that are left out on writing when they are empty.
fn is_known_empty(path: &str) -> bool {
    path.starts_with("metadata.")
        || ["status", "lifecycle"].contains(&path)
        || ["zone", "labels", "taints", "devices", "cpu", "memory"]
            .iter()
            .any(|field| path.strip_prefix("spec.") == Some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: inference.setpoint.dev/v1alpha1
kind: Worker
metadata: {name: w1}
spec:
  address: 127.0.0.1
  region: us-west-2
  taints: []
  devices:
  - {id: \"0\", flavor: h100-80g}
  - {id: \"1\", flavor: h100-80g}
";

    #[test]
    fn reads_a_worker() {
        let file = WorkerFile::from_yaml(FILE).expect("a worker");
        assert_eq!(
            (file.name(), file.address(), file.spec().devices.len()),
            ("w1", "127.0.0.1", 2)
        );
    }

    #[test]
    fn says_what_is_wrong() {
        for (from, to, says) in [
            ("devices:", "device:", "no Worker has: spec.device"),
            (
                "flavor: h100-80g}\n  - ",
                "flavour: x, flavor: z}\n  - ",
                "no Worker has: spec.devices[0].flavour",
            ),
            ("{id: \"1\"", "{id: \"0\"", "names device \"0\" twice"),
            ("{name: w1}", "{}", "lacks metadata.name"),
            ("  region: us-west-2\n", "", "region"),
            ("kind: Worker", "kind: Wurker", "Wurker"),
            ("kind: Worker", "", "lacks kind: Worker"),
            ("spec:", "spec: [", "cannot be read as a Worker"),
        ] {
            let text = FILE.replacen(from, to, 1);
            assert_ne!(text, FILE, "{from} is not in the file");
            let error = WorkerFile::from_yaml(&text).expect_err(to).to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
    }
}
