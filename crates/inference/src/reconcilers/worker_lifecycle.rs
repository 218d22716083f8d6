//! Judges each Worker by its heartbeat: a Lease of its name in `setpoint-workers`, renewed by its agent.
//!
//! # Guarantees
//! - A worker is Lost only after a whole lease duration of silence *that this control plane has listened to*. One that was down itself begins
//!   to listen when it starts: its return declares nobody dead.
//! - Suspect is quicker and costs nothing: nothing new is placed there, and what runs there stays.
//! - The part changes with the verdict and not with each beat.
//!
//! # Assumptions
//! The clocks of agents and of the control plane agree to within a fraction of the lease duration.
//!
//! # How to get it wrong
//! Taking a Lease that is missing for a dead worker: the agent of a new worker makes the Worker first.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use setpoint_reconcile::{Blocked, EventType, Now, Object, Plan, Reason, Reconciler, View, declare};

use crate::kinds::{Lifecycle, MicroTime, WORKER_NAMESPACE, Worker, WorkerState};

/// See the module.
pub struct WorkerLifecycle {
    observing_since: Timestamp,
}

impl WorkerLifecycle {
    /// Judges no silence before `observing_since`: the start of this control plane.
    pub const fn new(observing_since: Timestamp) -> Self {
        Self { observing_since }
    }
}

declare! { WorkerLifecycle: reads [Lease] }

/// Where the Lease does not say: Kubernetes' node leases take 40 s; a model server is worth a quicker look.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// After this share of the lease duration without a beat, a worker is Suspect. Agents beat three times a duration: two beats were missed.
const SUSPECT_PERCENT: u32 = 70;
/// Past a boundary rather than on it, so that a look that is woken for a verdict finds it.
const PAST: Duration = Duration::from_millis(20);

const READY: Reason = Reason::new("WorkerReady");
const SUSPECT: Reason = Reason::new("WorkerSuspect");
const LOST: Reason = Reason::new("WorkerLost");

impl Reconciler for WorkerLifecycle {
    const NAME: &'static str = "worker-lifecycle";
    type Kind = Worker;
    type Part = Lifecycle;

