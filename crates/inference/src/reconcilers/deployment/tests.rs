use expect_test::expect;
use setpoint_reconcile::{Child, World, check};

use super::*;
use crate::kinds::{AutoscalerStatus, Autoscaling, Metric, ModelDeploymentSpec};
use crate::reconcilers::fixtures::{NAMESPACE, at, bound, in_phase, model, owned_by, ready, terminating, worker};

const UID: &str = "uid-chat";

fn deployment(replicas: u32) -> ModelDeployment {
    let mut deployment = ModelDeployment::new(
        "chat",
        ModelDeploymentSpec {
            replicas,
            ..ModelDeploymentSpec::of_model("smollm2")
        },
    )
    .within(NAMESPACE);
    deployment.metadata.uid = Some(UID.into());
    deployment.metadata.generation = Some(3);
    deployment
}

fn autoscaled(replicas: u32, min: u32, max: u32) -> ModelDeployment {
    let mut deployment = deployment(replicas);
    deployment.spec.autoscaling = Some(Autoscaling {
        min_replicas: min,
        max_replicas: max,
        metrics: vec![Metric {
            target: 4,
            ..Metric::default()
        }],
        behavior: Default::default(),
    });
    deployment
}

fn world() -> World {
    World::new()
        .with(model())
        .with(worker("w1", "us-west-2", "a", 8))
        .with(worker("w2", "us-west-2", "b", 8))
}

fn plan(deployment: &ModelDeployment, world: &World) -> Plan<DeploymentReconciler> {
    DeploymentReconciler.plan(deployment, &View::new(world), at(0)).unwrap()
}

/// The replicas that the deployment would make in an empty world.
fn made(deployment: &ModelDeployment) -> Vec<Replica> {
    let world = world();
    let plan = plan(deployment, &world);
    let replicas = plan.children().iter().filter(|child| child.kind.kind == "Replica");
    let stored = |child: &Child| {
        let mut replica: Replica = serde_json::from_value(child.object.clone()).unwrap();
        replica.metadata.namespace = Some(NAMESPACE.into());
        replica.metadata.creation_timestamp = Some(at(-60).time());
        owned_by(replica, UID)
    };
    replicas.map(stored).collect()
}

fn running(deployment: &ModelDeployment) -> Vec<Replica> {
    let on = |(index, replica)| ready(bound(replica, ["w1", "w2"][index % 2], &[]));
    made(deployment).into_iter().enumerate().map(on).collect()
}

