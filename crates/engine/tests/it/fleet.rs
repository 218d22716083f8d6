//! A small domain: a Fleet owns Ships, which read a ConfigMap and are moored at Docks by a pass.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::Condition};
use kube::Client;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use setpoint_engine::{Backoff, Builder, Engine, Limits, Metrics};
use setpoint_reconcile::{Blocked, EventType, Now, Object, Plan, Reason, Reconciler, View, declare, kind, name};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::fake_api::FakeApi;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FleetSpec {
    pub(crate) ships: usize,
    /// Which trouble its plan makes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) trouble: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FleetStatus {
    #[serde(default)]
    pub(crate) ships: usize,
    #[serde(default)]
    pub(crate) wanted: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
}

kind! {
    pub(crate) struct Fleet in "example.dev/v1", plural "fleets", scope Namespaced {
        spec: FleetSpec,
        part status: FleetStatus,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShipSpec {
    pub(crate) rigging: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Berth {
    pub(crate) dock: String,
}

kind! {
    pub(crate) struct Ship in "example.dev/v1", plural "ships", scope Namespaced {
        spec: ShipSpec,
        part berth: Berth,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DockSpec {
    pub(crate) places: usize,
}

kind! {
    pub(crate) struct Dock in "example.dev/v1", plural "docks", scope Cluster { spec: DockSpec }
}

pub(crate) const NO_CONFIG: Reason = Reason::new("NoConfig");

/// Makes ships, and trouble when asked to.
pub(crate) struct Fleets {
    /// What a plan that is to hang waits for.
    pub(crate) release: Arc<std::sync::atomic::AtomicBool>,
}

declare! { Fleets: reads [ConfigMap], owns [Ship] }

impl Reconciler for Fleets {
    const NAME: &'static str = "fleets";
    type Kind = Fleet;
    type Part = FleetStatus;

    fn plan(&self, fleet: &Fleet, view: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        match fleet.spec.trouble.as_str() {
            "panic" => panic!("rocks"),
            "hang" => {
                while !self.release.load(std::sync::atomic::Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {}
        }
        let Some(config) = view.get::<ConfigMap>(fleet.namespace(), "rigging") else {
            return Err(Blocked::new(NO_CONFIG, "the ConfigMap rigging does not exist"));
        };
        let rigging = config
            .data
            .as_ref()
            .and_then(|data| data.get("kind"))
            .cloned()
            .unwrap_or_default();
        let ships = view.owned::<Ship>(fleet);
        let afloat: Vec<_> = ships.iter().filter(|ship| !ship.is_terminating()).collect();
        let mut plan = Plan::new();
        for ship in afloat.iter().take(fleet.spec.ships) {
            plan.child(Ship::new(
                ship.name(),
                ShipSpec {
                    rigging: rigging.clone(),
                },
            ));
        }
        let taken: HashSet<&str> = ships.iter().map(|ship| ship.name()).collect();
        let missing = fleet.spec.ships.saturating_sub(afloat.len());
        for name in name::unused(fleet.name(), fleet.uid(), &taken, missing) {
            plan.child(Ship::new(
                name,
                ShipSpec {
                    rigging: rigging.clone(),
                },
            ));
        }
        if missing > 0 {
            plan.event(EventType::Normal, Reason::new("Launched"), format!("{missing} ships"));
        }
        plan.part(FleetStatus {
            ships: afloat.len(),
            wanted: fleet.spec.ships,
            conditions: Vec::new(),
        });
        Ok(plan)
    }
}

pub(crate) fn fleets() -> Fleets {
    Fleets {
        release: Arc::default(),
    }
}

pub(crate) fn fleet(name: &str, ships: usize, trouble: &str) -> Fleet {
    Fleet::new(
        name,
        FleetSpec {
            ships,
            trouble: trouble.to_owned(),
        },
    )
    .within("sea")
}

pub(crate) fn rigging(kind: &str) -> ConfigMap {
    let mut config = ConfigMap {
        data: Some([("kind".to_owned(), kind.to_owned())].into()),
        ..ConfigMap::default()
    };
    config.metadata.name = Some("rigging".to_owned());
    config.metadata.namespace = Some("sea".to_owned());
    config
}

/// Limits that a test does not have to wait for.
pub(crate) fn quick() -> Limits {
    Limits {
        // Long enough for a panic that prints its backtrace on a busy machine.
        deadline: Duration::from_secs(5),
        backoff: Backoff {
            base: Duration::from_millis(10),
            cap: Duration::from_millis(100),
            quarantine_after: 3,
        },
        ..Limits::default()
    }
}

/// An engine that runs, and what it measures.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Running {
    pub(crate) fn start(client: Client, build: impl FnOnce(Builder) -> Builder) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let engine = build(Engine::builder(move |_| client.clone()).metrics(metrics));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(engine.run(async {
            let _ = stopped.await;
        }));
        Self {
            stop: Some(stop),
            task,
            registry,
        }
    }

    /// The fleets of this API.
    pub(crate) fn fleets(api: &FakeApi) -> Self {
        Self::start(api.client(), |engine| engine.register_within(fleets(), quick()))
    }

    /// The value of a metric, as scraped; 0 when it does not show.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encodes");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    pub(crate) fn runs(&self, result: &str) -> u64 {
        self.metric(&format!(
            "setpoint_reconcile_total{{reconciler=\"fleets\",result=\"{result}\"}}"
        ))
    }

    /// Stops the engine, which has to end in time.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        tokio::time::timeout(Duration::from_secs(2), &mut self.task)
            .await
            .expect("the engine ends soon")
            .expect("and without a panic");
    }
}
