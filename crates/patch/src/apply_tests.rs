//! Server-side apply, case by case: the texts, the topology of lists and maps, and moving from client-side apply.

use serde_json::json;

use super::*;
use crate::testing::{object, schema};
use crate::{managed::managed_fields, track_update};

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn by<'a>(name: &'a str, now: &'a str) -> Manager<'a> {
    Manager {
        name,
        api_version: "example.com/v1",
        subresource: "",
        now,
    }
}

fn applied(live: Option<&Value>, rest: &Value, name: &str) -> Result<Value, ApplyError> {
    apply(&schema(), live, &object(rest), &by(name, T1), false, &FieldSet::new())
}

fn updated(live: Option<&Value>, rest: &Value, name: &str) -> Value {
    let mut new = live.cloned().unwrap_or_else(|| object(&json!({})));
    crate::merge_patch(&mut new, rest);
    track_update(&schema(), live, &mut new, &by(name, T1), &FieldSet::new()).unwrap();
    new
}

/// Applies in turn, each for its manager, without force; the `spec` of what comes out.
fn spec_after(steps: &[(&str, Value)]) -> Value {
    let mut live = None;
    for (name, spec) in steps {
        live = Some(applied(live.as_ref(), &json!({"spec": spec}), name).unwrap());
    }
    live.unwrap()["spec"].take()
}

#[test]
fn creating_makes_the_manager_own_what_it_states() {
    let object = applied(
        None,
        &json!({"spec": {"replicas": 1, "ports": [{"port": 80}], "set": ["x"], "labels": {"a": "b"}}}),
        "me",
    )
    .unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "example.com/v1", "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:labels": {"f:a": {}},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:replicas": {},
                "f:set": {"v:\"x\"": {}},
            }},
        }])
    );
}

#[test]
fn one_conflict_in_kubernetes_words() {
    let live = updated(None, &json!({"data": {"a": "1"}}), "kubectl-client-side-apply");
    let error = applied(Some(&live), &json!({"data": {"a": "2"}}), "me").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using example.com/v1: .data.a"
    );
    let status = error.status();
    assert_eq!(status.code, 409);
    let causes = status.details.unwrap().causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(
        causes[0].message,
        "conflict with \"kubectl-client-side-apply\" using example.com/v1"
    );
    assert_eq!(causes[0].field, ".data.a");
}

#[test]
fn several_conflicts_by_manager() {
    let live = applied(
        None,
        &json!({"spec": {"replicas": 1, "ports": [{"port": 80, "name": "a"}]}}),
        "b",
    )
    .unwrap();
    let status = Manager {
        subresource: "status",
        ..by("a", T1)
    };
    let mut new = live.clone();
    new["status"] = json!({"ready": 1});
    track_update(&schema(), Some(&live), &mut new, &status, &FieldSet::new()).unwrap();
    let error = applied(
        Some(&new),
        &json!({"spec": {"replicas": 2, "ports": [{"port": 80, "name": "b"}]}, "status": {"ready": 2}}),
        "c",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\" with subresource \"status\" using example.com/v1:\n- .status.ready\n\
         conflicts with \"b\":\n- .spec.ports[port=80,protocol=\"TCP\"].name\n- .spec.replicas"
    );
}

#[test]
fn force_takes_the_field_and_the_loser_forgets_it() {
    let live = applied(None, &json!({"spec": {"replicas": 1}}), "a").unwrap();
    let object = apply(
        &schema(),
        Some(&live),
        &object(&json!({"spec": {"replicas": 2}})),
        &by("b", T2),
        true,
        &FieldSet::new(),
    )
    .unwrap();
    let owners = managed_fields(&object).unwrap().as_array().unwrap().clone();
    assert_eq!(owners.len(), 1);
    assert_eq!((&owners[0]["manager"], &owners[0]["time"]), (&json!("b"), &json!(T2)));
}

