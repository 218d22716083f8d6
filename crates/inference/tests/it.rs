//! The demo's objects (`examples/inference`), taken through the domain's reconcilers without a server: what a user sees there must come out.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::de::DeserializeOwned;
use serde_json::Value;
use setpoint_inference::kinds::{
    API_VERSION, GpuFlavor, GpuPool, Lifecycle, Model, ModelDeployment, ModelRoute, Replica, ReplicaStatus, Time,
    Worker, WorkerState,
};
use setpoint_inference::measures::{GPUS_KEY, REPLICAS_KEY, WorstCase};
use setpoint_inference::reconcilers::deployment::DeploymentReconciler;
use setpoint_inference::reconcilers::scheduler::Scheduler;
use setpoint_reconcile::{Now, Object, PartOf, Pass, Query, Reads, Reconciler, View, World, declare};

const UID: &str = "uid-of-chat";

fn now() -> Now {
    Now::at(Timestamp::from_second(1_767_268_800).unwrap())
}

/// The documents of a folder's files, in order.
fn documents(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap())
        .collect()
}

fn examples() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/inference");
    let mut all = documents(&folder);
    all.extend(documents(&folder.join("workers")));
    all
}

fn of_kind<K: Object + DeserializeOwned>(documents: &[Value]) -> Vec<K> {
    let kind = K::kind_id();
    let fits = documents
        .iter()
        .filter(|document| document["kind"] == kind.kind.as_ref());
    fits.map(|document| serde_json::from_value(document.clone()).unwrap())
        .collect()
}

/// Sees replicas, for the test's own look at the world.
struct Test;
declare! { Test: reads [Replica] }

fn replicas(world: &World) -> Vec<Replica>
where
    Test: Reads<Replica>,
{
    let view = View::<Test>::new(world);
    view.list::<Replica>(Query::all())
        .iter()
        .map(|replica| replica.as_ref().clone())
        .collect()
}

/// The examples with their workers Ready.
fn demo() -> (World, ModelDeployment) {
    let documents = examples();
    let mut workers = of_kind::<Worker>(&documents);
    for worker in &mut workers {
        let (since, message) = (now().time(), String::new());
        worker.lifecycle = Some(Lifecycle {
            state: WorkerState::Ready,
            since,
            last_heartbeat: None,
            message,
        });
    }
    let world = World::new()
        .with_all(workers)
        .with_all(of_kind::<GpuFlavor>(&documents))
        .with_all(of_kind::<Model>(&documents));
    let mut chat = of_kind::<ModelDeployment>(&documents).pop().unwrap();
    chat.metadata.uid = Some(UID.to_owned());
    (world, chat)
}

