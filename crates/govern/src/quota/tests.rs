use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
};

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

fn quota(name: &str, hard: Value) -> Value {
    json!({"kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}})
}

fn maps(n: i64) -> Usage {
    Usage::new().with("count/configmaps", n)
}

fn core(resource: &str) -> GroupResource {
    GroupResource::new("", resource)
}

/// A deployment is charged what it may grow to.
struct WorstCase;

impl Measure for WorstCase {
    fn resource(&self) -> GroupResource {
        GroupResource::new("inference.setpoint.dev", "modeldeployments")
    }

    fn keys(&self) -> Vec<String> {
        vec![
            "count/replicas.inference.setpoint.dev".into(),
            "requests.inference.setpoint.dev/gpus".into(),
        ]
    }

    fn measure(&self, object: &Value) -> Usage {
        let max = object.pointer("/spec/max").and_then(Value::as_i64).unwrap_or(1);
        Usage::new()
            .with("count/replicas.inference.setpoint.dev", max)
            .with("requests.inference.setpoint.dev/gpus", max * 2)
    }
}

#[test]
fn an_object_is_charged_its_count_and_its_measures() {
    let measures = Measures::new().with(Arc::new(WorstCase));
    let keys = |resource: &GroupResource, object: Value| {
        let usage = measures.usage(resource, &object);
        usage
            .iter()
            .map(|(key, amount)| format!("{key}={amount}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(keys(&core("configmaps"), json!({})), "configmaps=1 count/configmaps=1");
    assert_eq!(keys(&core("serviceaccounts"), json!({})), "count/serviceaccounts=1");
    assert_eq!(
        keys(&GroupResource::new("x.io", "secrets"), json!({})),
        "count/secrets.x.io=1"
    );
    assert_eq!(
        keys(&WorstCase.resource(), json!({"spec": {"max": 20}})),
        "count/modeldeployments.inference.setpoint.dev=1 count/replicas.inference.setpoint.dev=20 requests.inference.setpoint.dev/gpus=40"
    );
    // The replicas themselves are paid for by their deployment.
    assert_eq!(
        keys(&GroupResource::new("inference.setpoint.dev", "replicas"), json!({})),
        ""
    );
    let grow = measures.delta(
        &WorstCase.resource(),
        Some(&json!({"spec": {"max": 20}})),
        Some(&json!({"spec": {"max": 7}})),
    );
    assert_eq!(
        grow,
        Usage::new()
            .with("count/replicas.inference.setpoint.dev", -13)
            .with("requests.inference.setpoint.dev/gpus", -26)
    );
    assert!(
        measures
            .delta(&core("secrets"), Some(&json!({})), Some(&json!({})))
            .is_empty()
    );
}

#[test]
fn a_refusal_says_what_was_asked_used_and_left() {
    let quota = quota("team", json!({"count/replicas": "20", "gpus": 40, "memory": "1Gi"}));
    let used = Usage::new().with("count/replicas", 17).with("gpus", 40);
    let delta = Usage::new()
        .with("count/replicas", 9980)
        .with("gpus", 1)
        .with("unlimited", 5);
    let exceeded = charge(&quota, &used, &delta).expect_err("too much");
    expect!["exceeded quota: team, requested: count/replicas=9980,gpus=1, used: count/replicas=17,gpus=40, limited: count/replicas=20,gpus=40"]
        .assert_eq(&exceeded.to_string());
    let status = exceeded.status(
        &GroupResource::new("inference.setpoint.dev", "modeldeployments"),
        "chat",
    );
    assert_eq!(status.code, 403);
    assert!(
        status
            .message
            .starts_with("modeldeployments.inference.setpoint.dev \"chat\" is forbidden: exceeded quota: team, ")
    );
    let details = status.details.expect("details");
    assert_eq!((details.name.as_str(), details.causes.len()), ("chat", 2));
    expect!["requested 9980, used 17, limited to 20 by ResourceQuota team: 3 would fit"]
        .assert_eq(&details.causes[0].message);
    assert_eq!(
        exceeded.to_json()["exceeded"][1],
        json!({"resource": "gpus", "requested": "1", "used": "40", "limited": "40", "left": "0"})
    );
}

#[test]
fn only_what_grows_is_checked() {
    let low = quota("q", json!({"count/configmaps": "3", "gpus": "1"}));
    let used = maps(10).with("gpus", 1);
    charge(&low, &used, &maps(0)).expect("no change");
    charge(&low, &used, &maps(-5)).expect("shrinking while over the limit");
    charge(&low, &used, &maps(-5).with("gpus", 1)).expect_err("but not growing elsewhere");
    let fits = charge(&quota("q", json!({"count/configmaps": "11"})), &used, &maps(1)).expect("the last place");
    assert_eq!(fits, maps(11), "only the quota's keys");
    let mut scoped = low.clone();
    scoped["spec"]["scopes"] = json!(["BestEffort"]);
    charge(&scoped, &used, &maps(5)).expect("scopes are about pods");
    charge(&quota("q", json!({"count/configmaps": "rubbish"})), &used, &maps(5)).expect("no limit");
    assert_eq!(
        status(&low, &maps(4)),
        json!({"hard": {"count/configmaps": "3", "gpus": "1"}, "used": {"count/configmaps": "4", "gpus": "0"}})
    );
}

#[test]
fn a_reservation_is_kept_or_given_back() {
    let ledger = QuotaLedger::new();
    let three = quota("q", json!({"count/configmaps": "3"}));
    let reserve = |n| ledger.reserve("ns", &[&three], &maps(n), || maps(1));
    let first = reserve(2).expect("room for two");
    assert_eq!(first.used_after(), &maps(3));
    assert_eq!(ledger.used("ns", Usage::new), maps(1), "reserved is not used");
    let refused = reserve(1).err().expect("no room while it is reserved");
    assert_eq!(refused.shortfalls[0].used, maps(3).get("count/configmaps"));
    drop(first);
    ledger
        .would_fit("ns", &[&three], &maps(2), Usage::new)
        .expect("given back");
    reserve(2).expect("room again").commit();
    assert_eq!(ledger.used("ns", Usage::new), maps(3));
    // What an update frees is free once it is stored, and not before.
    let shrink = reserve(-2).expect("shrinking");
    assert!(reserve(1).is_err());
    shrink.commit();
    reserve(1).expect("freed").commit();
    ledger.adjust("ns", &maps(-2));
    assert_eq!(ledger.used("ns", Usage::new), Usage::new());
    // Two quotas: all or nothing.
    let one = quota("p", json!({"count/configmaps": "1"}));
    assert!(ledger.reserve("ns", &[&three, &one], &maps(2), Usage::new).is_err());
    ledger
        .reserve("ns", &[&three], &maps(3), Usage::new)
        .expect("the refusal reserved nothing")
        .commit();
    ledger.forget("ns");
    assert_eq!(ledger.used("ns", || maps(7)), maps(7), "counted anew");
}

#[test]
fn a_recount_counts_only_if_nothing_moved() {
    let ledger = QuotaLedger::new();
    assert!(ledger.resync("ns").finish(maps(5)));
    assert_eq!(ledger.used("ns", Usage::new), maps(5));
    let resync = ledger.resync("ns");
    ledger.adjust("ns", &maps(1));
    assert!(!resync.finish(maps(5)), "a write came between");
    let open = ledger.reserve("ns", &[], &maps(1), Usage::new).expect("no quota");
    assert!(!ledger.resync("ns").finish(maps(5)), "a write is under way");
    open.commit();
    assert_eq!(ledger.used("ns", Usage::new), maps(7));
    assert!(ledger.resync("ns").finish(maps(9)));
    assert_eq!(ledger.used("ns", Usage::new), maps(9));
}

/// 200 clients racing for the last 10 places get exactly 10; when 3 are freed, the next 200 get exactly 3.
#[test]
fn two_hundred_racers_for_ten_places_get_exactly_ten() {
    for round in 0..20 {
        let ledger = QuotaLedger::new();
        let hundred = quota("q", json!({"count/configmaps": "100"}));
        let (granted, counted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let barrier = Barrier::new(200);
        let race = || {
            std::thread::scope(|scope| {
                for _ in 0..200 {
                    let (ledger, hundred, granted, counted, barrier) =
                        (&ledger, &hundred, &granted, &counted, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let count = || {
                            counted.fetch_add(1, Ordering::SeqCst);
                            maps(90)
                        };
                        let Ok(reservation) = ledger.reserve("ns", &[hundred], &maps(1), count) else {
                            return;
                        };
                        granted.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now(); // the store
                        reservation.commit();
                    });
                }
            });
        };
        race();
        assert_eq!(granted.swap(0, Ordering::SeqCst), 10, "round {round}");
        assert_eq!(counted.load(Ordering::SeqCst), 1, "counted once");
        assert_eq!(ledger.used("ns", Usage::new), maps(100));
        ledger.adjust("ns", &maps(-3));
        race();
        assert_eq!(granted.load(Ordering::SeqCst), 3, "round {round}, after three deletes");
    }
}

/// Whoever gives back and whoever takes may interleave as they like: the sum never passes the limit, and in the end it fits.
#[test]
fn giving_back_and_taking_never_oversell() {
    let ledger = QuotaLedger::new();
    let ten = quota("q", json!({"count/configmaps": "10"}));
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for racer in 0..16 {
            let (ledger, ten, stored) = (&ledger, &ten, &stored);
            scope.spawn(move || {
                for attempt in 0..200 {
                    let Ok(reservation) = ledger.reserve("ns", &[ten], &maps(1), Usage::new) else {
                        continue;
                    };
                    if (racer + attempt) % 3 == 0 {
                        reservation.commit();
                        assert!(stored.fetch_add(1, Ordering::SeqCst) < 10, "oversold");
                    }
                }
            });
        }
    });
    assert_eq!(stored.load(Ordering::SeqCst), 10);
    assert_eq!(ledger.used("ns", Usage::new), maps(10));
}