#[test]
fn lists_and_maps_by_their_topology() {
    for (steps, want) in [
        // what nobody states any more is gone; what another states stays
        (
            vec![
                ("a", json!({"labels": {"x": "1", "y": "1"}})),
                ("b", json!({"labels": {"x": "1"}})),
                ("a", json!({})),
            ],
            json!({"labels": {"x": "1"}}),
        ),
        (
            vec![("a", json!({"labels": {"x": "1"}})), ("a", json!({}))],
            json!(null),
        ),
        // a set grows by each manager's items, in the order of the last that states them
        (
            vec![("a", json!({"set": ["1", "2"]})), ("b", json!({"set": ["3", "2"]}))],
            json!({"set": ["1", "3", "2"]}),
        ),
        (
            vec![
                ("a", json!({"set": ["1", "2"]})),
                ("b", json!({"set": ["2", "3"]})),
                ("a", json!({"set": ["1"]})),
            ],
            json!({"set": ["1", "2", "3"]}),
        ),
        // an atomic list is one value
        (
            vec![("a", json!({"args": ["1", "2"]})), ("a", json!({"args": ["2"]}))],
            json!({"args": ["2"]}),
        ),
        (
            vec![
                ("a", json!({"rules": [{"a": 1}, {"a": 2}]})),
                ("a", json!({"rules": [{"b": 1}]})),
            ],
            json!({"rules": [{"b": 1}]}),
        ),
        // an atomic map too
        (
            vec![
                ("a", json!({"selector": {"x": "1"}})),
                ("a", json!({"selector": {"y": "1"}})),
            ],
            json!({"selector": {"y": "1"}}),
        ),
        // a list with keys: items by key, the default of a key counts
        (
            vec![
                ("a", json!({"ports": [{"port": 80, "name": "x"}]})),
                (
                    "b",
                    json!({"ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]}),
                ),
            ],
            json!({"ports": [{"port": 80, "name": "x", "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]}),
        ),
        (
            vec![
                ("a", json!({"ports": [{"port": 1, "name": "x"}, {"port": 2}]})),
                ("b", json!({"ports": [{"port": 1, "tags": ["t"]}]})),
                ("a", json!({"ports": [{"port": 2}]})),
            ],
            json!({"ports": [{"port": 1, "tags": ["t"]}, {"port": 2}]}),
        ),
        // what the schema does not know is deduced: objects merge, lists do not
        (
            vec![
                ("a", json!({"free": {"m": {"x": 1}, "l": [1]}})),
                ("b", json!({"free": {"m": {"y": 2}}})),
                ("a", json!({"free": {"l": [2]}})),
            ],
            json!({"free": {"m": {"y": 2}, "l": [2]}}),
        ),
        // a null is a value, but takes nothing from what has content
        (
            vec![("a", json!({"labels": {"x": "1"}})), ("b", json!({"labels": null}))],
            json!({"labels": {"x": "1"}}),
        ),
        // an empty object that is stated stays when its content goes
        (
            vec![
                ("a", json!({"pools": {"p": {"x": 1}}})),
                ("b", json!({"pools": {"p": {}}})),
                ("a", json!({})),
            ],
            json!({"pools": {"p": {}}}),
        ),
    ] {
        let mut steps = steps;
        // `null` in a configuration that is built by a merge patch would be dropped.
        let last = steps.pop().unwrap();
        let mut live = None;
        for (name, spec) in steps.iter().chain([&last]) {
            let mut patch = object(&json!({}));
            patch["spec"] = spec.clone();
            live = Some(apply(&schema(), live.as_ref(), &patch, &by(name, T1), false, &FieldSet::new()).unwrap());
        }
        let spec = live.unwrap()["spec"].take();
        let spec = if spec == json!({}) { json!(null) } else { spec };
        assert_eq!(spec, want, "{steps:?} {last:?}");
    }
    assert_eq!(
        spec_after(&[("a", json!({"max": 1})), ("a", json!({"max": "50%"}))]),
        json!({"max": "50%"})
    );
}

#[test]
fn metadata_has_its_topology_even_where_the_schema_leaves_it_out() {
    let a = applied(
        None,
        &json!({"metadata": {"finalizers": ["x/a"], "ownerReferences": [{"uid": "1", "name": "n"}]}}),
        "a",
    )
    .unwrap();
    let b = applied(
        Some(&a),
        &json!({"metadata": {"finalizers": ["x/b"], "ownerReferences": [{"uid": "2", "name": "m"}]}}),
        "b",
    )
    .unwrap();
    assert_eq!(b["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(b["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    let gone = applied(Some(&b), &json!({}), "a").unwrap();
    assert_eq!(gone["metadata"]["finalizers"], json!(["x/b"]));
}

#[test]
fn what_is_reset_is_not_owned_and_not_fought_over() {
    let reset = FieldSet::of_root_fields(["status"]);
    let patch = object(&json!({"spec": {"replicas": 1}, "status": {"ready": 3}}));
    let live = apply(&schema(), None, &patch, &by("me", T1), false, &reset).unwrap();
    assert_eq!(
        managed_fields(&live).unwrap()[0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    let mut with_status = live.clone();
    with_status["status"] = json!({"ready": 1});
    let status = Manager {
        subresource: "status",
        ..by("agent", T1)
    };
    track_update(
        &schema(),
        Some(&live),
        &mut with_status,
        &status,
        &FieldSet::of_root_fields(["spec", "metadata"]),
    )
    .unwrap();
    apply(&schema(), Some(&with_status), &patch, &by("me", T2), false, &reset).unwrap();
}

#[test]
fn an_object_that_nobody_tracked_is_owned_by_before_first_apply() {
    let live = object(&json!({"spec": {"replicas": 1, "name": "n"}}));
    let error = applied(Some(&live), &json!({"spec": {"replicas": 2}}), "me").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using example.com/v1: .spec.replicas"
    );
    let object = applied(Some(&live), &json!({"spec": {"replicas": 1}}), "me").unwrap();
    let owners = managed_fields(&object).unwrap();
    assert_eq!(
        (&owners[0]["manager"], &owners[1]["manager"]),
        (&json!("me"), &json!("before-first-apply"))
    );
}

#[test]
fn wrong_configurations() {
    let invalid = |patch: Value| match apply(&schema(), None, &patch, &by("me", T1), false, &FieldSet::new()) {
        Err(ApplyError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    let typed = "failed to create typed patch object (ns/a; example.com/v1, Kind=Thing): ";
    for (rest, text) in [
        (
            json!({"spec": {"replicas": "x"}}),
            ".spec.replicas: expected numeric (int or float), got \"x\"",
        ),
        (
            json!({"spec": {"labels": {"a": 1}}}),
            ".spec.labels.a: expected string, got 1",
        ),
        (json!({"spec": {"labels": [1]}}), ".spec.labels: expected map, got [1]"),
        (json!({"spec": {"args": {}}}), ".spec.args: expected list, got {}"),
        (json!({"spec": {"args": [1]}}), ".spec.args[0]: expected string, got 1"),
        (json!({"spec": {"paused": 1}}), ".spec.paused: expected boolean, got 1"),
        (json!({"spec": {"max": {}}}), ".spec.max: expected any scalar, got {}"),
        (
            json!({"spec": {"unknown": 1}}),
            ".spec.unknown: field not declared in schema",
        ),
        (
            json!({"spec": {"set": ["a", "a"]}}),
            ".spec.set: duplicate entries for key [=\"a\"]",
        ),
        (
            json!({"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}}),
            ".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
        ),
        (
            json!({"spec": {"set": [["a"]]}}),
            ".spec.set: element 0: not supported: associative list with lists as elements",
        ),
        (
            json!({"spec": {"ports": ["a"]}}),
            ".spec.ports: element 0: associative list with keys may not have non-map elements",
        ),
        (
            json!({"spec": {"replicas": "x", "name": 1}}),
            "errors:\n  .spec.name: expected string, got 1\n  .spec.replicas: expected numeric (int or float), got \"x\"",
        ),
    ] {
        assert_eq!(invalid(object(&rest)), format!("{typed}{text}"));
    }
    assert_eq!(
        invalid(object(&json!({"metadata": {"managedFields": []}}))),
        "metadata.managedFields must be nil"
    );
    assert_eq!(
        invalid(object(&json!({"apiVersion": "v2"}))),
        "Incorrect version specified in apply patch. Specified patch version: v2, expected: example.com/v1"
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_client_side() {
    let annotated = |rest: Value| {
        let mut whole = rest.clone();
        whole["metadata"] = json!({"annotations": {last_applied::ANNOTATION: object(&rest).to_string()}});
        whole
    };
    let live = updated(
        None,
        &annotated(json!({"data": {"a": "1"}, "spec": {"replicas": 1}})),
        "kubectl-client-side-apply",
    );
    // the same user, now server-side, changes a field of its own: no conflict
    let object = applied(
        Some(&live),
        &json!({"data": {"a": "2"}, "spec": {"replicas": 1}}),
        "kubectl",
    )
    .unwrap();
    assert_eq!(object["data"]["a"], "2");
    // and the annotation follows
    let annotation = object["metadata"]["annotations"][last_applied::ANNOTATION]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap()["data"]["a"], "2");
    // another manager is in conflict all the same
    assert!(matches!(
        applied(Some(&live), &json!({"data": {"a": "2"}}), "other"),
        Err(ApplyError::Conflicts(_))
    ));
    // and so is kubectl, over what somebody changed since
    let scaled = updated(Some(&live), &json!({"spec": {"replicas": 5}}), "hpa");
    let error = applied(
        Some(&scaled),
        &json!({"data": {"a": "2"}, "spec": {"replicas": 2}}),
        "kubectl",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"hpa\" using example.com/v1: .spec.replicas"
    );
}

/// A field whose schema became atomic is owned as a whole from then on.
#[test]
fn a_schema_that_became_atomic() {
    let live = applied(None, &json!({"spec": {"selector": {"a": "1"}}}), "a").unwrap();
    let mut old = live.clone();
    old["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"f:selector": {"f:a": {}}}});
    let again = applied(Some(&old), &json!({"spec": {"selector": {"a": "1"}}}), "a").unwrap();
    assert_eq!(
        managed_fields(&again).unwrap()[0]["fieldsV1"],
        json!({"f:spec": {"f:selector": {}}})
    );
    let error = applied(Some(&old), &json!({"spec": {"selector": {"b": "1"}}}), "b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.selector"
    );
}

/// The time of an entry moves when the manager changed something, and only then.
#[test]
fn times() {
    let live = applied(None, &json!({"spec": {"replicas": 1}}), "a").unwrap();
    let patch = |replicas: i64| object(&json!({"spec": {"replicas": replicas}}));
    let time = |object: &Value, at: usize| managed_fields(object).unwrap()[at]["time"].clone();
    let value = apply(&schema(), Some(&live), &patch(2), &by("a", T2), false, &FieldSet::new()).unwrap();
    assert_eq!(time(&value, 0), T2);
    let shared = apply(&schema(), Some(&live), &patch(1), &by("b", T2), false, &FieldSet::new()).unwrap();
    assert_eq!((time(&shared, 0), time(&shared, 1)), (json!(T1), json!(T2)));
}
