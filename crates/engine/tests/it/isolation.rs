//! What one bad object does to the others: nothing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use setpoint_engine::{Backoff, Limits};

use crate::{
    fake_api::FakeApi,
    fleet::{Fleets, Running, fleet, fleets, quick, rigging},
};

fn condition(api: &FakeApi, name: &str) -> serde_json::Value {
    let fleet = api.get("fleets", Some("sea"), name).unwrap_or_default();
    fleet["status"]["conditions"][0].clone()
}

fn ships(api: &FakeApi, name: &str) -> serde_json::Value {
    api.get("fleets", Some("sea"), name).unwrap_or_default()["status"]["ships"].clone()
}

#[tokio::test]
async fn a_panic_concerns_one_object() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    api.put("fleets", fleet("bad", 1, "panic"));
    api.put("fleets", fleet("good", 2, ""));
    let engine = Running::fleets(&api);
    api.until("the good one", |api| ships(api, "good") == 2).await;
    api.until("quarantine", |api| {
        api.reasons("bad").contains(&"ReconcileQuarantined".to_owned())
    })
    .await;
    assert!(engine.runs("panicked") >= 3);
    assert_eq!(
        engine.metric("setpoint_reconcile_quarantined_keys{reconciler=\"fleets\"}"),
        1
    );
    assert!(api.reasons("bad").contains(&"ReconcilePanicked".to_owned()));
    assert_eq!(condition(&api, "bad")["reason"], "ReconcilePanicked");
    assert_eq!(condition(&api, "bad")["message"], "the plan panicked: rocks");
    let told = api
        .writes()
        .iter()
        .filter(|write| write.contains("/fleets/bad/"))
        .count();
    assert_eq!(told, 1, "a repeated failure is told once");

    api.put("fleets", fleet("good", 3, ""));
    api.until("still the good one", |api| ships(api, "good") == 3).await;
    api.put("fleets", fleet("bad", 1, ""));
    api.until("mended", |api| ships(api, "bad") == 1).await;
    api.until("told", |api| {
        api.reasons("bad").contains(&"ReconcileRecovered".to_owned())
    })
    .await;
    assert_eq!(
        engine.metric("setpoint_reconcile_quarantined_keys{reconciler=\"fleets\"}"),
        0
    );
    engine.stop().await;
}

#[tokio::test]
async fn a_plan_that_hangs_is_cut() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let release = Arc::default();
    let reconciler = Fleets {
        release: Arc::clone(&release),
    };
    for number in 0..10 {
        api.put("fleets", fleet(&format!("bad-{number}"), 1, "hang"));
    }
    let limits = Limits {
        concurrency: 16,
        deadline: Duration::from_millis(50),
        ..quick()
    };
    let engine = Running::start(api.client(), |engine| engine.register_within(reconciler, limits));
    api.until("cut", |api| condition(api, "bad-0")["reason"] == "ReconcileTimedOut")
        .await;
    api.put("fleets", fleet("good", 2, ""));
    api.until("the good one", |api| ships(api, "good") == 2).await;
    release.store(true, Ordering::SeqCst);
    api.until("all, once they come back", |api| {
        ships(api, "bad-0") == 1 && ships(api, "bad-9") == 1
    })
    .await;
    engine.stop().await;
}

#[tokio::test]
async fn a_refused_child_is_told_with_the_servers_words() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    api.put("fleets", fleet("north", 2, ""));
    api.refuse(|_, path, _| path.contains("/ships/").then_some((403, "exceeded quota: harbour")));
    let engine = Running::fleets(&api);
    api.until("the reason", |api| {
        condition(api, "north")["reason"] == "ReconcileFailed"
    })
    .await;
    let message = condition(&api, "north")["message"]
        .as_str()
        .map(str::to_owned)
        .unwrap_or_default();
    assert!(message.contains("was refused: exceeded quota: harbour"), "{message}");
    api.until("several attempts", |_| engine.runs("failed") >= 3).await;
    api.refuse(|_, _, _| None);
    api.until("recovery", |api| {
        ships(api, "north") == 2 && condition(api, "north").is_null()
    })
    .await;
    engine.stop().await;
}

#[tokio::test]
async fn an_object_that_does_not_decode_does_not_stop_its_kind() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    let mut bad = serde_json::to_value(fleet("bad", 1, "")).expect("serialises");
    bad["spec"]["ships"] = "many".into();
    api.put("fleets", &bad);
    let engine = Running::start(api.client(), |engine| engine.register_within(fleets(), quick()));
    api.put("fleets", fleet("good", 1, ""));
    api.until("the good one", |api| ships(api, "good") == 1).await;
    bad["spec"]["ships"] = 1.into();
    api.put("fleets", &bad);
    api.until("mended", |api| ships(api, "bad") == 1).await;
    bad["spec"]["ships"] = "none".into();
    api.put("fleets", &bad);
    api.put("fleets", fleet("good", 2, ""));
    api.until("the good one again", |api| ships(api, "good") == 2).await;
    assert!(engine.metric("setpoint_engine_undecodable_objects_total{kind=\"Fleet\"}") >= 1);
    engine.stop().await;
}

#[tokio::test]
async fn a_failing_object_is_not_hurried_by_what_goes_on_around_it() {
    let api = FakeApi::new();
    api.put("configmaps", rigging("square"));
    api.put("fleets", fleet("bad", 1, "panic"));
    api.put("fleets", fleet("good", 1, ""));
    let backoff = Backoff {
        base: Duration::from_secs(100),
        ..Backoff::default()
    };
    let limits = Limits { backoff, ..quick() };
    let engine = Running::start(api.client(), |engine| engine.register_within(fleets(), limits));
    api.until("a failure", |api| {
        condition(api, "bad")["reason"] == "ReconcilePanicked"
    })
    .await;
    for touch in 0..5 {
        let unchanged = engine.runs("unchanged");
        for name in ["bad", "good"] {
            let mut touched = api.get("fleets", Some("sea"), name).expect("a fleet");
            touched["metadata"]["annotations"] = serde_json::json!({"touch": touch.to_string()});
            api.put("fleets", touched);
        }
        api.until("the good one is looked at", |_| engine.runs("unchanged") > unchanged)
            .await;
    }
    assert_eq!(engine.runs("panicked"), 1);
    api.put("fleets", fleet("bad", 1, ""));
    api.until("a new spec is tried at once", |api| ships(api, "bad") == 1)
        .await;
    engine.stop().await;
}
