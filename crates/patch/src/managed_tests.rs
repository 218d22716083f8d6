//! Ownership by updates.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{configuration, object, schema};

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

fn track(old: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    track_update(&schema(), old, new, manager, &FieldSet::new()).unwrap();
}

fn created(rest: &Value, name: &str) -> Value {
    let mut new = object(rest);
    track(None, &mut new, &by(name, T1));
    new
}

fn changed(old: &Value, rest: &Value, name: &str) -> Value {
    let mut new = old.clone();
    crate::merge_patch(&mut new, rest);
    track(Some(old), &mut new, &by(name, T2));
    new
}

/// Manager, time and fields of each entry, in the order that they are stored in.
fn entries(object: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entries = managed_fields(object)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .map(|entry| (text(entry, "manager"), text(entry, "time"), entry["fieldsV1"].clone()))
        .collect()
}

#[test]
fn create_owns_all_but_what_the_server_sets() {
    let new = created(
        &json!({"metadata": {"uid": "u", "resourceVersion": "1", "labels": {"l": "1"}}, "data": {"a": "1"}}),
        "me",
    );
    assert_eq!(
        managed_fields(&new),
        Some(&json!([{
            "manager": "me", "operation": "Update", "apiVersion": "example.com/v1", "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {".": {}, "f:l": {}}}},
        }]))
    );
    assert_eq!(entries(&created(&json!({"data": {"a": "1"}}), ""))[0].0, "unknown");
}

#[test]
fn an_update_owns_what_it_changed() {
    let live = created(&json!({"data": {"a": "1", "b": "1"}}), "a");
    let new = changed(&live, &json!({"data": {"a": "2", "b": "1"}}), "b");
    assert_eq!(
        entries(&new),
        [
            ("a".to_owned(), T1.to_owned(), json!({"f:data": {".": {}, "f:b": {}}})),
            ("b".to_owned(), T2.to_owned(), json!({"f:data": {"f:a": {}}})),
        ]
    );
    // what is removed nobody owns, and who removed it has nothing to show for it
    let gone = changed(&new, &json!({"data": {"a": null}}), "c");
    assert_eq!(
        entries(&gone),
        [("a".to_owned(), T1.to_owned(), json!({"f:data": {".": {}, "f:b": {}}}))]
    );
    // the same manager again adds to what it has
    let more = changed(&new, &json!({"data": {"c": "1"}}), "b");
    assert_eq!(
        entries(&more)[1],
        ("b".to_owned(), T2.to_owned(), json!({"f:data": {"f:a": {}, "f:c": {}}}))
    );
}

#[test]
fn a_subresource_is_an_entry_of_its_own() {
    let live = created(&json!({"spec": {"replicas": 1}}), "a");
    let mut new = live.clone();
    new["status"] = json!({"ready": 1});
    new["spec"]["replicas"] = json!(7);
    new["metadata"]["managedFields"] = json!([]);
    let status = Manager {
        subresource: "status",
        ..by("a", T2)
    };
    track_update(
        &schema(),
        Some(&live),
        &mut new,
        &status,
        &FieldSet::of_root_fields(["spec", "metadata"]),
    )
    .unwrap();
    let fields = managed_fields(&new).unwrap();
    assert_eq!(
        fields[0],
        managed_fields(&live).unwrap()[0],
        "what the request may not write it does not take"
    );
    assert_eq!(fields[1]["subresource"], "status");
    assert_eq!(fields[1]["fieldsV1"], json!({"f:status": {".": {}, "f:ready": {}}}));
}

