//! [`Routes`]: which replicas answer for a model name. Made anew from the watched objects whenever one changes; a request holds no
//! lock while it is served.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use setpoint_inference::kinds::{ModelRoute, Replica};
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use crate::load::Load;

/// The first pause of a replica that failed; it doubles with each failure up to [`EJECT_MOST`].
const EJECT: Duration = Duration::from_millis(500);
const EJECT_MOST: Duration = Duration::from_secs(10);

/// A replica as requests see it.
#[derive(Debug)]
pub(crate) struct Target {
    /// `http://HOST:PORT`
    pub(crate) endpoint: String,
    /// The name that its engine serves the model under.
    pub(crate) model: String,
    /// Requests in flight on it from this gateway.
    pub(crate) in_flight: AtomicUsize,
    ejected_until: Mutex<Option<Instant>>,
    failures: AtomicU32,
}

impl Target {
    fn usable(&self, now: Instant) -> bool {
        self.ejected_until.lock().is_none_or(|until| until <= now)
    }

    /// It failed before it answered: leave it alone for a moment.
    pub(crate) fn eject(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(8);
        let pause = (EJECT * 2u32.pow(failures)).min(EJECT_MOST);
        *self.ejected_until.lock() = Some(Instant::now() + pause);
    }

    /// It answered.
    pub(crate) fn healthy(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }
}

/// A deployment that answers for a route.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) deployment: DeploymentKey,
    pub(crate) weight: u32,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) load: Arc<Load>,
}

/// Namespace and name.
pub(crate) type DeploymentKey = (String, String);

/// A public model name.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) backends: Vec<Backend>,
    pub(crate) max_queued: usize,
    pub(crate) queue_timeout: Duration,
}

impl Route {
    /// The least loaded usable replica of a backend chosen by weight, `tried` ones left out; backends without one are passed over.
    pub(crate) fn pick(&self, dice: u32, tried: &[Arc<Target>]) -> Option<(Backend, Arc<Target>)> {
        let now = Instant::now();
        let candidates: Vec<(&Backend, Vec<&Arc<Target>>)> = self
            .backends
            .iter()
            .filter(|b| b.weight > 0)
            .map(|b| {
                (
                    b,
                    b.targets
                        .iter()
                        .filter(|t| t.usable(now) && !tried.iter().any(|x| Arc::ptr_eq(x, t)))
                        .collect::<Vec<_>>(),
                )
            })
            .filter(|(_, targets)| !targets.is_empty())
            .collect();
        let sum: u32 = candidates.iter().map(|(b, _)| b.weight).sum();
        let mut at = if sum == 0 { return None } else { dice % sum };
        let (backend, targets) = candidates.into_iter().find(|(b, _)| {
            let hit = at < b.weight;
            at = at.saturating_sub(b.weight);
            hit
        })?;
        // among equals the first would get everything: start at a random one
        let start = dice as usize % targets.len();
        let target = targets[start..]
            .iter()
            .chain(&targets[..start])
            .min_by_key(|t| t.in_flight.load(Ordering::Relaxed))?;
        Some((backend.clone(), (*target).clone()))
    }
}

/// The live routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: RwLock<BTreeMap<String, Route>>,
    loads: Mutex<HashMap<DeploymentKey, Arc<Load>>>,
    /// Told when a replica may have become usable.
    pub(crate) changed: Notify,
}

impl Routes {
    /// The route of a model name.
    pub(crate) fn get(&self, model: &str) -> Option<Route> {
        self.table.read().get(model).cloned()
    }

    /// The model names that are served.
    pub(crate) fn models(&self) -> Vec<String> {
        self.table.read().keys().cloned().collect()
    }