/// Lines of the rendered plan that say what happens to replicas, and why.
fn acts(text: &str) -> String {
    let starts = ["child Replica", "delete", "prune", "event", "requeue", "blocked"];
    let lines = text
        .lines()
        .filter(|line| starts.iter().any(|start| line.starts_with(start)));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_new_deployment() {
    expect![[r#"
        child Autoscaler team-a/chat
          spec:
            baselineReplicas: 1
            behavior:
              panicHoldSeconds: 60
              panicThresholdPercent: 200
              scaleDownStabilizationSeconds: 300
              scaleUpStabilizationSeconds: 0
              staleAfterSeconds: 30
              tolerancePercent: 10
            maxReplicas: 20
            metrics:
              -
                target: 4
                type: Concurrency
            minReplicas: 1
            target:
              name: chat
        child Replica team-a/chat-vw927-0
          metadata:
            finalizers:
              - inference.setpoint.dev/agent
            labels:
              inference.setpoint.dev/deployment: chat
              inference.setpoint.dev/revision: vw927
          spec:
            deploymentRef:
              name: chat
            drainSeconds: 30
            engine:
              failureThreshold: 3
              healthPath: /health
              probePeriodSeconds: 1
              startupTimeoutSeconds: 600
              type: Candle
            model:
              digest: sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
              format: GGUF
              name: smollm2
              sizeBytes: 98362432
              uri: file:///models/smollm2.gguf
            priority: 0
            revision: vw927
        part status
          conditions:
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: 0 of 1 replicas are ready; 1 must be
              observedGeneration: 3
              reason: TooFewReplicasReady
              status: False
              type: Available
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: 0 replicas, 0 not ready, 0 being removed
              observedGeneration: 3
              reason: ReplicasChanging
              status: True
              type: Progressing
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: nothing stands in the way
              observedGeneration: 3
              reason: NotBlocked
              status: False
              type: Blocked
          desiredReplicas: 1
          observedGeneration: 3
          readyReplicas: 0
          replicas: 0
          revision: vw927
          selector: inference.setpoint.dev/deployment=chat
          terminatingReplicas: 0
          unavailableReplicas: 1
          updatedReplicas: 0
        event Normal ScaledUp: adds 1 replicas of revision vw927; 1 are wanted
    "#]]
    .assert_eq(&check(&DeploymentReconciler, &autoscaled(1, 1, 20), &world(), at(0)));
}

#[test]
fn a_deployment_at_rest_changes_nothing() {
    let deployment = deployment(2);
    let world = world().with_all(running(&deployment));
    expect![[r#"
        part status
          conditions:
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: 2 of 2 replicas are ready; 2 must be
              observedGeneration: 3
              reason: MinimumReplicasReady
              status: True
              type: Available
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: 2 replicas, 0 not ready, 0 being removed
              observedGeneration: 3
              reason: Complete
              status: False
              type: Progressing
            -
              lastTransitionTime: 2026-01-01T12:00:00Z
              message: nothing stands in the way
              observedGeneration: 3
              reason: NotBlocked
              status: False
              type: Blocked
          desiredReplicas: 2
          observedGeneration: 3
          readyReplicas: 2
          replicas: 2
          revision: vw927
          selector: inference.setpoint.dev/deployment=chat
          terminatingReplicas: 0
          unavailableReplicas: 0
          updatedReplicas: 2
    "#]]
    .assert_eq(&check(&DeploymentReconciler, &deployment, &world, at(0)));
}

#[test]
fn scaling_down_takes_the_youngest_and_the_unplaced_first() {
    let mut replicas = running(&deployment(4));
    replicas[1].metadata.creation_timestamp = Some(at(-5).time());
    replicas[2].binding = None;
    replicas[2].status = None;
    let world = world().with_all(replicas);
    expect![[r#"
        delete Replica team-a/chat-vw927-1: ScaledDown
        delete Replica team-a/chat-vw927-2: ScaledDown
        event Normal ScaledDown: removes 2 of 4 replicas; 2 are wanted
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment(2), &world, at(0))));
}

#[test]
fn a_lost_worker() {
    let deployment = deployment(3);
    let mut lost = worker("w2", "us-west-2", "b", 8);
    lost.lifecycle.as_mut().unwrap().state = WorkerState::Lost;
    let mut world = world().with(lost).with_all(running(&deployment));
    expect![[r#"
        child Replica team-a/chat-vw927-3
        delete Replica team-a/chat-vw927-1: WorkerLost
        event Warning WorkerLost: replaces chat-vw927-1: worker w2 is lost
        event Normal ScaledUp: adds 1 replicas of revision vw927; 3 are wanted
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment, &world, at(0))));

    // Once they are Terminating, they are replaced without delay, under other names.
    for replica in running(&deployment)
        .into_iter()
        .filter(|replica| replica.worker() == Some("w2"))
    {
        world.put(terminating(replica));
    }
    expect![[r#"
        child Replica team-a/chat-vw927-3
        event Normal ScaledUp: adds 1 replicas of revision vw927; 3 are wanted
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment, &world, at(0))));
}

#[test]
fn a_suspect_worker_keeps_its_replicas() {
    let deployment = deployment(3);
    let mut suspect = worker("w2", "us-west-2", "b", 8);
    suspect.lifecycle.as_mut().unwrap().state = WorkerState::Suspect;
    let world = world().with(suspect).with_all(running(&deployment));
    expect![[r#""#]].assert_eq(&acts(&check(&DeploymentReconciler, &deployment, &world, at(0))));
}

#[test]
fn a_failed_replica_is_replaced_after_a_while() {
    let deployment = deployment(2);
    let mut replicas = running(&deployment);
    replicas[0] = in_phase(replicas[0].clone(), Phase::Failed);
    replicas[0].status.as_mut().unwrap().message = Some("the engine exited with 1".into());
    replicas[0].metadata.creation_timestamp = Some(at(-10).time());
    let mut world = world().with_all(replicas.clone());
    expect![[r#"
        requeue after 20s
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment, &world, at(0))));
    replicas[0].metadata.creation_timestamp = Some(at(-30).time());
    world.put(replicas[0].clone());
    expect![[r#"
        child Replica team-a/chat-vw927-2
        delete Replica team-a/chat-vw927-0: ReplicaFailed
        event Warning ReplicaFailed: replaces chat-vw927-0: the engine exited with 1
        event Normal ScaledUp: adds 1 replicas of revision vw927; 2 are wanted
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment, &world, at(0))));
}

#[test]
fn a_new_revision_surges_by_one() {
    let old = deployment(3);
    let mut new = deployment(3);
    new.spec.drain_seconds = 5;
    let mut world = world().with_all(running(&old));
    let revision = made(&new)[0].spec.revision.clone();
    assert_ne!(revision, made(&old)[0].spec.revision);
    expect![[r#"
        child Replica team-a/chat-l55c7-0
        event Normal ScaledUp: adds 1 replicas of revision l55c7; 3 are wanted
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &new, &world, at(0))));
    world.put(running(&new)[0].clone());
    expect![[r#"
        delete Replica team-a/chat-vw927-2: Outdated
        event Normal Outdated: removes 1 replicas of old revisions; current is l55c7
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &new, &world, at(0))));
}

