//! Keeps the replicas of each ModelDeployment: as many as are wanted, of the current revision, none on a worker that is lost.
//!
//! # Guarantees
//! - A replica's spec is written once, at its creation; names are deterministic, so that a plan that is made twice makes them once.
//! - A replacement does not wait for what it replaces: a replica on a lost worker is deleted and stays Terminating until the worker returns.
//! - A name is never taken from a replica that is still there, of whatever owner: its process may still run.
//! - Where the model is missing or unresolved, or the spec contradicts itself, nothing is added or removed, and the status goes on telling what
//!   is there.
//!
//! # Assumptions
//! Deleting a replica drains it: its agent does.
//!
//! # How to get it wrong
//! To follow an Autoscaler that has not seen the current `spec.replicas` yet: `kubectl scale` would be undone by the old decision.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use setpoint_reconcile::{Blocked, EventType, Now, Object, Plan, Reason, Reconciler, View, condition, declare, name};

use super::model::resolve;
use crate::kinds::{
    AGENT_FINALIZER, AVAILABLE, Autoscaler, AutoscalerSpec, BLOCKED, DEPLOYMENT_LABEL, EngineType, LocalRef, Model,
    ModelDeployment, ModelDeploymentStatus, PROGRESSING, PendingReason, Phase, REVISION_LABEL, Replica, ReplicaModel,
    ReplicaSpec, Worker, WorkerState,
};
use crate::rollout::{self, Known};

/// See the module.
pub struct DeploymentReconciler;

declare! { DeploymentReconciler: reads [Model, Worker], owns [Replica, Autoscaler] }

/// A replica that failed for good is replaced this long after its creation: a start that always fails is tried about twice a minute.
const FAILED_HOLD: Duration = Duration::from_secs(30);
/// Letters of a revision: 27^5 is 14 million, and a collision only means that a change is not rolled out.
const REVISION_LETTERS: usize = 5;
/// Kubernetes' limit of a label value, which the deployment's name becomes.
const LABEL_LETTERS: usize = 63;
/// As many reasons as the schema allows.
const MOST_PENDING: usize = 32;
/// Replicas added by one plan. The next plan adds more: a plan stays short, and its commit too.
const BATCH: u32 = 500;

const NAME_TOO_LONG: Reason = Reason::new("NameTooLong");
const INVALID_SPEC: Reason = Reason::new("InvalidSpec");
const MODEL_NOT_FOUND: Reason = Reason::new("ModelNotFound");
const NOT_BLOCKED: Reason = Reason::new("NotBlocked");
const REPLICAS_PENDING: Reason = Reason::new("ReplicasPending");

const WORKER_LOST: Reason = Reason::new("WorkerLost");
const WORKER_GONE: Reason = Reason::new("WorkerGone");
const REPLICA_FAILED: Reason = Reason::new("ReplicaFailed");
const SCALED_DOWN: Reason = Reason::new("ScaledDown");
const SCALED_UP: Reason = Reason::new("ScaledUp");
const OUTDATED: Reason = Reason::new("Outdated");

impl Reconciler for DeploymentReconciler {
    const NAME: &'static str = "deployment";
    type Kind = ModelDeployment;
    type Part = ModelDeploymentStatus;

