//! A deployment-like reconciler and a scheduler-like pass, as an author writes them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use expect_test::expect;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use setpoint_reconcile::{
    Blocked, EventType, Now, Object, Owns, PartOf, Pass, PassPlan, Plan, Query, Reads, Reason, Reconciler, View, World,
    check, check_pass, declare, kind, name,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FleetSpec {
    replicas: usize,
    config: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FleetStatus {
    replicas: usize,
}

kind! {
    /// Wants a number of ships.
    struct Fleet in "example.dev/v1", plural "fleets", scope Namespaced {
        spec: FleetSpec,
        part status: FleetStatus,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ShipSpec {
    rigging: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Berth {
    dock: String,
}

kind! {
    struct Ship in "example.dev/v1", plural "ships", scope Namespaced {
        spec: ShipSpec,
        part berth: Berth,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct DockSpec {
    places: usize,
}

kind! {
    struct Dock in "example.dev/v1", plural "docks", scope Cluster { spec: DockSpec }
}

struct Fleets;
declare! { Fleets: reads [ConfigMap], owns [Ship] }

const CONFIG_MISSING: Reason = Reason::new("ConfigMissing");
const SCALED: Reason = Reason::new("Scaled");
const SURPLUS: Reason = Reason::new("Surplus");

impl Reconciler for Fleets {
    const NAME: &'static str = "fleets";
    type Kind = Fleet;
    type Part = FleetStatus;

    fn plan(&self, fleet: &Fleet, view: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        let Some(config) = view.get::<ConfigMap>(fleet.namespace(), &fleet.spec.config) else {
            let message = format!("ConfigMap {} does not exist", fleet.spec.config);
            return Err(Blocked::new(CONFIG_MISSING, message).retry_after(Duration::from_secs(60)));
        };
        let rigging = config
            .data
            .as_ref()
            .and_then(|data| data.get("rigging"))
            .cloned()
            .unwrap_or_default();
        let ships = view.owned::<Ship>(fleet);
        let (going, staying): (Vec<_>, Vec<_>) = ships.iter().partition(|ship| ship.is_terminating());
        let mut plan = Plan::new();
        for ship in staying.iter().take(fleet.spec.replicas) {
            plan.child(Ship::new(
                ship.name(),
                ShipSpec {
                    rigging: rigging.clone(),
                },
            ));
        }
        for ship in staying.iter().skip(fleet.spec.replicas) {
            plan.delete(ship.as_ref(), SURPLUS);
        }
        let taken: HashSet<&str> = ships.iter().map(|ship| ship.name()).collect();
        let missing = fleet.spec.replicas.saturating_sub(staying.len());
        for name in name::unused(fleet.name(), fleet.uid(), &taken, missing) {
            plan.child(Ship::new(
                name,
                ShipSpec {
                    rigging: rigging.clone(),
                },
            ));
        }
        if missing > 0 {
            plan.event(
                EventType::Normal,
                SCALED,
                format!("{missing} more ships, {} going", going.len()),
            );
        }
        plan.part(FleetStatus {
            replicas: staying.len(),
        });
        Ok(plan)
    }
}

struct Harbour;
declare! { Harbour: reads [Ship, Dock] }

impl Pass for Harbour {
    const NAME: &'static str = "harbour";
    const FINALIZERS: &'static [&'static str] = &["example.dev/moored"];
    type Subject = Ship;
    type Part = Berth;

    fn plan(&self, view: &View<'_, Self>, _: Now) -> Result<PassPlan<Self>, Blocked> {
        let ships = view.list::<Ship>(Query::all());
        let docks = view.list::<Dock>(Query::all());
        let mut free: Vec<(String, usize)> = docks
            .iter()
            .map(|dock| (dock.name().to_owned(), dock.spec.places))
            .collect();
        let mut plan = PassPlan::<Self>::new();
        for ship in &ships {
            if let Some(berth) = &ship.berth
                && let Some((_, places)) = free.iter_mut().find(|(dock, _)| *dock == berth.dock)
            {
                *places = places.saturating_sub(1);
            }
        }
        for ship in ships.iter().filter(|ship| ship.berth.is_none()) {
            if ship.is_terminating() {
                plan.remove_finalizer(ship, "example.dev/moored");
            } else if let Some((dock, places)) = free.iter_mut().find(|(_, places)| *places > 0) {
                *places -= 1;
                plan.write(ship, Berth { dock: dock.clone() });
            } else {
                plan.event(
                    ship,
                    EventType::Warning,
                    Reason::new("NoBerth"),
                    "no dock has a free place",
                );
                plan.requeue_after(Duration::from_secs(30));
            }
        }
        Ok(plan)
    }
}

fn now() -> Now {
    Now::at("2030-01-01T00:00:00Z".parse().expect("a timestamp"))
}

fn fleet(replicas: usize) -> Fleet {
    Fleet::new(
        "north",
        FleetSpec {
            replicas,
            config: "rig".to_owned(),
        },
    )
    .within("sea")
}

fn config() -> ConfigMap {
    let mut config = ConfigMap {
        data: Some([("rigging".to_owned(), "square".to_owned())].into()),
        ..Default::default()
    };
    config.metadata.namespace = Some("sea".to_owned());
    config.metadata.name = Some("rig".to_owned());
    config
}

fn owned_by(mut ship: Ship, owner: &Arc<Fleet>) -> Ship {
    use kube_core::Resource as _;
    ship.metadata.owner_references = Some(owner.controller_owner_ref(&()).into_iter().collect());
    ship
}

#[test]
fn plans_children_part_and_events() {
    let world = World::new().with(config());
    expect![[r#"
        child Ship sea/north-dlm8qndg
          spec:
            rigging: square
        child Ship sea/north-tlxm2gzs
          spec:
            rigging: square
        part status
          replicas: 0
        event Normal Scaled: 2 more ships, 0 going
    "#]]
    .assert_eq(&check(&Fleets, &fleet(2), &world, now()));
}

#[test]
fn blocks_without_touching_children() {
    let mut world = World::new();
    let north = world.put(fleet(2));
    world.put(owned_by(
        Ship::new("north-0", ShipSpec::default()).within("sea"),
        &north,
    ));
    expect![[r#"
        blocked ConfigMissing: ConfigMap rig does not exist
        retry after 60s
    "#]]
    .assert_eq(&check(&Fleets, &north, &world, now()));
}

#[test]
fn deletes_surplus_and_sees_only_its_own() {
    let mut world = World::new().with(config());
    let north = world.put(fleet(1));
    for name in ["north-a", "north-b"] {
        world.put(owned_by(Ship::new(name, ShipSpec::default()).within("sea"), &north));
    }
    world.put(Ship::new("stray", ShipSpec::default()).within("sea"));
    expect![[r#"
        child Ship sea/north-a
          spec:
            rigging: square
        delete Ship sea/north-b: Surplus
        part status
          replicas: 2
    "#]]
    .assert_eq(&check(&Fleets, &north, &world, now()));
}

/// A reconciler that names none of its children.
struct Forgetful;
declare! { Forgetful: owns [Ship] }
impl Reconciler for Forgetful {
    const NAME: &'static str = "forgetful";
    type Kind = Fleet;
    type Part = FleetStatus;
    fn plan(&self, _: &Fleet, _: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        Ok(Plan::new())
    }
}

#[test]
fn unnamed_children_are_pruned_unless_the_owner_terminates() {
    let mut world = World::new();
    let north = world.put(fleet(1));
    world.put(owned_by(
        Ship::new("north-a", ShipSpec::default()).within("sea"),
        &north,
    ));
    expect![[r#"
        prune Ship sea/north-a
    "#]]
    .assert_eq(&check(&Forgetful, &north, &world, now()));
    let mut going = fleet(1);
    going.metadata.uid = Some(north.uid().to_owned());
    going.metadata.deletion_timestamp = Some(now().time());
    expect![[r#"
        nothing
    "#]]
    .assert_eq(&check(&Forgetful, &going, &world, now()));
}

#[test]
fn a_pass_shares_one_ledger() {
    let mut gone = Ship::new("c", ShipSpec::default()).within("sea");
    gone.metadata.deletion_timestamp = Some(now().time());
    gone.metadata.finalizers = Some(vec!["example.dev/moored".to_owned()]);
    let mut moored = Ship::new("d", ShipSpec::default()).within("sea");
    moored.berth = Some(Berth {
        dock: "east".to_owned(),
    });
    let world = World::new()
        .with(Dock::new("east", DockSpec { places: 2 }))
        .with_all(["a", "b"].map(|name| Ship::new(name, ShipSpec::default()).within("sea")))
        .with(gone)
        .with(moored);
    expect![[r#"
        part berth of Ship sea/a
          dock: east
        remove finalizer example.dev/moored of Ship sea/c
        event Warning NoBerth about sea/b: no dock has a free place
        requeue after 30s
    "#]]
    .assert_eq(&check_pass(&Harbour, &world, now()));
}

#[test]
fn a_declaration_is_data() {
    let declaration = Fleets::declaration();
    expect!["| fleets | Fleet (each) | status | ConfigMap | Ship |  |"].assert_eq(&declaration.table_row());
    let rules: String = declaration
        .policy_rules()
        .iter()
        .map(|rule| {
            let group = rule
                .api_groups
                .as_ref()
                .map(|groups| groups.join(","))
                .unwrap_or_default();
            let resources = rule
                .resources
                .as_ref()
                .map(|resources| resources.join(","))
                .unwrap_or_default();
            format!("{group}/{resources}: {}\n", rule.verbs.join(","))
        })
        .collect();
    expect![[r#"
        /configmaps: get,list,watch
        example.dev/fleets: get,list,watch
        example.dev/ships: get,list,watch
        example.dev/ships: create,patch,delete
        example.dev/fleets/status: patch
        example.dev/fleets/finalizers: update
        events.k8s.io/events: create,patch
    "#]]
    .assert_eq(&rules);
}

#[test]
fn a_kind_round_trips_and_refuses_another() {
    let mut ship = Ship::new(
        "a",
        ShipSpec {
            rigging: "lateen".to_owned(),
        },
    )
    .within("sea");
    Berth {
        dock: "east".to_owned(),
    }
    .set(&mut ship);
    let json = serde_json::to_value(&ship).expect("serialises");
    assert_eq!(json["kind"], "Ship");
    assert_eq!(serde_json::from_value::<Ship>(json.clone()).expect("reads back"), ship);
    let error = serde_json::from_value::<Dock>(json).expect_err("another kind");
    assert_eq!(error.to_string(), r#"kind is "Ship", expected "Dock""#);
}

/// Owning includes reading.
fn _reads_what_it_owns<R: Owns<Ship>>() -> impl Fn() {
    fn reads<R: Reads<Ship>>() {}
    reads::<R>
}
