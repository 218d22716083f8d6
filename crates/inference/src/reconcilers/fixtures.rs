//! Objects for the tests of reconcilers.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use setpoint_reconcile::Now;

use crate::kinds::{
    AGENT_FINALIZER, Accelerator, Autoscaler, AutoscalerSpec, Binding, Bytes, DEPLOYMENT_LABEL, Device, GpuFlavor,
    GpuFlavorSpec, Lifecycle, LocalRef, Metric, MicroTime, Model, ModelSpec, ObjectMeta, Phase, REVISION_LABEL,
    Replica, ReplicaModel, ReplicaSpec, ReplicaStatus, Signal, WORKER_NAMESPACE, Worker, WorkerSpec, WorkerState,
};

pub(crate) const NAMESPACE: &str = "team-a";
pub(crate) const DIGEST: &str = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// So many seconds after noon of the first of January 2026, UTC.
pub(crate) fn at(seconds: i64) -> Now {
    Now::at(Timestamp::from_second(1_767_268_800 + seconds).unwrap())
}

pub(crate) fn model() -> Model {
    let mut model = Model::new(
        "smollm2",
        ModelSpec {
            uri: "file:///models/smollm2.gguf".into(),
            digest: Some(DIGEST.into()),
            size_bytes: Some(98_362_432),
            ..ModelSpec::default()
        },
    )
    .within(NAMESPACE);
    model.metadata.generation = Some(1);
    model
}

pub(crate) fn flavor(name: &str, hourly_cost: &str) -> GpuFlavor {
    let spec = GpuFlavorSpec {
        memory: Bytes(80 * Bytes::GIB),
        hourly_cost: Some(hourly_cost.parse().unwrap()),
        ..GpuFlavorSpec::default()
    };
    GpuFlavor::new(name, spec)
}

/// A Ready worker with devices `0`, `1`, … of flavor h100-80g.
pub(crate) fn worker(name: &str, region: &str, zone: &str, devices: usize) -> Worker {
    let device = |id: usize| Device {
        id: id.to_string(),
        flavor: "h100-80g".into(),
        memory_bytes: None,
    };
    let mut worker = Worker::new(
        name,
        WorkerSpec {
            address: "127.0.0.1".into(),
            region: region.into(),
            zone: Some(format!("{region}{zone}")),
            devices: (0..devices).map(device).collect(),
            ..WorkerSpec::default()
        },
    );
    worker.lifecycle = Some(Lifecycle {
        state: WorkerState::Ready,
        since: at(-60).time(),
        last_heartbeat: None,
        message: String::new(),
    });
    worker
}

/// A replica of the deployment `chat` that waits, with one h100-80g to its name.
pub(crate) fn replica(name: &str) -> Replica {
    let spec = ReplicaSpec {
        deployment_ref: LocalRef::new("chat"),
        revision: "rev1".into(),
        model: ReplicaModel {
            name: "smollm2".into(),
            uri: "file:///models/smollm2.gguf".into(),
            digest: DIGEST.into(),
            ..Default::default()
        },
        accelerators: vec![Accelerator {
            flavor: "h100-80g".into(),
            count: 1,
            market: None,
            max_hourly_cost: None,
        }],
        ..ReplicaSpec::default()
    };
    let mut replica = Replica::new(name, spec).within(NAMESPACE);
    replica.metadata.labels = Some(
        [(DEPLOYMENT_LABEL, "chat"), (REVISION_LABEL, "rev1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    replica.metadata.finalizers = Some(vec![AGENT_FINALIZER.to_owned()]);
    replica.metadata.creation_timestamp = Some(at(-60).time());
    replica
}

pub(crate) fn bound(mut replica: Replica, worker: &str, devices: &[&str]) -> Replica {
    replica.binding = Some(Binding {
        worker: Some(worker.into()),
        devices: devices.iter().map(|&id| id.to_owned()).collect(),
        hourly_cost: Some("4.50".parse().unwrap()),
        reason: "Bound".into(),
        ..Binding::default()
    });
    replica
}

pub(crate) fn ready(replica: Replica) -> Replica {
    in_phase(replica, Phase::Ready)
}

pub(crate) fn in_phase(mut replica: Replica, phase: Phase) -> Replica {
    replica.status = Some(ReplicaStatus {
        phase,
        ready: phase == Phase::Ready,
        ..ReplicaStatus::default()
    });
    replica
}

pub(crate) fn terminating(mut replica: Replica) -> Replica {
    replica.metadata.deletion_timestamp = Some(at(-1).time());
    replica
}

pub(crate) fn owned_by(mut replica: Replica, uid: &str) -> Replica {
    replica.metadata.owner_references = Some(vec![OwnerReference {
        api_version: crate::kinds::API_VERSION.into(),
        kind: "ModelDeployment".into(),
        name: "chat".into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    replica
}

pub(crate) fn autoscaler(baseline: u32, min: u32, max: u32, target: u32) -> Autoscaler {
    let spec = AutoscalerSpec {
        target: LocalRef::new("chat"),
        baseline_replicas: baseline,
        min_replicas: min,
        max_replicas: max,
        metrics: vec![Metric {
            target,
            ..Metric::default()
        }],
        ..AutoscalerSpec::default()
    };
    Autoscaler::new("chat", spec).within(NAMESPACE)
}

pub(crate) fn signal(source: &str, observed: i64, concurrency: f64, stable: f64) -> Signal {
    Signal {
        source: source.into(),
        observed_at: MicroTime(at(observed).timestamp()),
        window_seconds: 6,
        concurrency,
        stable_window_seconds: 60,
        stable_concurrency: Some(stable),
        requests_per_second: 0.0,
        queued: 0,
    }
}

/// A heartbeat that holds for 10 s.
pub(crate) fn lease(worker: &str, renewed: i64) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(worker.into()),
            namespace: Some(WORKER_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(worker.into()),
            lease_duration_seconds: Some(10),
            renew_time: Some(MicroTime(at(renewed).timestamp())),
            ..LeaseSpec::default()
        }),
    }
}