#[test]
fn what_the_client_sends() {
    let live = created(&json!({"data": {"a": "1"}}), "a");
    let sent = |fields: Value| {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = fields;
        track(Some(&live), &mut new, &by("b", T2));
        managed_fields(&new).cloned()
    };
    let stored = managed_fields(&live).cloned();
    // forgotten on demand
    assert_eq!(sent(json!([])), None);
    assert_eq!(sent(json!([{}])), None);
    // kept where the client does not know of them, or sends what is none
    for ignored in [
        json!(null),
        json!(7),
        json!([{"manager": "x"}]),
        json!([{"operation": "Update", "apiVersion": "v1", "fieldsType": "V9"}]),
    ] {
        assert_eq!(sent(ignored), stored);
    }
    // taken where it says something else
    let other = json!([{"manager": "x", "operation": "Update", "apiVersion": "example.com/v1", "time": T1, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}}}]);
    assert_eq!(sent(other.clone()), Some(other));
    // an object whose owners were forgotten is not tracked until it is applied
    let mut forgotten = live.clone();
    forgotten["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(entries(&changed(&forgotten, &json!({"data": {"a": "2"}}), "b")), []);
}

#[test]
fn the_oldest_updates_are_merged_above_the_cap() {
    let mut live = created(&json!({}), "none");
    for i in 0..15 {
        let mut new = live.clone();
        new["data"][format!("k{i:02}")] = json!("x");
        let now = format!("2026-01-01T00:01:{i:02}Z");
        track_update(
            &schema(),
            (i > 0).then_some(&live),
            &mut new,
            &by(&format!("m{i:02}"), &now),
            &FieldSet::new(),
        )
        .unwrap();
        live = new;
    }
    let entries = entries(&live);
    assert_eq!(entries.len(), MAX_UPDATE_MANAGERS);
    assert_eq!(entries[0].0, ANCIENT_CHANGES);
    assert_eq!(entries[0].1, "2026-01-01T00:01:05Z");
    let keys: Vec<String> = (0..6).map(|i| format!("f:k{i:02}")).collect();
    assert!(
        keys.iter().all(|key| entries[0].2["f:data"].get(key).is_some()),
        "{}",
        entries[0].2
    );
    assert_eq!(entries[1].0, "m06");
}

#[test]
fn entries_are_in_kubernetes_order_and_times_in_utc() {
    let entry = |manager: &str, operation: &str, time: &str| json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
    let given = json!([
        entry("b", "Update", T1),
        entry("a", "Update", T1),
        entry("z", "Apply", "2026-01-01T02:00:00+02:00"),
        entry("c", "Update", "2025-01-01T00:00:00Z")
    ]);
    let mut object = json!({"metadata": {}});
    Owners::decode(Some(&given)).unwrap().encode_into(&mut object);
    let order: Vec<(String, String)> = entries(&object)
        .into_iter()
        .map(|(manager, time, _)| (manager, time))
        .collect();
    let want = [
        ("z", "2026-01-01T00:00:00Z"),
        ("c", "2025-01-01T00:00:00Z"),
        ("a", T1),
        ("b", T1),
    ];
    assert_eq!(order, want.map(|(manager, time)| (manager.to_owned(), time.to_owned())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A write of what is there, with or without the managedFields that were read, changes no byte.
    #[test]
    fn writing_the_same_again_changes_nothing(first in configuration("a"), then in configuration("b")) {
        let live = changed(&created(&first, "a"), &then, "b");
        let mut same = live.clone();
        track(Some(&live), &mut same, &by("c", "2027-01-01T00:00:00Z"));
        prop_assert_eq!(same.to_string(), live.to_string());
        let mut bare = live.clone();
        bare["metadata"].as_object_mut().unwrap().remove("managedFields");
        track(Some(&live), &mut bare, &by("c", "2027-01-01T00:00:00Z"));
        prop_assert_eq!(bare, live);
    }

    /// Each path has at most one owner by update: who changes it takes it.
    #[test]
    fn updates_share_nothing(first in configuration("a"), then in configuration("b"), last in configuration("a")) {
        let live = changed(&changed(&created(&first, "a"), &then, "b"), &last, "c");
        let owners = Owners::decode(managed_fields(&live)).unwrap().0;
        for (i, one) in owners.iter().enumerate() {
            for other in &owners[i + 1..] {
                prop_assert!(!one.fields.intersects(&other.fields), "{} and {}", one.manager, other.manager);
            }
        }
    }
}
