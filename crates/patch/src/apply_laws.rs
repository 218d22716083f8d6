//! The laws of server-side apply, as KEP-555 promises them, over random configurations and sequences of writes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{configuration, schema};
use crate::track_update;

fn by<'a>(name: &'a str, now: &'a str) -> Manager<'a> {
    Manager {
        name,
        api_version: "example.com/v1",
        subresource: "",
        now,
    }
}

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn forced(live: Option<&Value>, patch: &Value, manager: &Manager<'_>) -> Value {
    apply(&schema(), live, patch, manager, true, &FieldSet::new()).expect("a forced apply of a valid configuration")
}

/// Any configuration: what it says may meet what any other says.
fn any_configuration() -> impl Strategy<Value = Value> {
    prop_oneof![configuration("a"), configuration("b")]
}

fn owners(object: &Value) -> Vec<Owner> {
    Owners::decode(managed::managed_fields(object)).unwrap().0
}

fn owned_by(object: &Value, name: &str, operation: Operation) -> FieldSet {
    let owner = owners(object)
        .into_iter()
        .find(|owner| owner.manager == name && owner.operation == operation);
    owner.map(|owner| owner.fields).unwrap_or_default()
}

/// What a configuration states, less what nobody owns.
fn stated(patch: &Value) -> FieldSet {
    let mut fields = typed::field_set(Node::Root(&schema()), patch).unwrap();
    managed::strip(&mut fields);
    fields
}

/// Whether the object says all that the configuration says: merging it in changes nothing.
fn says(object: &Value, patch: &Value) -> bool {
    let mut merged = object.clone();
    typed::merge(Node::Root(&schema()), &mut merged, patch).unwrap();
    sorted(&merged) == sorted(object)
}

/// The object with its lists that merge in one order: theirs depends on who came first.
fn sorted(object: &Value) -> Value {
    let mut object = object.clone();
    let sort = |list: Option<&mut Value>| {
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.sort_by_key(ToString::to_string);
        }
    };
    sort(object.pointer_mut("/spec/set"));
    for port in object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        sort(port.get_mut("tags"));
    }
    sort(object.pointer_mut("/spec/ports"));
    object
}