    fn plan(&self, worker: &Worker, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked> {
        let lease = view.get::<Lease>(WORKER_NAMESPACE, worker.name());
        let lease = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let beat = lease.and_then(|lease| lease.renew_time.as_ref()).map(|time| time.0);
        let duration = lease
            .and_then(|lease| u64::try_from(lease.lease_duration_seconds?).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(DEFAULT_DURATION, Duration::from_secs);
        let suspect_after = duration * SUSPECT_PERCENT / 100;

        // Silence by the worker's own word, and as much of it as was listened to.
        let created = worker
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let silent = now.since(beat.unwrap_or(created));
        let heard_nothing = now.since(beat.unwrap_or(created).max(self.observing_since));
        let before = worker.lifecycle.as_ref();
        let was_lost = before.is_some_and(|before| before.state == WorkerState::Lost);
        let state = if heard_nothing >= duration || (was_lost && silent >= duration) {
            WorkerState::Lost
        } else if beat.is_none() || silent >= suspect_after {
            WorkerState::Suspect
        } else {
            WorkerState::Ready
        };

        let mut plan = Plan::new();
        match state {
            WorkerState::Ready => plan.requeue_after(suspect_after.saturating_sub(silent) + PAST),
            WorkerState::Suspect => plan.requeue_after(duration.saturating_sub(heard_nothing) + PAST),
            // The next beat wakes.
            WorkerState::Lost => &mut plan,
        };
        match before {
            Some(before) if before.state == state => plan.part(before.clone()),
            _ => {
                let message = message(state, beat, duration);
                let (event_type, reason) = match state {
                    WorkerState::Ready => (EventType::Normal, READY),
                    WorkerState::Suspect => (EventType::Normal, SUSPECT),
                    WorkerState::Lost => (EventType::Warning, LOST),
                };
                plan.event(event_type, reason, message.clone());
                plan.part(Lifecycle {
                    state,
                    since: now.time(),
                    last_heartbeat: beat.map(MicroTime),
                    message,
                })
            }
        };
        Ok(plan)
    }
}

fn message(state: WorkerState, beat: Option<Timestamp>, duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (state, beat) {
        (WorkerState::Ready, _) => "its heartbeat is heard".to_owned(),
        (WorkerState::Suspect, None) => "no heartbeat yet".to_owned(),
        (WorkerState::Suspect, Some(beat)) => format!("last heard {beat:.0}; lost after {seconds} s of silence"),
        (WorkerState::Lost, None) => format!("no heartbeat in {seconds} s; its replicas are replaced"),
        (WorkerState::Lost, Some(beat)) => {
            format!("last heard {beat:.0}, over {seconds} s ago; its replicas are replaced")
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use setpoint_reconcile::{PartOf, World, check};

    use super::*;
    use crate::reconcilers::fixtures::{at, lease, worker};

    fn judged(state: Option<WorkerState>) -> Worker {
        let mut worker = worker("w1", "us-west-2", "a", 1);
        worker.metadata.creation_timestamp = Some(at(-1000).time());
        worker.lifecycle = state.map(|state| Lifecycle {
            state,
            since: at(-500).time(),
            last_heartbeat: None,
            message: "as before".into(),
        });
        worker
    }

    fn verdict(before: Option<WorkerState>, beat: Option<i64>, observing: i64, now: i64) -> WorkerState {
        let mut world = World::new();
        if let Some(beat) = beat {
            world.put(lease("w1", beat));
        }
        let worker = judged(before);
        let plan = WorkerLifecycle::new(at(observing).timestamp())
            .plan(&worker, &View::new(&world), at(now))
            .unwrap();
        plan.planned_part().or(Lifecycle::of(&worker)).unwrap().state
    }

    #[test]
    fn verdicts() {
        use WorkerState::{Lost, Ready, Suspect};
        // (before, last beat, listening since, now, verdict); the lease lasts 10 s
        let table = [
            (None, Some(0), -100, 1, Ready),
            (Some(Ready), Some(0), -100, 6, Ready),
            (Some(Ready), Some(0), -100, 7, Suspect),
            (Some(Suspect), Some(0), -100, 10, Lost),
            (Some(Lost), Some(20), -100, 21, Ready),
            // The control plane was down; the agent's last beat is old. It may not be called dead yet, and gets nothing new.
            (Some(Ready), Some(-100), 0, 1, Suspect),
            (Some(Ready), Some(-100), 0, 9, Suspect),
            (Some(Ready), Some(-100), 0, 10, Lost),
            // Who was lost before stays so until it is heard.
            (Some(Lost), Some(-100), 0, 1, Lost),
            // Never heard.
            (None, None, 0, 1, Suspect),
            (None, None, 0, 10, Lost),
        ];
        for (before, beat, observing, now, expected) in table {
            assert_eq!(
                verdict(before, beat, observing, now),
                expected,
                "{before:?} {beat:?} {observing} {now}"
            );
        }
    }

    #[test]
    fn a_worker_falls_silent() {
        let world = World::new().with(lease("w1", 0));
        let judge = WorkerLifecycle::new(at(-100).timestamp());
        expect![[r#"
            part lifecycle
              lastHeartbeat: 2026-01-01T12:00:00.000000Z
              message: last heard 2026-01-01T12:00:00Z, over 10 s ago; its replicas are replaced
              since: 2026-01-01T12:00:12Z
              state: Lost
            event Warning WorkerLost: last heard 2026-01-01T12:00:00Z, over 10 s ago; its replicas are replaced
        "#]]
        .assert_eq(&check(&judge, &judged(Some(WorkerState::Suspect)), &world, at(12)));
    }

    #[test]
    fn a_beat_alone_writes_nothing() {
        let worker = judged(Some(WorkerState::Ready));
        let judge = WorkerLifecycle::new(at(-100).timestamp());
        for now in [1, 2, 3] {
            let world = World::new().with(lease("w1", now));
            let plan = judge.plan(&worker, &View::new(&world), at(now)).unwrap();
            assert_eq!(plan.planned_part(), worker.lifecycle.as_ref());
            assert!(plan.requeue().is_some_and(|after| after > Duration::from_secs(6)));
        }
    }
}
