//! The worker's own object: its spec from the file, its status from what the agent has.
//!
//! # Guarantees
//! - The spec is applied with the agent as field manager: what an admin has set beside the file (a cordon, a taint, a label) stays.
//! - The status is written when it changes, and not otherwise.
//! - A Worker that somebody deletes under a running agent is registered again.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use setpoint_inference::kinds::{Time, Worker, WorkerStatus};
use tokio_util::sync::CancellationToken;

use crate::control::ControlError;
use crate::kube_control::{MANAGER, applied, bounded};
use crate::supervisor::Inventory;
use crate::{AgentOptions, WorkerFile};

/// Between two looks without a cause: at the cache's folder (other agents share it), and at whether the Worker is still there.
const LOOK: Duration = Duration::from_secs(15);
/// Changes that come together are written together.
const COALESCE: Duration = Duration::from_millis(100);
/// The waits between tries: they double from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// The most cached models that are told: the bound of the kind's schema.
const MOST_MODELS: usize = 1024;

/// Registers, and keeps the status current, until `stop`.
pub(crate) async fn run(client: Client, options: AgentOptions, inventory: Inventory, stop: CancellationToken) {
    let work = async {
        let workers: Api<Worker> = Api::all(client);
        let started_at = Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
        let mut devices = inventory.devices.watch();
        let mut weights = inventory.weights.watch();
        let mut delay = RETRY.0;
        let mut told: Option<WorkerStatus> = None;
        loop {
            devices.mark_unchanged();
            weights.mark_unchanged();
            let status = status(&options.worker, &inventory, started_at.clone());
            match write(&workers, &options.worker, &mut told, status).await {
                Ok(()) => {
                    delay = RETRY.0;
                    tokio::select! {
                        _ = devices.changed() => tokio::time::sleep(COALESCE).await,
                        _ = weights.changed() => tokio::time::sleep(COALESCE).await,
                        () = tokio::time::sleep(LOOK) => {}
                    }
                }
                Err(error) => {
                    if delay == RETRY.0 {
                        tracing::warn!(error = %error, "the Worker could not be written; it is tried again");
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY.1);
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn write(
    workers: &Api<Worker>,
    file: &WorkerFile,
    told: &mut Option<WorkerStatus>,
    status: WorkerStatus,
) -> Result<(), ControlError> {
    let params = PatchParams::apply(MANAGER).force();
    if told.is_some() && bounded(workers.get_metadata_opt(file.name())).await?.is_none() {
        *told = None;
    }
    if told.is_none() {
        let body = manifest(file);
        bounded(workers.patch(file.name(), &params, &Patch::Apply(body))).await?;
    }
    if told.as_ref() != Some(&status) {
        let body = applied::<Worker>(json!({"name": file.name()}), "status", json!(status));
        bounded(workers.patch_status(file.name(), &params, &Patch::Apply(body))).await?;
        *told = Some(status);
    }
    Ok(())
}

/// What the agent applies: the file, less what it does not say. `unschedulable: false` would undo an admin's cordon at each start.
fn manifest(file: &WorkerFile) -> Value {
    let meta = &file.worker().metadata;
    let metadata = json!({"name": file.name(), "labels": meta.labels, "annotations": meta.annotations});
    let mut body = applied::<Worker>(metadata, "spec", json!(file.spec()));
    for part in ["labels", "annotations"] {
        if body["metadata"][part].is_null()
            && let Some(metadata) = body["metadata"].as_object_mut()
        {
            metadata.remove(part);
        }
    }
    if !file.spec().unschedulable
        && let Some(spec) = body["spec"].as_object_mut()
    {
        spec.remove("unschedulable");
    }
    body
}

fn status(file: &WorkerFile, inventory: &Inventory, started_at: Option<Time>) -> WorkerStatus {
    let in_use = inventory.devices.in_use();
    let declared = &file.spec().devices;
    let used = declared
        .iter()
        .filter(|device| in_use.iter().any(|used| used.id == device.id))
        .count();
    let mut cached_models = inventory.weights.list().unwrap_or_else(|error| {
        tracing::warn!(%error, "the weights cache cannot be listed");
        Vec::new()
    });
    cached_models.truncate(MOST_MODELS);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    WorkerStatus {
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        started_at,
        devices_total: count(declared.len()),
        devices_free: count(declared.len() - used),
        devices_in_use: in_use,
        cached_models,
        conditions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_applied_without_what_it_does_not_say() {
        let text = "{apiVersion: inference.setpoint.dev/v1alpha1, kind: Worker, metadata: {name: w}, \
                    spec: {address: 127.0.0.1, region: r, devices: [{id: '0', flavor: f}, {id: '1', flavor: f}]}}";
        let file = WorkerFile::from_yaml(text).expect("a worker");
        let body = manifest(&file);
        assert_eq!(body["metadata"], json!({"name": "w"}));
        assert!(body["spec"].get("unschedulable").is_none(), "{body}");
        let cordoned =
            WorkerFile::from_yaml(&text.replace("region: r", "region: r, unschedulable: true")).expect("a worker");
        assert_eq!(manifest(&cordoned)["spec"]["unschedulable"], true);
    }

    #[test]
    fn the_status_counts_devices_and_weights() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{apiVersion: inference.setpoint.dev/v1alpha1, kind: Worker, metadata: {name: w}, \
                    spec: {address: 127.0.0.1, region: r, devices: [{id: '0', flavor: f}, {id: '1', flavor: f}]}}";
        let file = WorkerFile::from_yaml(text).expect("a worker");
        let inventory = Inventory {
            devices: std::sync::Arc::default(),
            weights: crate::weights::WeightsCache::open(dir.path(), "python3".as_ref()).unwrap(),
        };
        inventory.devices.claim("u", "ns/r", &["1".to_owned()]).unwrap();
        let hex = "0".repeat(64);
        std::fs::write(dir.path().join("sha256").join(&hex), "12345").unwrap();
        let status = status(&file, &inventory, None);
        assert_eq!((status.devices_total, status.devices_free), (2, 1));
        assert_eq!(status.devices_in_use[0].replica, "ns/r");
        assert_eq!(
            (status.cached_models[0].digest.as_str(), status.cached_models[0].bytes),
            (format!("sha256:{hex}").as_str(), 5)
        );
    }
}
