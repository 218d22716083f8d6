//! Whether an apply would change anything, told from the live object alone: what makes a converged control plane quiet.
//!
//! # Guarantees
//! `true` only if applying `desired` as `manager` would neither change a value, nor add a field, nor drop one that `manager` owns.
//!
//! # How one could get it wrong
//! Comparing values only: a field that the manager applied earlier and no longer wants is then never removed. So the manager's
//! `managedFields` entry is walked beside the values. `false` is always safe: an apply that changes nothing writes nothing.

use serde_json::{Map, Value};

/// Whether the live object already is what `manager` would apply to it. `subresource` is `None` for the main resource.
pub fn converged(desired: &Value, live: &Value, manager: &str, subresource: Option<&str>) -> bool {
    let entry = live["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| {
            entry["manager"] == manager
                && entry["operation"] == "Apply"
                && entry
                    .get("subresource")
                    .and_then(Value::as_str)
                    .filter(|name| !name.is_empty())
                    == subresource
        });
    let Some(fields) = entry.and_then(|entry| entry["fieldsV1"].as_object()) else {
        return false;
    };
    let (Some(desired), Some(live)) = (desired.as_object(), live.as_object()) else {
        return false;
    };
    let wanted = desired
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
    wanted
        .clone()
        .all(|(key, value)| field_converged(key, value, live, fields))
        && fields
            .keys()
            .all(|owned| owned == "f:metadata" || owned.strip_prefix("f:").is_none_or(|key| desired.contains_key(key)))
        && metadata_converged(desired.get("metadata"), live.get("metadata"), fields.get("f:metadata"))
}

/// Identity is not applied, it is addressed: only the rest of the metadata counts.
fn metadata_converged(desired: Option<&Value>, live: Option<&Value>, fields: Option<&Value>) -> bool {
    let empty = Map::new();
    let desired = desired.and_then(Value::as_object).unwrap_or(&empty);
    let live = live.and_then(Value::as_object).unwrap_or(&empty);
    let fields = fields.and_then(Value::as_object).unwrap_or(&empty);
    let identity = ["name", "namespace", "uid", "resourceVersion"];
    desired
        .iter()
        .filter(|(key, _)| !identity.contains(&key.as_str()))
        .all(|(key, value)| field_converged(key, value, live, fields))
        && owned_are_wanted(fields, desired)
}

fn field_converged(key: &str, desired: &Value, live: &Map<String, Value>, fields: &Map<String, Value>) -> bool {
    match (live.get(key), fields.get(&format!("f:{key}"))) {
        (Some(live), Some(owned)) => value_converged(desired, live, owned),
        // An empty object or list leaves no trace in managedFields of granular types; absent and null mean the same to an apply.
        (live, None) => desired.is_null() && live.is_none(),
        (None, Some(_)) => false,
    }
}

fn value_converged(desired: &Value, live: &Value, owned: &Value) -> bool {
    let leaf = Map::new();
    let owned = owned.as_object().unwrap_or(&leaf);
    let children = owned.keys().any(|key| key != ".");
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) if children => {
            desired
                .iter()
                .all(|(key, value)| field_converged(key, value, live, owned))
                && owned_are_wanted(owned, desired)
        }
        (Value::Array(desired), Value::Array(live)) if children => list_converged(desired, live, owned),
        _ => same(desired, live),
    }
}

fn owned_are_wanted(owned: &Map<String, Value>, desired: &Map<String, Value>) -> bool {
    owned
        .keys()
        .all(|key| key.strip_prefix("f:").is_none_or(|key| desired.contains_key(key)))
}

/// Lists of type map (`k:{"uid":"…"}`) and set (`v:"…"`); others are leaves.
fn list_converged(desired: &[Value], live: &[Value], owned: &Map<String, Value>) -> bool {
    let mut items = 0;
    for (key, item) in owned {
        let converged = if let Some(keys) = key.strip_prefix("k:") {
            let Ok(Value::Object(keys)) = serde_json::from_str(keys) else {
                return false;
            };
            let at = |list: &[Value]| {
                list.iter()
                    .find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
                    .cloned()
            };
            match (at(desired), at(live)) {
                (Some(desired), Some(live)) => value_converged(&desired, &live, item),
                _ => false,
            }
        } else if let Some(value) = key.strip_prefix("v:") {
            let Ok(value) = serde_json::from_str::<Value>(value) else {
                return false;
            };
            desired.contains(&value) && live.contains(&value)
        } else if key == "." {
            continue;
        } else {
            false
        };
        if !converged {
            return false;
        }
        items += 1;
    }
    // Every desired item was owned: with distinct keys, equal numbers mean the same items.
    items == desired.len()
}

/// Equality up to the spelling of numbers.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(fields: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "labels": {"app": "x", "other": "y"},
                "ownerReferences": [{"uid": "u1", "name": "o", "controller": true}, {"uid": "u2", "name": "p"}],
                "managedFields": [
                    {"manager": "someone", "operation": "Apply", "fieldsV1": {"f:data": {"f:z": {}}}},
                    {"manager": "me", "operation": "Update", "fieldsV1": {"f:data": {"f:z": {}}}},
                    {"manager": "me", "operation": "Apply", "fieldsV1": fields},
                ],
            },
            "data": {"a": "1", "z": "2"},
            "list": [1, 2],
        })
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {
                "f:labels": {"f:app": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u1\"}": {".": {}, "f:uid": {}, "f:name": {}, "f:controller": {}}},
            },
            "f:data": {"f:a": {}},
            "f:list": {},
        })
    }

    fn desired() -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "labels": {"app": "x"},
                "ownerReferences": [{"uid": "u1", "name": "o", "controller": true}],
            },
            "data": {"a": "1"},
            "list": [1.0, 2],
        })
    }

    #[test]
    fn what_is_applied_is_converged_whatever_others_own() {
        assert!(converged(&desired(), &live(&fields()), "me", None));
        assert!(!converged(&desired(), &live(&fields()), "another", None));
        assert!(!converged(&desired(), &live(&fields()), "me", Some("status")));
    }

    #[test]
    fn every_difference_shows() {
        let changes: [fn(&mut Value); 7] = [
            |desired| desired["data"]["a"] = "2".into(),
            |desired| desired["data"]["b"] = "1".into(),
            |desired| desired["data"] = json!({}),
            |desired| desired["list"] = json!([1]),
            |desired| desired["metadata"]["labels"] = json!({}),
            |desired| desired["metadata"]["ownerReferences"][0]["name"] = "q".into(),
            |desired| desired["metadata"]["ownerReferences"] = json!([]),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut desired = desired();
            change(&mut desired);
            assert!(!converged(&desired, &live(&fields()), "me", None), "change {number}");
        }
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_has_to_be_dropped() {
        let mut owned = fields();
        owned["f:data"]["f:z"] = json!({});
        assert!(!converged(&desired(), &live(&owned), "me", None));
    }

    #[test]
    fn a_value_that_agrees_by_chance_is_not_owned_yet() {
        let mut owned = fields();
        owned.as_object_mut().expect("an object").remove("f:list");
        assert!(!converged(&desired(), &live(&owned), "me", None));
    }
}