    fn plan(&self, deployment: &ModelDeployment, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked> {
        let mut plan = Plan::new();
        if deployment.is_terminating() {
            return Ok(plan);
        }
        let owned = view.owned::<Replica>(deployment);
        let template = template(deployment, view);
        let desired = autoscale(deployment, view, &mut plan);
        let mut status = Tally::default();
        match &template {
            Ok(spec) => {
                let changes = keep_going(deployment, spec, desired, &owned, view, &mut plan, now);
                status.changing = changes > 0;
            }
            Err(_) => owned
                .iter()
                .filter(|replica| !replica.is_terminating())
                .for_each(|replica| {
                    plan.keep(replica.as_ref());
                }),
        }
        status.count(&owned, template.as_ref().ok().map(|spec| spec.revision.as_str()));
        plan.part(status.report(deployment, desired, template.as_ref(), now));
        Ok(plan)
    }
}

/// What every replica of the current revision is made of.
///
/// # Errors
/// Why none can be made.
fn template(
    deployment: &ModelDeployment,
    view: &View<'_, DeploymentReconciler>,
) -> Result<ReplicaSpec, (Reason, String)> {
    let spec = &deployment.spec;
    if deployment.name().len() > LABEL_LETTERS {
        let message = format!(
            "the name has {} characters, {LABEL_LETTERS} are allowed",
            deployment.name().len()
        );
        return Err((NAME_TOO_LONG, message));
    }
    if spec.engine.type_ == EngineType::Command && spec.engine.command.is_empty() {
        return Err((
            INVALID_SPEC,
            "spec.engine.command is required for engine type Command".to_owned(),
        ));
    }
    if let Some(bounds) = spec
        .autoscaling
        .as_ref()
        .filter(|bounds| bounds.min_replicas > bounds.max_replicas)
    {
        let (min, max) = (bounds.min_replicas, bounds.max_replicas);
        return Err((
            INVALID_SPEC,
            format!("spec.autoscaling: minReplicas {min} is greater than maxReplicas {max}"),
        ));
    }
    let wanted = &spec.model_ref.name;
    let model = view
        .get::<Model>(deployment.namespace(), wanted)
        .filter(|model| !model.is_terminating());
    let Some(model) = model else {
        return Err((
            MODEL_NOT_FOUND,
            format!("there is no Model {wanted} in namespace {}", deployment.namespace()),
        ));
    };
    resolve(&model).map_err(|(reason, message)| (reason, format!("Model {wanted}: {message}")))?;
    let mut made = ReplicaSpec {
        deployment_ref: LocalRef::new(deployment.name()),
        revision: String::new(),
        model: ReplicaModel {
            name: wanted.clone(),
            uri: model.spec.uri.clone(),
            digest: model.spec.digest.clone().unwrap_or_default(),
            format: model.spec.format,
            size_bytes: model.spec.size_bytes,
        },
        engine: spec.engine.clone(),
        accelerators: spec.accelerators.clone(),
        resources: spec.resources,
        placement: spec.placement.clone(),
        priority: spec.priority,
        drain_seconds: spec.drain_seconds,
    };
    // The order of a struct's fields is that of its declaration, and maps are sorted: equal specs have equal texts.
    let text = serde_json::to_string(&made).map_err(|error| (INVALID_SPEC, error.to_string()))?;
    made.revision = name::digest(&[&text]).chars().take(REVISION_LETTERS).collect();
    Ok(made)
}

/// Plans the Autoscaler, and says how many replicas are wanted.
fn autoscale(
    deployment: &ModelDeployment,
    view: &View<'_, DeploymentReconciler>,
    plan: &mut Plan<DeploymentReconciler>,
) -> u32 {
    let spec = &deployment.spec;
    let Some(bounds) = &spec.autoscaling else {
        return spec.replicas;
    };
    plan.child(Autoscaler::new(
        deployment.name(),
        AutoscalerSpec {
            target: LocalRef::new(deployment.name()),
            baseline_replicas: spec.replicas,
            min_replicas: bounds.min_replicas,
            max_replicas: bounds.max_replicas,
            metrics: bounds.metrics.clone(),
            behavior: bounds.behavior.clone(),
        },
    ));
    let decided = view
        .child::<Autoscaler>(deployment, deployment.name())
        .and_then(|autoscaler| autoscaler.status.clone())
        .filter(|status| status.baseline == Some(spec.replicas))
        .map_or(spec.replicas, |status| status.desired_replicas);
    // Not `clamp`, which panics where the bounds contradict each other.
    decided.max(bounds.min_replicas).min(bounds.max_replicas)
}

/// Plans additions and removals, and keeps the rest. Returns how many replicas change.
fn keep_going(
    deployment: &ModelDeployment,
    spec: &ReplicaSpec,
    desired: u32,
    owned: &[Arc<Replica>],
    view: &View<'_, DeploymentReconciler>,
    plan: &mut Plan<DeploymentReconciler>,
    now: Now,
) -> usize {
    let mut replaced = 0;
    let (mut current, mut old) = (Vec::new(), Vec::new());
    let live: Vec<&Replica> = owned
        .iter()
        .map(Arc::as_ref)
        .filter(|replica| !replica.is_terminating())
        .collect();
    for &replica in &live {
        match broken(replica, view, now) {
            Verdict::Replace(reason, why) => {
                plan.delete(replica, reason);
                plan.event(
                    EventType::Warning,
                    reason,
                    format!("replaces {}: {why}", replica.name()),
                );
                replaced += 1;
            }
            verdict => {
                if let Verdict::ReplaceAfter(wait) = verdict {
                    plan.requeue_after(wait);
                }
                let group = if replica.spec.revision == spec.revision {
                    &mut current
                } else {
                    &mut old
                };
                group.push(known(replica));
            }
        }
    }
    let before = live.len();
    let changes = rollout::next(desired, &deployment.spec.rollout, current, old);
    let removed = |name: &str| {
        let of = |names: &[&str], reason| names.contains(&name).then_some(reason);
        of(&changes.surplus, SCALED_DOWN).or_else(|| of(&changes.outdated, OUTDATED))
    };
    for &replica in &live {
        match removed(replica.name()) {
            Some(reason) => drop(plan.delete(replica, reason)),
            // Deleted above as broken, or kept as it is.
            None => drop(plan.keep(replica)),
        }
    }
    let added = changes.create.min(BATCH);
    create(deployment, spec, added, view, plan);
    if added < changes.create {
        plan.requeue_after(Duration::from_millis(1));
    }
    if !changes.surplus.is_empty() {
        let message = format!(
            "removes {} of {before} replicas; {desired} are wanted",
            changes.surplus.len()
        );
        plan.event(EventType::Normal, SCALED_DOWN, message);
    }
    if !changes.outdated.is_empty() {
        let message = format!(
            "removes {} replicas of old revisions; current is {}",
            changes.outdated.len(),
            spec.revision
        );
        plan.event(EventType::Normal, OUTDATED, message);
    }
    if added > 0 {
        let message = format!(
            "adds {added} replicas of revision {}; {desired} are wanted",
            spec.revision
        );
        plan.event(EventType::Normal, SCALED_UP, message);
    }
    replaced + changes.surplus.len() + changes.outdated.len() + changes.create as usize
}

enum Verdict {
    Fine,
    Replace(Reason, String),
    ReplaceAfter(Duration),
}

/// Whether a replica has to be replaced where it is.
fn broken(replica: &Replica, view: &View<'_, DeploymentReconciler>, now: Now) -> Verdict {
    if let Some(worker) = replica.worker() {
        match view.get::<Worker>("", worker) {
            None => return Verdict::Replace(WORKER_GONE, format!("worker {worker} is no more")),
            Some(found) if found.state() == Some(WorkerState::Lost) => {
                return Verdict::Replace(WORKER_LOST, format!("worker {worker} is lost"));
            }
            Some(_) => {}
        }
    }
    if replica.phase() != Phase::Failed {
        return Verdict::Fine;
    }
    let created = replica
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    match FAILED_HOLD
        .checked_sub(now.since(created))
        .filter(|wait| !wait.is_zero())
    {
        Some(wait) => Verdict::ReplaceAfter(wait),
        None => {
            let why = replica
                .status
                .as_ref()
                .and_then(|status| status.message.as_deref())
                .unwrap_or("it failed");
            Verdict::Replace(REPLICA_FAILED, why.to_owned())
        }
    }
}

fn known(replica: &Replica) -> Known<'_> {
    Known {
        placed: replica.worker().is_some(),
        ready: replica.is_ready(),
        created: Reverse(replica.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        name: Reverse(replica.name()),
    }
}

/// Plans `count` new replicas under the lowest ordinals that no replica has.
fn create(
    deployment: &ModelDeployment,
    spec: &ReplicaSpec,
    count: u32,
    view: &View<'_, DeploymentReconciler>,
    plan: &mut Plan<DeploymentReconciler>,
) {
    let labels: BTreeMap<String, String> = [(DEPLOYMENT_LABEL, deployment.name()), (REVISION_LABEL, &spec.revision)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let names = (0_u64..)
        .map(|ordinal| name::join(deployment.name(), &format!("{}-{ordinal}", spec.revision)))
        // A replica of this name may belong to a deployment of this name that was deleted a moment ago.
        .filter(|name| view.get::<Replica>(deployment.namespace(), name).is_none())
        .take(count as usize);
    for name in names {
        let mut replica = Replica::new(name, spec.clone());
        replica.metadata.labels = Some(labels.clone());
        replica.metadata.finalizers = Some(vec![AGENT_FINALIZER.to_owned()]);
        plan.child(replica);
    }
}

/// What there is.
#[derive(Default)]
struct Tally {
    replicas: u32,
    ready: u32,
    updated: u32,
    terminating: u32,
    changing: bool,
    pending: BTreeMap<String, (u32, String)>,
}

impl Tally {
    fn count(&mut self, owned: &[Arc<Replica>], revision: Option<&str>) {
        for replica in owned {
            if replica.is_terminating() {
                self.terminating += 1;
                continue;
            }
            self.replicas += 1;
            self.ready += u32::from(replica.is_ready());
            self.updated += u32::from(Some(replica.spec.revision.as_str()) == revision);
            // A replica that the scheduler has not looked at yet waits for no reason.
            if let Some(binding) = replica.binding.as_ref().filter(|binding| binding.worker.is_none()) {
                let entry = self
                    .pending
                    .entry(binding.reason.clone())
                    .or_insert_with(|| (0, binding.message.clone()));
                entry.0 += 1;
            }
        }
    }

    fn report(
        self,
        deployment: &ModelDeployment,
        desired: u32,
        template: Result<&ReplicaSpec, &(Reason, String)>,
        now: Now,
    ) -> ModelDeploymentStatus {
        let before = deployment.status.as_ref();
        let generation = deployment.metadata.generation;
        let mut conditions = before.map_or_else(Vec::new, |status| status.conditions.clone());
        let mut set = |type_, status, reason: &'static str, message: String| {
            condition::set(
                &mut conditions,
                type_,
                status,
                Reason::new(reason),
                message,
                generation,
                now,
            );
        };
        let (_, unavailable) = rollout::fenceposts(&deployment.spec.rollout, desired);
        let needed = desired.saturating_sub(unavailable);
        let ready = format!("{} of {desired} replicas are ready; {needed} must be", self.ready);
        let available = self.ready >= needed;
        set(
            AVAILABLE,
            available,
            if available {
                "MinimumReplicasReady"
            } else {
                "TooFewReplicasReady"
            },
            ready,
        );
        let starting = self.replicas - self.ready.min(self.replicas);
        let (progressing, reason) = if self.changing {
            (true, "ReplicasChanging")
        } else if starting > 0 {
            (true, "ReplicasStarting")
        } else if self.terminating > 0 {
            (true, "ReplicasTerminating")
        } else {
            (false, "Complete")
        };
        let counts = format!(
            "{} replicas, {starting} not ready, {} being removed",
            self.replicas, self.terminating
        );
        set(PROGRESSING, progressing, reason, counts);

        let mut pending: Vec<PendingReason> = (self.pending.into_iter())
            .map(|(reason, (count, message))| PendingReason { reason, count, message })
            .collect();
        pending.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        pending.truncate(MOST_PENDING);
        let (blocked, reason, message) = match (template, pending.first()) {
            (Err((reason, message)), _) => (true, *reason, message.clone()),
            (Ok(_), Some(first)) => (
                true,
                REPLICAS_PENDING,
                format!("{} replicas wait: {}: {}", first.count, first.reason, first.message),
            ),
            (Ok(_), None) => (false, NOT_BLOCKED, "nothing stands in the way".to_owned()),
        };
        condition::set(&mut conditions, BLOCKED, blocked, reason, message, generation, now);
        ModelDeploymentStatus {
            observed_generation: generation,
            desired_replicas: desired,
            replicas: self.replicas,
            ready_replicas: self.ready,
            updated_replicas: self.updated,
            unavailable_replicas: desired.saturating_sub(self.ready),
            terminating_replicas: self.terminating,
            revision: match template {
                Ok(spec) => Some(spec.revision.clone()),
                Err(_) => before.and_then(|status| status.revision.clone()),
            },
            selector: Some(format!("{DEPLOYMENT_LABEL}={}", deployment.name())),
            conditions,
            pending,
        }
    }
}

#[cfg(test)]
mod tests;
