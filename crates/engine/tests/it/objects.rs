//! What the engine writes for a reconciler, and when it does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use setpoint_reconcile::{Blocked, Now, Plan, Reconciler, View, declare};

use crate::{
    fake_api::FakeApi,
    fleet::{Fleet, FleetStatus, Running, Ship, ShipSpec, fleet, quick, rigging},
};

fn status(api: &FakeApi, name: &str) -> serde_json::Value {
    api.get("fleets", Some("sea"), name)
        .map(|fleet| fleet["status"].clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn children_follow_the_spec_and_then_nothing_is_written() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("Square"));
    api.put("fleets", fleet("north", 3, ""));
    let engine = Running::fleets(&api);
    api.until("three ships", |api| status(api, "north")["ships"] == 3).await;
    let ship = api.get("ships", Some("sea"), &api.names("ships")[0]).expect("a ship");
    assert_eq!(ship["spec"], json!({"rigging": "square"}));
    let owner = &ship["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("Fleet"), &json!(true)));
    api.until("the story", |api| api.reasons("north").contains(&"Launched".to_owned()))
        .await;

    // The server has changed what was sent (Square, square): it must not be sent again and again.
    let (writes, unchanged) = (api.writes(), engine.runs("unchanged"));
    let mut touched = api.get("fleets", Some("sea"), "north").expect("a fleet");
    touched["metadata"]["annotations"] = json!({"look": "again"});
    api.put("fleets", touched);
    api.until("another run", |_| engine.runs("unchanged") > unchanged).await;
    assert_eq!(api.writes(), writes);

    api.put("fleets", fleet("north", 1, ""));
    api.until("one ship", |api| {
        api.names("ships").len() == 1 && status(api, "north")["ships"] == 1
    })
    .await;
    engine.stop().await;
}

#[tokio::test]
async fn what_a_plan_looked_for_wakes_it() {
    let api = FakeApi::new();
    api.put("fleets", fleet("north", 1, ""));
    let engine = Running::fleets(&api);
    api.until("the reason", |api| {
        status(api, "north")["conditions"][0]["reason"] == "NoConfig"
    })
    .await;
    assert!(api.names("ships").is_empty());
    // The condition that was written wakes it once more; only then does nothing but the ConfigMap.
    api.until("rest", |_| engine.runs("blocked") >= 2).await;
    api.put("configmaps", rigging("lateen"));
    api.until("a ship", |api| status(api, "north")["ships"] == 1).await;
    assert!(status(&api, "north").get("conditions").is_none(), "no longer blocked");
    api.until("rest", |_| engine.runs("unchanged") >= 1).await;

    api.remove("configmaps", "sea", "rigging");
    api.until("blocked again", |api| {
        status(api, "north")["conditions"][0]["reason"] == "NoConfig"
    })
    .await;
    assert_eq!(api.names("ships").len(), 1, "blocked never prunes");
    engine.stop().await;
}

#[tokio::test]
async fn a_foreign_child_is_left_alone() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    api.put("fleets", fleet("north", 1, ""));
    let name = {
        let uid = api.get("fleets", Some("sea"), "north").expect("a fleet")["metadata"]["uid"]
            .as_str()
            .map(str::to_owned);
        setpoint_reconcile::name::unused("north", &uid.expect("a uid"), &Default::default(), 1).remove(0)
    };
    let mut foreign = serde_json::to_value(Ship::new(name, ShipSpec::default()).within("sea")).expect("serialises");
    foreign["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "other", "controller": true}]);
    api.put("ships", &foreign);
    let engine = Running::fleets(&api);
    api.until("the reason", |api| {
        status(api, "north")["conditions"][0]["reason"] == "ReconcileFailed"
    })
    .await;
    let message = status(&api, "north")["conditions"][0]["message"].clone();
    assert!(
        message
            .as_str()
            .is_some_and(|message| message.contains("has another controller")),
        "{message}"
    );
    assert!(!api.writes().iter().any(|write| write.contains("/ships/")));
    engine.stop().await;
}

/// Names its children so that a plan on a stale view makes too many of them.
struct Careless(Arc<AtomicUsize>);

declare! { Careless: owns [Ship] }

impl Reconciler for Careless {
    const NAME: &'static str = "careless";
    type Kind = Fleet;
    type Part = FleetStatus;

    fn plan(&self, fleet: &Fleet, view: &View<'_, Self>, _: Now) -> Result<Plan<Self>, Blocked> {
        let mut plan = Plan::new();
        let ships = view.owned::<Ship>(fleet);
        for ship in &ships {
            plan.keep(ship.as_ref());
        }
        for _ in ships.len()..fleet.spec.ships {
            plan.child(Ship::new(
                format!("ship-{}", self.0.fetch_add(1, Ordering::SeqCst)),
                ShipSpec::default(),
            ));
        }
        plan.part(FleetStatus {
            ships: ships.len(),
            wanted: fleet.spec.ships,
            conditions: Vec::new(),
        });
        Ok(plan)
    }
}

#[tokio::test]
async fn a_plan_sees_the_commits_before_it() {
    let api = FakeApi::lagging("ships", Duration::from_millis(40));
    api.put("fleets", fleet("north", 2, ""));
    let made = Arc::new(AtomicUsize::new(0));
    let careless = Careless(made.clone());
    let engine = Running::start(api.client(), |engine| engine.register_within(careless, quick()));
    for touch in 0..10 {
        api.until("time to touch", |_| true).await;
        let mut touched = api.get("fleets", Some("sea"), "north").expect("a fleet");
        touched["metadata"]["annotations"] = json!({"touch": touch.to_string()});
        api.put("fleets", touched);
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    api.until("both are seen", |api| status(api, "north")["ships"] == 2)
        .await;
    assert_eq!(made.load(Ordering::SeqCst), 2, "ships: {:?}", api.names("ships"));
    engine.stop().await;
}

#[tokio::test]
async fn children_of_a_terminating_owner_are_left_to_the_garbage_collector() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let mut north = serde_json::to_value(fleet("north", 2, "")).expect("serialises");
    north["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    api.put("fleets", north);
    let engine = Running::fleets(&api);
    api.until("two ships", |api| status(api, "north")["ships"] == 2).await;
    api.remove("fleets", "sea", "north");
    let sunk = api.names("ships")[0].clone();
    api.remove("ships", "sea", &sunk);
    api.until("the count", |api| status(api, "north")["ships"] == 1).await;
    assert_eq!(api.names("ships").len(), 1, "it is not made again");
    let mut none = api.get("fleets", Some("sea"), "north").expect("a fleet");
    none["spec"]["ships"] = 0.into();
    api.put("fleets", none);
    api.until("it is seen", |api| status(api, "north")["wanted"] == 0).await;
    assert_eq!(api.names("ships").len(), 1, "and the other is not pruned");
    engine.stop().await;
}

#[tokio::test]
async fn a_name_that_comes_back_is_planned_again() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let engine = Running::fleets(&api);
    for _ in 0..3 {
        api.put("fleets", fleet("north", 1, ""));
        api.until("a ship", |api| status(api, "north")["ships"] == 1).await;
        let gone = engine.runs("gone");
        api.remove("fleets", "sea", "north");
        for ship in api.names("ships") {
            api.remove("ships", "sea", &ship);
        }
        api.until("it is gone for the engine too", |_| engine.runs("gone") > gone)
            .await;
    }
    engine.stop().await;
}
