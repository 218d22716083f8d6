//! Of two engines one commits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use setpoint_engine::{Election, Limits};

use crate::{
    fake_api::FakeApi,
    fleet::{Fleets, Running, fleet, fleets, quick, rigging},
};

fn election(identity: &str) -> Election {
    Election {
        lease_duration: Duration::from_secs(1),
        renew_deadline: Duration::from_millis(500),
        retry_period: Duration::from_millis(50),
        ..Election::new(identity)
    }
}

fn holder(api: &FakeApi) -> String {
    let lease = api
        .get("leases", Some("kube-system"), "setpoint-engine")
        .unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_second_engine_takes_over_when_the_first_stops() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let start = |identity: &str| {
        let election = election(identity);
        Running::start(api.client(), |engine| {
            engine.register_within(fleets(), quick()).elect(election)
        })
    };
    let ships =
        |api: &FakeApi, name: &str| api.get("fleets", Some("sea"), name).unwrap_or_default()["status"]["ships"].clone();
    let first = start("first");
    api.until("the first leads", |api| holder(api) == "first").await;
    let second = start("second");
    api.put("fleets", fleet("north", 2, ""));
    api.until("the first works", |api| ships(api, "north") == 2).await;
    assert_eq!(second.runs("written"), 0);
    assert_eq!(
        (
            first.metric("setpoint_engine_leader"),
            second.metric("setpoint_engine_leader")
        ),
        (1, 0)
    );
    first.stop().await;
    api.until("the second leads", |api| holder(api) == "second").await;
    api.put("fleets", fleet("south", 1, ""));
    api.until("the second works", |api| ships(api, "south") == 1).await;
    second.stop().await;
}

#[tokio::test]
async fn an_engine_that_cannot_renew_stops_committing() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let engine = Running::start(api.client(), |engine| {
        engine.register_within(fleets(), quick()).elect(election("me"))
    });
    api.until("it leads", |_| engine.metric("setpoint_engine_leader") == 1)
        .await;
    api.refuse(|_, path, _| path.contains("/leases").then_some((500, "no leases today")));
    api.until("it leads no more", |_| engine.metric("setpoint_engine_leader") == 0)
        .await;
    let writes = api.writes();
    api.put("fleets", fleet("north", 1, ""));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(api.writes(), writes);
    api.refuse(|_, _, _| None);
    api.until("it leads again, and works", |api| api.names("ships").len() == 1)
        .await;
    engine.stop().await;
}

#[tokio::test]
async fn a_run_that_outlives_its_leadership_commits_nothing() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    api.put("fleets", fleet("north", 1, "hang"));
    let release = Arc::default();
    let reconciler = Fleets {
        release: Arc::clone(&release),
    };
    let limits = Limits {
        deadline: Duration::from_secs(5),
        ..quick()
    };
    let engine = Running::start(api.client(), |engine| {
        engine.register_within(reconciler, limits).elect(election("me"))
    });
    api.until("it leads", |_| engine.metric("setpoint_engine_leader") == 1)
        .await;
    api.refuse(|_, path, _| path.contains("/leases").then_some((500, "no leases today")));
    api.until("it leads no more", |_| engine.metric("setpoint_engine_leader") == 0)
        .await;
    release.store(true, Ordering::SeqCst);
    api.until("the run ends", |_| engine.runs("not_leading") == 1).await;
    assert_eq!(api.writes(), Vec::<String>::new());
    engine.stop().await;
}