    /// Deployments and their loads.
    pub(crate) fn loads(&self) -> Vec<(DeploymentKey, Arc<Load>)> {
        self.loads.lock().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Makes the table anew. A replica that was there before keeps its counters. Where two routes claim one name, the older does.
    pub(crate) fn rebuild(&self, routes: &[Arc<ModelRoute>], replicas: &[Arc<Replica>]) {
        let mut by_deployment: HashMap<DeploymentKey, Vec<Arc<Target>>> = HashMap::new();
        let known = self.known_targets();
        for replica in replicas.iter().filter(|r| r.is_ready()) {
            let Some(endpoint) = replica.status.as_ref().and_then(|s| s.endpoint.clone()) else {
                continue;
            };
            let namespace = replica.metadata.namespace.clone().unwrap_or_default();
            let model = replica.spec.model.name.clone();
            let target = known
                .get(&(endpoint.clone(), model.clone()))
                .cloned()
                .unwrap_or_else(|| new_target(endpoint, model));
            by_deployment
                .entry((namespace, replica.spec.deployment_ref.name.clone()))
                .or_default()
                .push(target);
        }
        let mut ordered: Vec<&Arc<ModelRoute>> = routes.iter().collect();
        ordered.sort_by_key(|r| {
            (
                r.metadata.creation_timestamp.clone().map(|t| t.0),
                r.metadata.namespace.clone(),
                r.metadata.name.clone(),
            )
        });
        let mut table = BTreeMap::new();
        let mut loads = self.loads.lock();
        for route in ordered {
            let namespace = route.metadata.namespace.clone().unwrap_or_default();
            let backends: Vec<Backend> = route
                .spec
                .backends
                .iter()
                .map(|b| {
                    let deployment = (namespace.clone(), b.deployment_ref.name.clone());
                    let load = loads.entry(deployment.clone()).or_default().clone();
                    let targets = by_deployment.get(&deployment).cloned().unwrap_or_default();
                    Backend {
                        deployment,
                        weight: b.weight,
                        targets,
                        load,
                    }
                })
                .collect();
            let queue_timeout = Duration::from_secs(route.spec.limits.queue_timeout_seconds.into());
            let made = Route {
                backends,
                max_queued: route.spec.limits.max_queued as usize,
                queue_timeout,
            };
            table.entry(route.spec.model_name.clone()).or_insert(made);
        }
        let live: Vec<&DeploymentKey> = table
            .values()
            .flat_map(|r: &Route| &r.backends)
            .map(|b| &b.deployment)
            .collect();
        loads.retain(|key, _| live.contains(&key));
        drop(loads);
        *self.table.write() = table;
        self.changed.notify_waiters();
    }

    fn known_targets(&self) -> HashMap<(String, String), Arc<Target>> {
        let table = self.table.read();
        let targets = table.values().flat_map(|r| &r.backends).flat_map(|b| &b.targets);
        targets
            .map(|t| ((t.endpoint.clone(), t.model.clone()), t.clone()))
            .collect()
    }
}

fn new_target(endpoint: String, model: String) -> Arc<Target> {
    Arc::new(Target {
        endpoint,
        model,
        in_flight: AtomicUsize::new(0),
        ejected_until: Mutex::new(None),
        failures: AtomicU32::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16) -> Arc<Target> {
        new_target(format!("http://127.0.0.1:{port}"), "m".into())
    }

    fn route(backends: Vec<(u32, Vec<Arc<Target>>)>) -> Route {
        let backends = backends
            .into_iter()
            .enumerate()
            .map(|(i, (weight, targets))| Backend {
                deployment: ("ns".into(), format!("d{i}")),
                weight,
                targets,
                load: Arc::default(),
            })
            .collect();
        Route {
            backends,
            max_queued: 1,
            queue_timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_loaded_is_picked_and_a_failed_one_is_left_alone_for_a_moment() {
        let (a, b) = (target(1), target(2));
        let route = route(vec![(1, vec![a.clone(), b.clone()])]);
        a.in_flight.store(3, Ordering::Relaxed);
        let picked = |route: &Route, tried: &[Arc<Target>]| {
            (0..50)
                .filter_map(|d| route.pick(d, tried))
                .map(|(_, t)| t.endpoint.clone())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(
            picked(&route, &[]).into_iter().collect::<Vec<_>>(),
            ["http://127.0.0.1:2"]
        );
        b.eject();
        assert_eq!(
            picked(&route, &[]).into_iter().collect::<Vec<_>>(),
            ["http://127.0.0.1:1"]
        );
        assert!(picked(&route, std::slice::from_ref(&a)).is_empty());
        tokio::time::advance(EJECT + Duration::from_millis(1)).await;
        assert_eq!(
            picked(&route, &[]).into_iter().collect::<Vec<_>>(),
            ["http://127.0.0.1:2"]
        );
    }

    #[test]
    fn weights_share_out_the_requests_and_empty_backends_take_none() {
        let route = route(vec![
            (1, vec![target(1)]),
            (3, vec![target(2)]),
            (5, vec![]),
            (0, vec![target(3)]),
        ]);
        let mut counts = BTreeMap::new();
        for dice in 0..400 {
            let (backend, _) = route.pick(dice, &[]).unwrap();
            *counts.entry(backend.deployment.1).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([("d0".into(), 100), ("d1".into(), 300)]));
    }
}
