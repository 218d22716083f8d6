//! Binds replicas to workers and devices: all that wait, against one ledger. The law is [`crate::placement`]'s.
//!
//! # Guarantees
//! - A device has one owner at most: every binding in the view is held before anything is placed, those of replicas that are being removed
//!   included, and a pass sees its own last writes before it runs again.
//! - A binding with a worker is never changed. What must move is replaced by the deployment reconciler.
//! - A replica that no agent will ever see go loses the agent's finalizer here: one that was never bound, or whose Worker is no more.
//!
//! # How to get it wrong
//! Writing the explanation of a waiting replica each time that a number in it moves: ten thousand waiting replicas would be written for
//! each one that is placed. It is written when the reason, the tally of workers or the way out changes.

use std::cmp::Reverse;
use std::sync::Arc;

use setpoint_reconcile::{Blocked, EventType, Now, Object, Pass, PassPlan, Query, Reason as Word, View, declare};

use crate::kinds::{AGENT_FINALIZER, Binding, GpuFlavor, Replica, Worker};
use crate::placement::{Fleet, Placed, Unplaced};

/// See the module.
pub struct Scheduler;

declare! { Scheduler: reads [Replica, Worker, GpuFlavor] }

const SCHEDULED: Word = Word::new("Scheduled");
const FAILED_SCHEDULING: Word = Word::new("FailedScheduling");
/// `Binding.reason` of a replica that has its place.
const BOUND: &str = "Bound";

impl Pass for Scheduler {
    const NAME: &'static str = "scheduler";
    const FINALIZERS: &'static [&'static str] = &[AGENT_FINALIZER];
    type Subject = Replica;
    type Part = Binding;

    fn plan(&self, view: &View<'_, Self>, now: Now) -> Result<PassPlan<Self>, Blocked> {
        let workers = view.list::<Worker>(Query::all());
        let flavors = view.list::<GpuFlavor>(Query::all());
        let replicas = view.list::<Replica>(Query::all());
        let mut fleet = Fleet::new(workers.iter().map(Arc::as_ref), flavors.iter().map(Arc::as_ref));
        let mut plan = PassPlan::new();
        let mut waiting = Vec::new();
        for replica in replicas.iter().map(Arc::as_ref) {
            match replica.worker() {
                Some(worker) => {
                    fleet.hold(replica);
                    if replica.is_terminating() && view.get::<Worker>("", worker).is_none() {
                        plan.remove_finalizer(replica, AGENT_FINALIZER);
                    }
                }
                None if replica.is_terminating() => {
                    plan.remove_finalizer(replica, AGENT_FINALIZER);
                }
                None => waiting.push(replica),
            }
            if !replica.is_terminating() {
                fleet.learn(&replica.spec);
            }
        }
        // First what matters more, then what has waited longer. The view's order breaks ties.
        waiting.sort_by_key(|replica| {
            let created = replica.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (Reverse(replica.spec.priority), created)
        });
        for replica in waiting {
            match fleet.place(replica.namespace(), &replica.spec) {
                Ok(placed) => bind(&mut plan, replica, placed, now),
                Err(unplaced) => wait(&mut plan, replica, unplaced),
            }
        }
        Ok(plan)
    }
}

fn bind(plan: &mut PassPlan<Scheduler>, replica: &Replica, placed: Placed, now: Now) {
    let on = match &placed.flavor {
        Some(flavor) => format!("{} × {flavor} of {}", placed.devices.len(), placed.worker),
        None => format!("the processor of {}", placed.worker),
    };
    let mut message = format!("on {on}; {} of {} workers fitted", placed.feasible, placed.considered);
    if placed.alternative > 0 {
        message.push_str(&format!(
            "; choice {} of {}",
            placed.alternative + 1,
            replica.spec.accelerators.len()
        ));
    }
    plan.event(replica, EventType::Normal, SCHEDULED, message.clone());
    plan.write(
        replica,
        Binding {
            worker: Some(placed.worker),
            flavor: placed.flavor,
            devices: placed.devices,
            region: Some(placed.region),
            zone: placed.zone,
            market: Some(placed.market),
            hourly_cost: placed.hourly_cost,
            bound_at: Some(now.time()),
            reason: BOUND.to_owned(),
            message,
            considered: placed.considered,
            filtered: Vec::new(),
            counterfactuals: Vec::new(),
        },
    );
}

