//! Bringing a stored default object up to date: what is missing is added; what an administrator added stays.

use serde_json::{Map, Value};
use setpoint_meta::object;

use super::{AUTOUPDATE, OWN_PREFIX};
use crate::authz::{PolicyRule, uncovered};

/// What to do with a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is complete, or protected.
    None,
    /// Store this in its place: the stored object with what was missing. It keeps its metadata, resourceVersion included.
    Update(Value),
    /// Delete it and create this: a binding whose `roleRef`, which cannot be changed, names another role.
    Recreate(Value),
}

/// How the stored object `existing` must change to have all that `wanted`, one of [`super::objects`], has.
pub fn reconcile(existing: &Value, wanted: &Value) -> Change {
    if object::annotation(existing, AUTOUPDATE) == Some("false") {
        return Change::None;
    }
    if existing.get("roleRef") != wanted.get("roleRef") {
        return Change::Recreate(wanted.clone());
    }
    let exact = object::name(wanted).starts_with(OWN_PREFIX);
    let mut next = existing.clone();
    for field in ["labels", "annotations"] {
        let missing = wanted.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
        for (key, value) in missing.into_iter().flatten() {
            let kept = object::metadata_mut(&mut next)
                .entry(field)
                .or_insert_with(|| Map::new().into());
            if let Some(kept) = kept.as_object_mut() {
                kept.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    // The rules of an aggregated role are not its own.
    if wanted.get("rules").is_some() && wanted.get("aggregationRule").is_none() {
        let (held, asked) = (PolicyRule::list_from(existing), PolicyRule::list_from(wanted));
        let missing = uncovered(&held, &asked);
        if exact {
            if held != asked {
                next["rules"] = wanted["rules"].clone();
            }
        } else if !missing.is_empty() {
            append(
                &mut next,
                "rules",
                missing.iter().filter_map(|rule| serde_json::to_value(rule).ok()),
            );
        }
    }
    if let Some(selectors) = wanted.pointer("/aggregationRule/clusterRoleSelectors") {
        if !next.get("aggregationRule").is_some_and(Value::is_object) {
            next["aggregationRule"] = Map::new().into();
        }
        add_missing(&mut next["aggregationRule"], "clusterRoleSelectors", selectors);
    }
    if let Some(subjects) = wanted.get("subjects") {
        match exact {
            true => next["subjects"] = subjects.clone(),
            false => add_missing(&mut next, "subjects", subjects),
        }
    }
    if next == *existing {
        Change::None
    } else {
        Change::Update(next)
    }
}

fn add_missing(object: &mut Value, field: &str, wanted: &Value) {
    let kept = object.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = wanted.as_array().into_iter().flatten();
    let missing: Vec<_> = wanted.filter(|item| !kept.contains(item)).cloned().collect();
    if !missing.is_empty() {
        append(object, field, missing);
    }
}

fn append(object: &mut Value, field: &str, items: impl IntoIterator<Item = Value>) {
    let mut list = object.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    list.extend(items);
    object[field] = list.into();
}