/// One round: the deployment is planned and committed, then the scheduler; deletions only mark.
fn round(world: &mut World, deployment: &ModelDeployment) {
    let plan = DeploymentReconciler.plan(deployment, &View::new(world), now()).unwrap();
    let made: Vec<Value> = plan.children().iter().map(|child| child.object.clone()).collect();
    let gone: Vec<String> = plan
        .deletions()
        .iter()
        .map(|deletion| deletion.target.key.name.clone())
        .collect();
    for mut replica in of_kind::<Replica>(&made) {
        replica.metadata.namespace = deployment.metadata.namespace.clone();
        replica.metadata.owner_references = Some(vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "ModelDeployment".to_owned(),
            name: "chat".to_owned(),
            uid: UID.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        world.put(replica);
    }
    for mut replica in replicas(world)
        .into_iter()
        .filter(|replica| gone.contains(&replica.name().to_owned()))
    {
        replica.metadata.deletion_timestamp = Some(Time(now().timestamp()));
        world.put(replica);
    }
    let plan = Scheduler.plan(&View::new(world), now()).unwrap();
    let writes: Vec<_> = plan
        .writes()
        .iter()
        .map(|write| (write.target.key.name.clone(), write.part.clone()))
        .collect();
    for mut replica in replicas(world) {
        if let Some((_, binding)) = writes.iter().find(|(name, _)| name == replica.name()) {
            binding.clone().set(&mut replica);
            world.put(replica);
        }
    }
}

fn bound(world: &World) -> Vec<(String, String)> {
    let live = replicas(world).into_iter().filter(|replica| !replica.is_terminating());
    live.filter_map(|replica| {
        let binding = replica.binding?;
        Some((binding.zone?, binding.flavor?))
    })
    .collect()
}

#[test]
fn every_example_is_of_a_known_kind() {
    let documents = examples();
    let of_ours = documents
        .iter()
        .filter(|document| document["apiVersion"] == API_VERSION)
        .count();
    let read = of_kind::<Worker>(&documents).len()
        + of_kind::<GpuFlavor>(&documents).len()
        + of_kind::<GpuPool>(&documents).len()
        + of_kind::<Model>(&documents).len()
        + of_kind::<ModelDeployment>(&documents).len()
        + of_kind::<ModelRoute>(&documents).len();
    assert_eq!((read, of_ours), (10, 10));
    let (_, chat) = demo();
    assert!(
        of_kind::<ModelRoute>(&documents)[0]
            .spec
            .backends
            .iter()
            .any(|backend| backend.deployment_ref.name == chat.name())
    );
}

#[test]
fn five_replicas_are_spread_over_the_zones_of_us_west_2() {
    let (mut world, chat) = demo();
    round(&mut world, &chat);
    let mut placed = bound(&world);
    placed.sort();
    let zones: Vec<&str> = placed.iter().map(|(zone, _)| zone.as_str()).collect();
    assert!(
        placed.iter().all(|(_, flavor)| flavor == "h100-80g"),
        "the first choice has room: {placed:?}"
    );
    let a = zones.iter().filter(|zone| **zone == "us-west-2a").count();
    let b = zones.iter().filter(|zone| **zone == "us-west-2b").count();
    assert_eq!((placed.len(), a.min(b), a.max(b)), (5, 2, 3), "{placed:?}");
}

#[test]
fn twenty_replicas_fit_and_fall_back_to_the_second_flavor() {
    let (mut world, mut chat) = demo();
    chat.spec.replicas = 20;
    round(&mut world, &chat);
    let placed = bound(&world);
    assert_eq!(placed.len(), 20);
    assert_eq!(placed.iter().filter(|(_, flavor)| flavor == "a100-80g").count(), 8);
}

#[test]
fn the_quota_is_charged_for_twenty_and_refuses_ten_thousand() {
    let documents = examples();
    let quota = documents
        .iter()
        .find(|document| document["kind"] == "ResourceQuota")
        .unwrap();
    let hard = |key: &str| quota["spec"]["hard"][key].as_str().unwrap().parse::<u64>().unwrap();
    let mut chat = documents
        .iter()
        .find(|document| document["kind"] == "ModelDeployment")
        .unwrap()
        .clone();
    let case = WorstCase::of(&chat);
    assert!(
        case.replicas <= hard(REPLICAS_KEY) && case.gpus <= hard(GPUS_KEY),
        "{case:?}"
    );
    chat["spec"]["autoscaling"]["maxReplicas"] = 10_000.into();
    assert!(WorstCase::of(&chat).replicas > hard(REPLICAS_KEY));
}

#[test]
fn a_lost_worker_is_replaced_in_the_other_zone() {
    let (mut world, chat) = demo();
    round(&mut world, &chat);
    for mut replica in replicas(&world) {
        replica.status = Some(ReplicaStatus {
            ready: true,
            ..ReplicaStatus::default()
        });
        world.put(replica);
    }
    let mut lost = of_kind::<Worker>(&examples())
        .into_iter()
        .find(|worker| worker.name() == "us-west-2a-1")
        .unwrap();
    let since = now().time();
    lost.lifecycle = Some(Lifecycle {
        state: WorkerState::Lost,
        since,
        last_heartbeat: None,
        message: String::new(),
    });
    world.put(lost);
    round(&mut world, &chat);
    let placed = bound(&world);
    assert_eq!(placed.len(), 5);
    assert!(placed.iter().all(|(zone, _)| zone == "us-west-2b"), "{placed:?}");
    // And then it is at rest.
    let before = replicas(&world);
    round(&mut world, &chat);
    assert_eq!(replicas(&world), before);
}
