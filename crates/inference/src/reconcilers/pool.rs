//! Adds up what the workers of a pool have, and what replicas use of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use setpoint_reconcile::{Blocked, Now, Object, Plan, Query, Reason, Reconciler, View, condition, declare};

use crate::kinds::{
    Devices, FlavorUse, GpuPool, GpuPoolSpec, GpuPoolStatus, Money, POOL_READY, Replica, Worker, WorkerState,
};

/// See the module.
pub struct PoolReconciler;

declare! { PoolReconciler: reads [Worker, Replica] }

const HAS_READY: Reason = Reason::new("WorkersReady");
const NONE_READY: Reason = Reason::new("NoReadyWorkers");

impl GpuPoolSpec {
    /// Whether the worker belongs to the pool.
    pub fn selects(&self, worker: &Worker) -> bool {
        (self.regions.is_empty() || self.regions.contains(&worker.spec.region))
            && self
                .worker_selector
                .iter()
                .all(|(key, value)| worker.placement_label(key) == Some(value))
    }
}

impl Reconciler for PoolReconciler {
    const NAME: &'static str = "pool";
    type Kind = GpuPool;
    type Part = GpuPoolStatus;

    fn plan(&self, pool: &GpuPool, view: &View<'_, Self>, now: Now) -> Result<Plan<Self>, Blocked> {
        let workers = view.list::<Worker>(Query::all());
        let workers: Vec<&Worker> = workers
            .iter()
            .map(Arc::as_ref)
            .filter(|worker| pool.spec.selects(worker))
            .collect();
        let names: HashSet<&str> = workers.iter().map(|worker| worker.name()).collect();
        let replicas = view.list::<Replica>(Query::all());
        let bound = replicas
            .iter()
            .filter(|replica| replica.worker().is_some_and(|worker| names.contains(worker)));
        let mut used: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut hourly_cost = Money::default();
        let mut count = 0;
        for binding in bound.filter_map(|replica| replica.binding.as_ref()) {
            count += 1;
            hourly_cost = hourly_cost.plus(binding.hourly_cost.unwrap_or_default());
            let devices = used.entry(binding.worker.as_deref().unwrap_or_default()).or_default();
            devices.extend(binding.devices.iter().map(String::as_str));
        }
        let flavors = tally(&workers, &used);
        let ready = workers
            .iter()
            .filter(|worker| worker.state() == Some(WorkerState::Ready))
            .count();

        let mut status = GpuPoolStatus {
            observed_generation: pool.metadata.generation,
            workers: workers.len() as u32,
            ready_workers: ready as u32,
            replicas: count,
            devices: flavors.values().fold(Devices::default(), sum),
            flavors: flavors
                .into_iter()
                .map(|(flavor, devices)| FlavorUse {
                    flavor: flavor.to_owned(),
                    devices,
                })
                .collect(),
            hourly_cost,
            conditions: pool
                .status
                .as_ref()
                .map_or_else(Vec::new, |status| status.conditions.clone()),
        };
        let (reason, message) = (
            if ready > 0 { HAS_READY } else { NONE_READY },
            format!("{ready} of {} workers are Ready", workers.len()),
        );
        condition::set(
            &mut status.conditions,
            POOL_READY,
            ready > 0,
            reason,
            message,
            pool.metadata.generation,
            now,
        );
        let mut plan = Plan::new();
        plan.part(status);
        Ok(plan)
    }
}

fn tally<'a>(workers: &[&'a Worker], used: &HashMap<&str, HashSet<&str>>) -> BTreeMap<&'a str, Devices> {
    let mut flavors: BTreeMap<&str, Devices> = BTreeMap::new();
    for worker in workers {
        let in_service = worker.state() == Some(WorkerState::Ready) && !worker.spec.unschedulable;
        for device in &worker.spec.devices {
            let devices = flavors.entry(&device.flavor).or_default();
            devices.total += 1;
            if used
                .get(worker.name())
                .is_some_and(|used| used.contains(device.id.as_str()))
            {
                devices.used += 1;
            } else if in_service {
                devices.free += 1;
            } else {
                devices.unavailable += 1;
            }
        }
    }
    flavors
}

fn sum(a: Devices, b: &Devices) -> Devices {
    Devices {
        total: a.total + b.total,
        used: a.used + b.used,
        free: a.free + b.free,
        unavailable: a.unavailable + b.unavailable,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use setpoint_reconcile::{World, check};

    use super::*;
    use crate::reconcilers::fixtures::{at, bound, replica, worker};

    #[test]
    fn a_pool_with_a_lost_worker() {
        let mut lost = worker("w2", "us-west-2", "b", 4);
        lost.lifecycle.as_mut().unwrap().state = WorkerState::Lost;
        let world = World::new()
            .with(worker("w1", "us-west-2", "a", 4))
            .with(lost)
            .with(worker("w3", "us-east-1", "a", 4))
            .with(bound(replica("chat-0"), "w1", &["0", "1"]))
            .with(bound(replica("chat-1"), "w2", &["0"]))
            .with(bound(replica("chat-2"), "w3", &["0"]))
            .with(replica("chat-3"));
        let pool = GpuPool::new(
            "west",
            GpuPoolSpec {
                regions: vec!["us-west-2".into()],
                ..GpuPoolSpec::default()
            },
        );
        expect![[r#"
            part status
              conditions:
                -
                  lastTransitionTime: 2026-01-01T12:00:00Z
                  message: 1 of 2 workers are Ready
                  reason: WorkersReady
                  status: True
                  type: Ready
              devices:
                free: 2
                total: 8
                unavailable: 3
                used: 3
              flavors:
                -
                  devices:
                    free: 2
                    total: 8
                    unavailable: 3
                    used: 3
                  flavor: h100-80g
              hourlyCost: 9
              readyWorkers: 1
              replicas: 2
              workers: 2
        "#]]
        .assert_eq(&check(&PoolReconciler, &pool, &world, at(0)));
    }

    #[test]
    fn an_empty_pool() {
        let pool = GpuPool::new(
            "none",
            GpuPoolSpec {
                regions: vec!["mars-1".into()],
                ..GpuPoolSpec::default()
            },
        );
        expect![[r#"
            part status
              conditions:
                -
                  lastTransitionTime: 2026-01-01T12:00:00Z
                  message: 0 of 0 workers are Ready
                  reason: NoReadyWorkers
                  status: False
                  type: Ready
              devices:
                free: 0
                total: 0
                unavailable: 0
                used: 0
              hourlyCost: 0
              readyWorkers: 0
              replicas: 0
              workers: 0
        "#]]
        .assert_eq(&check(
            &PoolReconciler,
            &pool,
            &World::new().with(worker("w1", "us-west-2", "a", 4)),
            at(0),
        ));
    }
}