#[test]
fn the_autoscaler_is_followed_once_it_started_from_the_same_number() {
    let deployment = autoscaled(5, 2, 20);
    let mut world = world();
    let mut autoscaler = Autoscaler::new("chat", AutoscalerSpec::default()).within(NAMESPACE);
    autoscaler.metadata.owner_references = owned_by(made(&deployment)[0].clone(), UID).metadata.owner_references;
    let desired = |world: &World| plan(&deployment, world).planned_part().unwrap().desired_replicas;
    for (baseline, decided, expected) in [(5, 7, 7), (4, 7, 5), (5, 50, 20), (5, 0, 2)] {
        autoscaler.status = Some(AutoscalerStatus {
            desired_replicas: decided,
            baseline: Some(baseline),
            ..AutoscalerStatus::default()
        });
        world.put(autoscaler.clone());
        assert_eq!(desired(&world), expected, "baseline {baseline}, decided {decided}");
    }
}

#[test]
fn without_autoscaling_the_autoscaler_is_pruned() {
    let mut autoscaler = Autoscaler::new("chat", AutoscalerSpec::default()).within(NAMESPACE);
    autoscaler.metadata.owner_references = owned_by(made(&deployment(1))[0].clone(), UID).metadata.owner_references;
    let world = world().with(autoscaler).with_all(running(&deployment(1)));
    expect![[r#"
        prune Autoscaler team-a/chat
    "#]]
    .assert_eq(&acts(&check(&DeploymentReconciler, &deployment(1), &world, at(0))));
}

#[test]
fn without_its_model_it_says_so_and_keeps_what_runs() {
    let deployment = deployment(2);
    let world = World::new()
        .with(worker("w1", "us-west-2", "a", 8))
        .with_all(running(&deployment).into_iter().take(1));
    let text = check(&DeploymentReconciler, &deployment, &world, at(0));
    assert_eq!(acts(&text), "");
    let status = plan(&deployment, &world).planned_part().unwrap().clone();
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (1, 1, 2)
    );
    let blocked = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == BLOCKED)
        .unwrap();
    assert_eq!(
        (blocked.status.as_str(), blocked.reason.as_str()),
        ("True", "ModelNotFound")
    );
}

#[test]
fn contradictions_are_told() {
    let reason = |deployment: &ModelDeployment| {
        template(deployment, &View::new(&world()))
            .err()
            .map(|(reason, _)| reason.as_str())
    };
    assert_eq!(reason(&deployment(1)), None);
    assert_eq!(reason(&autoscaled(1, 9, 2)), Some("InvalidSpec"));
    let mut command = deployment(1);
    command.spec.engine.type_ = EngineType::Command;
    assert_eq!(reason(&command), Some("InvalidSpec"));
    let mut long = deployment(1);
    long.metadata.name = Some("n".repeat(64));
    assert_eq!(reason(&long), Some("NameTooLong"));
    // And no plan comes of them, and no panic.
    assert!(
        plan(&autoscaled(1, 9, 2), &world())
            .children()
            .iter()
            .all(|child| child.kind.kind == "Autoscaler")
    );
}

#[test]
fn names_of_a_deleted_namesake_are_not_taken() {
    let deployment = deployment(2);
    let mut foreign = running(&deployment)[0].clone();
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "an-earlier-chat".into();
    let world = world().with(terminating(foreign.clone()));
    let plan = plan(&deployment, &world);
    let names: Vec<&str> = plan.children().iter().map(|child| child.key.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    assert!(!names.contains(&foreign.name()), "{names:?}");
}

#[test]
fn a_plan_is_bounded() {
    let world = world();
    let plan = plan(&deployment(2_000), &world);
    assert_eq!(plan.children().len(), BATCH as usize);
    assert!(plan.requeue().is_some());
}

#[test]
fn pending_reasons_are_told() {
    let deployment = deployment(2);
    let mut replicas = made(&deployment);
    for replica in &mut replicas {
        replica.binding.get_or_insert_default().reason = "NoMatchingRegion".into();
        replica.binding.get_or_insert_default().message = "no worker is in region mars-1".into();
    }
    let world = world().with_all(replicas);
    let status = plan(&deployment, &world).planned_part().unwrap().clone();
    expect![[r#"
        [
            PendingReason {
                reason: "NoMatchingRegion",
                count: 2,
                message: "no worker is in region mars-1",
            },
        ]
    "#]]
    .assert_debug_eq(&status.pending);
    assert!(condition::is_true(&status.conditions, BLOCKED));
}