fn without_owners(object: &Value) -> Value {
    sorted(&without_managed_fields(object))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The second apply changes nothing: not the object, not an owner, not a time.
    #[test]
    fn idempotent(before in any_configuration(), patch in any_configuration()) {
        let live = forced(None, &before, &by("other", T1));
        let once = forced(Some(&live), &patch, &by("me", T1));
        prop_assert_eq!(&forced(Some(&once), &patch, &by("me", T2)), &once);
        // And unforced: with all of it mine, there is nothing to be in conflict about.
        prop_assert_eq!(apply(&schema(), Some(&once), &patch, &by("me", T2), false, &FieldSet::new()), Ok(once));
    }

    #[test]
    fn the_object_says_what_was_applied_and_its_manager_owns_exactly_that(before in any_configuration(), patch in any_configuration()) {
        let live = forced(None, &before, &by("other", T1));
        let object = forced(Some(&live), &patch, &by("me", T2));
        prop_assert!(says(&object, &patch), "{}", object);
        prop_assert_eq!(owned_by(&object, "me", Operation::Apply), stated(&patch));
    }

    /// Managers whose configurations have nothing in common never conflict, and it does not matter who comes first.
    #[test]
    fn disjoint_managers_commute(a in configuration("a"), b in configuration("b")) {
        let unforced = |live: Option<&Value>, patch: &Value, name: &str| {
            apply(&schema(), live, patch, &by(name, T1), false, &FieldSet::new())
        };
        let ab = unforced(Some(&unforced(None, &a, "a").unwrap()), &b, "b").unwrap();
        let ba = unforced(Some(&unforced(None, &b, "b").unwrap()), &a, "a").unwrap();
        prop_assert_eq!(sorted(&ab), sorted(&ba));
        prop_assert!(says(&ab, &a) && says(&ab, &b));
    }

    /// One manager's second configuration leaves nothing of its first.
    #[test]
    fn what_is_no_longer_stated_is_gone(first in any_configuration(), second in any_configuration()) {
        let live = forced(None, &first, &by("me", T1));
        let object = forced(Some(&live), &second, &by("me", T2));
        let fresh = forced(None, &second, &by("me", T2));
        // An empty list that used to have items is absent, not empty; nulls beside content are content. Neither is what this law is about.
        prop_assume!(!second.to_string().contains("[]") && !second.to_string().contains("null") && !second.to_string().contains("{}"));
        prop_assert_eq!(without_owners(&object), without_owners(&fresh));
    }

    /// What another manager states stays, whatever one takes back.
    #[test]
    fn what_others_own_stays(mine in any_configuration(), theirs in any_configuration(), later in any_configuration()) {
        let live = forced(None, &mine, &by("me", T1));
        let live = forced(Some(&live), &theirs, &by("they", T1));
        if let Ok(object) = apply(&schema(), Some(&live), &later, &by("me", T2), false, &FieldSet::new()) {
            prop_assert!(says(&object, &theirs), "{}", object);
            prop_assert_eq!(owned_by(&object, "they", Operation::Apply), stated(&theirs));
        }
    }

    /// What an update brought, an apply that never stated it does not take away.
    #[test]
    fn what_an_update_owns_stays(mine in configuration("a"), update in configuration("b"), later in configuration("a")) {
        let live = forced(None, &mine, &by("me", T1));
        let mut updated = live.clone();
        crate::merge_patch(&mut updated, &json!({"spec": {"name": "u", "labels": {"u": "u"}}, "data": update["spec"]["labels"]}));
        track_update(&schema(), Some(&live), &mut updated, &by("u", T1), &FieldSet::new()).unwrap();
        let object = forced(Some(&updated), &later, &by("me", T2));
        for at in ["/spec/name", "/spec/labels/u", "/data"] {
            prop_assert_eq!(object.pointer(at), updated.pointer(at), "{}", at);
        }
    }

    /// Unforced, an apply either does what the forced one does, or names what others own, and only that.
    #[test]
    fn conflicts_are_what_force_takes(theirs in any_configuration(), mine in any_configuration()) {
        let live = forced(None, &theirs, &by("they", T1));
        let taken = forced(Some(&live), &mine, &by("me", T2));
        let lost = owned_by(&live, "they", Operation::Apply).difference(&owned_by(&taken, "they", Operation::Apply));
        match apply(&schema(), Some(&live), &mine, &by("me", T2), false, &FieldSet::new()) {
            Ok(object) => {
                prop_assert_eq!(object, taken);
                prop_assert!(lost.is_empty());
            }
            Err(ApplyError::Conflicts(conflicts)) => {
                prop_assert_eq!(&conflicts[0].manager, "they");
                // An object that becomes a scalar is one conflict, and takes all that was in it.
                let (named, lost) = (&conflicts[0].paths, lost.paths());
                prop_assert!(named.iter().all(|path| lost.contains(path)));
                prop_assert!(lost.iter().all(|path| named.iter().any(|named| path.starts_with(named))));
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    /// Two that apply the same share it, and it stays until the second lets go.
    #[test]
    fn equal_values_are_shared(patch in configuration("a"), other in configuration("b")) {
        let live = forced(None, &patch, &by("one", T1));
        let shared = apply(&schema(), Some(&live), &patch, &by("two", T2), false, &FieldSet::new()).unwrap();
        prop_assert_eq!(owned_by(&shared, "one", Operation::Apply), owned_by(&shared, "two", Operation::Apply));
        let left = forced(Some(&shared), &other, &by("one", T2));
        prop_assert!(says(&left, &patch), "{}", left);
        let gone = forced(Some(&left), &other, &by("two", T2));
        let fresh = forced(None, &other, &by("one", T2));
        prop_assume!(!other.to_string().contains("[]") && !other.to_string().contains("null") && !other.to_string().contains("{}"));
        prop_assert_eq!(without_owners(&gone), without_owners(&fresh));
    }

    /// Whatever is written in whatever order, managers own only what is there, and reapplying is a no-op.
    #[test]
    fn owners_own_what_is_there(
        steps in prop::collection::vec((any_configuration(), prop::sample::select(&["one", "two", "three"][..]), any::<bool>()), 1..6),
    ) {
        let schema = schema();
        let mut live: Option<Value> = None;
        for (configuration, name, update) in &steps {
            let next = if *update {
                let mut new = live.clone().unwrap_or_else(|| crate::testing::object(&json!({})));
                crate::merge_patch(&mut new, configuration);
                track_update(&schema, live.as_ref(), &mut new, &by(name, T1), &FieldSet::new()).unwrap();
                new
            } else {
                forced(live.as_ref(), configuration, &by(name, T1))
            };
            let there = typed::compare(Node::Root(&schema), &json!({}), &next).unwrap().added;
            for owner in owners(&next) {
                prop_assert!(!owner.fields.is_empty());
                prop_assert!(there.contains(&owner.fields), "{} owns\n{}\nof {}", owner.manager, owner.fields.difference(&there), next);
            }
            // A write of the same again changes nothing.
            let mut same = next.clone();
            track_update(&schema, Some(&next), &mut same, &by("four", T2), &FieldSet::new()).unwrap();
            prop_assert_eq!(&same, &next);
            live = Some(next);
        }
    }

    /// The short cut is one: where nothing is let go, pruning finds nothing.
    #[test]
    fn pruning_takes_nothing_where_nothing_is_let_go(theirs in any_configuration(), mine in any_configuration()) {
        let schema = schema();
        let live = forced(None, &theirs, &by("they", T1));
        let object = without_managed_fields(&forced(Some(&live), &mine, &by("me", T1)));
        let others = Owners(owners(&live));
        let stated = typed::field_set(Node::Root(&schema), &mine).unwrap();
        let mut pruned = object.clone();
        prune(Node::Root(&schema), &mut pruned, &stated, &stated, &others).unwrap();
        prop_assert_eq!(pruned, object);
    }

    /// What a manager applied can be read back from the object, and applying that changes nothing.
    #[test]
    fn extract_gives_back_what_was_applied(theirs in any_configuration(), mine in any_configuration()) {
        let live = forced(None, &theirs, &by("they", T1));
        let object = forced(Some(&live), &mine, &by("me", T1));
        let extracted = extract(&schema(), &object, "me", "").unwrap();
        match extracted {
            None => prop_assert!(stated(&mine).is_empty()),
            Some(extracted) => {
                prop_assert_eq!(stated(&extracted), stated(&mine));
                prop_assert_eq!(forced(Some(&object), &extracted, &by("me", T2)), object);
            }
        }
    }

    /// Nothing that a client can send makes it panic.
    #[test]
    fn total(live in crate::testing::json_value(), patch in crate::testing::json_value(), fields in crate::testing::json_value()) {
        let schema = schema();
        let wrap = |spec: &Value| json!({
            "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "managedFields": fields},
            "spec": {"ports": spec, "set": spec, "labels": spec, "free": spec, "replicas": spec, "pools": spec, "selector": spec},
        });
        let (live, mut patch) = (wrap(&live), wrap(&patch));
        for manager in ["me", "kubectl"] {
            let _ = apply(&schema, Some(&live), &patch, &by(manager, T1), true, &FieldSet::new());
        }
        let _ = apply(&schema, Some(&without_managed_fields(&live)), &without_managed_fields(&patch), &by("me", T1), true, &FieldSet::new());
        let _ = track_update(&schema, Some(&live), &mut patch, &by("me", T1), &FieldSet::new());
        let mut target = live.clone();
        let _ = crate::strategic_merge_patch(&schema, &mut target, &patch);
    }
}
