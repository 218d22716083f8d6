//! A pass: many objects, one ledger.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::Method;
use setpoint_reconcile::{Blocked, EventType, Now, Object, Pass, PassPlan, Query, Reason, View, declare};

use crate::{
    fake_api::FakeApi,
    fleet::{Berth, Dock, DockSpec, Running, Ship, ShipSpec, quick},
};

const MOORED: &str = "example.dev/moored";

struct Harbour;

declare! { Harbour: reads [Ship, Dock] }

impl Pass for Harbour {
    const NAME: &'static str = "harbour";
    const FINALIZERS: &'static [&'static str] = &[MOORED];
    type Subject = Ship;
    type Part = Berth;

    fn plan(&self, view: &View<'_, Self>, _: Now) -> Result<PassPlan<Self>, Blocked> {
        let ships: Vec<Arc<Ship>> = view.list::<Ship>(Query::all());
        let mut used: HashMap<String, usize> = HashMap::new();
        for berth in ships.iter().filter_map(|ship| ship.berth.as_ref()) {
            *used.entry(berth.dock.clone()).or_default() += 1;
        }
        let docks = view.list::<Dock>(Query::all());
        let mut plan = PassPlan::<Self>::new();
        for ship in ships.iter().filter(|ship| ship.berth.is_none()) {
            let free = docks
                .iter()
                .find(|dock| used.get(dock.name()).copied().unwrap_or(0) < dock.spec.places);
            match free {
                _ if ship.is_terminating() => {
                    plan.remove_finalizer(ship, MOORED);
                }
                Some(dock) => {
                    *used.entry(dock.name().to_owned()).or_default() += 1;
                    plan.write(
                        ship,
                        Berth {
                            dock: dock.name().to_owned(),
                        },
                    );
                }
                None => {
                    plan.event(
                        ship,
                        EventType::Warning,
                        Reason::new("NoBerth"),
                        "no dock has a free place",
                    );
                }
            }
        }
        Ok(plan)
    }
}

fn ship(name: &str) -> Ship {
    Ship::new(name, ShipSpec::default()).within("sea")
}

fn moored(api: &FakeApi, dock: &str) -> usize {
    let ships = api
        .names("ships")
        .into_iter()
        .filter_map(|name| api.get("ships", Some("sea"), &name));
    ships.filter(|ship| ship["berth"]["dock"] == dock).count()
}

#[tokio::test]
async fn places_are_given_once() {
    let api = FakeApi::lagging("ships", Duration::from_millis(10));
    api.put("docks", Dock::new("east", DockSpec { places: 3 }));
    for number in 0..5 {
        api.put("ships", ship(&format!("ship-{number}")));
    }
    let engine = Running::start(api.client(), |engine| engine.register_pass_within(Harbour, quick()));
    api.until("three are moored", |api| moored(api, "east") == 3).await;
    api.until("the others are told", |api| {
        api.reasons("ship-4").contains(&"NoBerth".to_owned())
    })
    .await;
    assert_eq!(moored(&api, "east"), 3);
    api.put("docks", Dock::new("west", DockSpec { places: 9 }));
    api.until("the others are moored", |api| moored(api, "west") == 2).await;
    engine.stop().await;
}

#[tokio::test]
async fn one_bad_subject_does_not_hold_up_the_others() {
    let api = FakeApi::new();
    api.put("docks", Dock::new("east", DockSpec { places: 9 }));
    api.refuse(|method, path, _| (*method == Method::PATCH && path.contains("/ships/bad/")).then_some((403, "cursed")));
    api.put("ships", ship("bad"));
    api.put("ships", ship("good"));
    let engine = Running::start(api.client(), |engine| engine.register_pass_within(Harbour, quick()));
    api.until("the good one", |api| moored(api, "east") == 1).await;
    api.until("the bad one is told", |api| {
        api.reasons("bad").contains(&"ReconcileFailed".to_owned())
    })
    .await;
    api.put("ships", ship("late"));
    api.until("a late one", |api| moored(api, "east") == 2).await;
    api.refuse(|_, _, _| None);
    api.until("the bad one, by itself", |api| moored(api, "east") == 3)
        .await;
    engine.stop().await;
}

#[tokio::test]
async fn a_finalizer_is_removed_and_the_object_goes() {
    let api = FakeApi::new();
    let mut leaving = ship("leaving");
    leaving.metadata.finalizers = Some(vec![MOORED.to_owned()]);
    api.put("ships", leaving);
    let engine = Running::start(api.client(), |engine| engine.register_pass_within(Harbour, quick()));
    api.until("it is seen", |api| !api.reasons("leaving").is_empty()).await;
    api.remove("ships", "sea", "leaving");
    api.until("it is gone", |api| api.names("ships").is_empty()).await;
    engine.stop().await;
}

#[tokio::test]
async fn what_another_wrote_meanwhile_is_not_overwritten() {
    let api = FakeApi::lagging("ships", Duration::from_millis(100));
    api.put("ships", ship("a"));
    let engine = Running::start(api.client(), |engine| engine.register_pass_within(Harbour, quick()));
    api.until("it is seen", |api| !api.reasons("a").is_empty()).await;
    let mut elsewhere = ship("a");
    elsewhere.berth = Some(Berth {
        dock: "elsewhere".to_owned(),
    });
    api.put("ships", elsewhere);
    // The pass sees the free dock at once, the ship's berth a tenth of a second later.
    api.put("docks", Dock::new("east", DockSpec { places: 1 }));
    let attempted = "PATCH /apis/example.dev/v1/namespaces/sea/ships/a/berth".to_owned();
    api.until("an attempt", |api| api.conflicts().contains(&attempted))
        .await;
    api.put("ships", ship("b"));
    api.until("the other", |api| moored(api, "east") == 1).await;
    assert_eq!(moored(&api, "elsewhere"), 1);
    engine.stop().await;
}