fn wait(plan: &mut PassPlan<Scheduler>, replica: &Replica, unplaced: Unplaced) {
    let reason = unplaced.reason.as_str();
    let before = replica.binding.as_ref();
    if before.is_some_and(|before| {
        before.reason == reason
            && before.filtered == unplaced.filtered
            && before.counterfactuals == unplaced.counterfactuals
    }) {
        return;
    }
    if before.is_none_or(|before| before.reason != reason) {
        let message = format!("{reason}: {}", unplaced.message);
        plan.event(replica, EventType::Warning, FAILED_SCHEDULING, message);
    }
    plan.write(
        replica,
        Binding {
            reason: reason.to_owned(),
            message: unplaced.message,
            considered: unplaced.considered,
            filtered: unplaced.filtered,
            counterfactuals: unplaced.counterfactuals,
            ..Binding::default()
        },
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use setpoint_reconcile::{World, check_pass};

    use super::*;
    use crate::kinds::{Accelerator, Placement, WorkerState};
    use crate::reconcilers::fixtures::{at, bound, flavor, replica, terminating, worker};

    fn world() -> World {
        World::new()
            .with(flavor("h100-80g", "4.50"))
            .with(worker("w1", "us-west-2", "a", 2))
            .with(worker("w2", "us-east-1", "a", 2))
    }

    #[test]
    fn replicas_are_bound_to_free_devices() {
        let world = world()
            .with(bound(replica("chat-0"), "w1", &["0"]))
            .with(replica("chat-1"));
        expect![[r#"
            part binding of Replica team-a/chat-1
              boundAt: 2026-01-01T12:00:00Z
              considered: 2
              devices:
                - 1
              flavor: h100-80g
              hourlyCost: 4.50
              market: OnDemand
              message: on 1 × h100-80g of w1; 2 of 2 workers fitted
              reason: Bound
              region: us-west-2
              worker: w1
              zone: us-west-2a
            event Normal Scheduled about team-a/chat-1: on 1 × h100-80g of w1; 2 of 2 workers fitted
        "#]]
        .assert_eq(&check_pass(&Scheduler, &world, at(0)));
    }

    #[test]
    fn a_region_that_no_worker_is_in() {
        let mut far = replica("chat-0");
        far.spec.placement = Some(Placement {
            regions: vec!["mars-1".into()],
            ..Placement::default()
        });
        expect![[r#"
            part binding of Replica team-a/chat-0
              considered: 2
              counterfactuals:
                -
                  change: drop placement.regions
                  workers: 2
              filtered:
                -
                  reason: NoMatchingRegion
                  workers: 2
              message: no worker is in region mars-1; regions that have workers: us-east-1, us-west-2
              reason: NoMatchingRegion
            event Warning FailedScheduling about team-a/chat-0: NoMatchingRegion: no worker is in region mars-1; regions that have workers: us-east-1, us-west-2
        "#]].assert_eq(&check_pass(&Scheduler, &world().with(far), at(0)));
    }

    #[test]
    fn more_replicas_than_devices() {
        let mut large = replica("chat-1");
        large.spec.accelerators[0].count = 2;
        let world = world()
            .with(bound(replica("chat-0"), "w1", &["0"]))
            .with(bound(replica("chat-2"), "w2", &["1"]));
        expect![[r#"
            part binding of Replica team-a/chat-1
              considered: 2
              filtered:
                -
                  reason: InsufficientDevices
                  workers: 2
              message: 2 × h100-80g needed on one worker; on the 2 workers that match, 2 of 4 h100-80g are free, 1 at most on one worker
              reason: InsufficientDevices
            event Warning FailedScheduling about team-a/chat-1: InsufficientDevices: 2 × h100-80g needed on one worker; on the 2 workers that match, 2 of 4 h100-80g are free, 1 at most on one worker
        "#]].assert_eq(&check_pass(&Scheduler, &world.with(large), at(0)));
    }

    #[test]
    fn the_same_explanation_is_not_written_twice() {
        let mut far = replica("chat-0");
        far.spec.accelerators = vec![Accelerator {
            flavor: "tpu".into(),
            count: 1,
            market: None,
            max_hourly_cost: None,
        }];
        let mut world = world().with(far.clone());
        let view = View::new(&world);
        let first = Scheduler.plan(&view, at(0)).unwrap();
        far.binding = Some(first.writes()[0].part.clone());
        world.put(far);
        expect!["nothing\n"].assert_eq(&check_pass(&Scheduler, &world, at(1)));
    }

    #[test]
    fn finalizers_that_no_agent_will_remove() {
        let world = world()
            .with(terminating(replica("never-bound")))
            .with(terminating(bound(replica("worker-deleted"), "w9", &["0"])))
            .with(terminating(bound(replica("draining"), "w1", &["0"])));
        expect![[r#"
            remove finalizer inference.setpoint.dev/agent of Replica team-a/never-bound
            remove finalizer inference.setpoint.dev/agent of Replica team-a/worker-deleted
        "#]]
        .assert_eq(&check_pass(&Scheduler, &world, at(0)));
    }

    #[test]
    fn priority_goes_first_then_age() {
        let aged = |name: &str, priority: i32, created: i64| {
            let mut replica = replica(name);
            replica.spec.priority = priority;
            replica.metadata.creation_timestamp = Some(at(created).time());
            replica
        };
        let mut east = worker("w2", "us-east-1", "a", 2);
        east.lifecycle.as_mut().unwrap().state = WorkerState::Suspect;
        let world = world()
            .with(east)
            .with(aged("a", 0, 5))
            .with(aged("b", 0, 1))
            .with(aged("c", 7, 9));
        let plan = Scheduler.plan(&View::new(&world), at(10)).unwrap();
        let bound: Vec<&str> = (plan.writes().iter())
            .filter(|write| write.part.worker.is_some())
            .map(|write| write.target.key.name.as_str())
            .collect();
        assert_eq!(bound, ["c", "b"]);
    }
}
