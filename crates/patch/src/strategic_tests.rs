//! Strategic merge patch: each directive, and where it is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{configuration, object, schema};

fn patched(spec: &Value, patch: &Value) -> std::result::Result<Value, (u16, String)> {
    let mut target = json!({"spec": spec});
    strategic_merge_patch(&schema(), &mut target, &json!({"spec": patch}))
        .map(|()| target["spec"].take())
        .map_err(|error| (error.status_code(), error.to_string()))
}

#[test]
fn merges() {
    for (spec, patch, want) in [
        // objects merge, null removes, scalars replace
        (
            json!({"labels": {"a": "1", "b": "1"}}),
            json!({"labels": {"a": null, "c": "1"}}),
            json!({"labels": {"b": "1", "c": "1"}}),
        ),
        (
            json!({}),
            json!({"labels": {"a": null, "c": "1"}}),
            json!({"labels": {"c": "1"}}),
        ),
        (
            json!({"name": "a"}),
            json!({"name": {"x": 1}}),
            json!({"name": {"x": 1}}),
        ),
        // a list without a strategy is replaced
        (
            json!({"args": ["a", "b"]}),
            json!({"args": ["c"]}),
            json!({"args": ["c"]}),
        ),
        // a list of scalars merges, in the order of the patch; the others keep their places before those that they were before
        (
            json!({"set": ["a", "b"]}),
            json!({"set": ["c", "b"]}),
            json!({"set": ["c", "a", "b"]}),
        ),
        (
            json!({"set": ["a", "b"]}),
            json!({"set": ["c"]}),
            json!({"set": ["c", "a", "b"]}),
        ),
        (
            json!({"set": ["a", "b", "c"]}),
            json!({"set": ["c", "a"]}),
            json!({"set": ["b", "c", "a"]}),
        ),
        // a list of objects merges by key
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}),
            json!({"ports": [{"port": 2, "name": "b", "tags": null}, {"port": 3}]}),
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}, {"port": 3}]}),
        ),
        // … and in it, what merges there
        (
            json!({"ports": [{"port": 1, "tags": ["a", "b"]}]}),
            json!({"ports": [{"port": 1, "tags": ["c"], "$deleteFromPrimitiveList/tags": ["a"]}]}),
            json!({"ports": [{"port": 1, "tags": ["c", "b"]}]}),
        ),
        // a strategy of replace
        (
            json!({"whole": {"a": "1"}}),
            json!({"whole": {"b": "1"}}),
            json!({"whole": {"b": "1"}}),
        ),
    ] {
        assert_eq!(patched(&spec, &patch), Ok(want), "{spec} {patch}");
    }
}

#[test]
fn directives() {
    for (spec, patch, want) in [
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "replace", "b": "1"}}),
            json!({"labels": {"b": "1"}}),
        ),
        (
            json!({}),
            json!({"labels": {"$patch": "replace", "b": "1"}}),
            json!({"labels": {"b": "1"}}),
        ),
        (
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"$patch": "delete"}}),
            json!({"labels": {}}),
        ),
        (json!({}), json!({"labels": {"$patch": "delete"}}), json!({})),
        (
            json!({"ports": [{"port": 1}, {"port": 2}]}),
            json!({"ports": [{"port": 1, "$patch": "delete"}]}),
            json!({"ports": [{"port": 2}]}),
        ),
        (
            json!({}),
            json!({"ports": [{"port": 1, "$patch": "delete"}, {"port": 2}]}),
            json!({"ports": [{"port": 2}]}),
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 2}]}),
            json!({"ports": [{"port": 3}, {"$patch": "replace"}]}),
            json!({"ports": [{"port": 3}]}),
        ),
        (
            json!({"set": ["a", "b", "a"]}),
            json!({"$deleteFromPrimitiveList/set": ["a"]}),
            json!({"set": ["b"]}),
        ),
        (json!({}), json!({"$deleteFromPrimitiveList/set": ["a"]}), json!({})),
        (
            json!({"set": ["a", "b", "c", "d"]}),
            json!({"$setElementOrder/set": ["d", "a", "e"], "set": ["e"]}),
            json!({"set": ["b", "c", "d", "a", "e"]}),
        ),
        (
            json!({"set": ["a", "b"]}),
            json!({"$setElementOrder/set": ["b", "a"]}),
            json!({"set": ["b", "a"]}),
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 2}, {"port": 3}]}),
            json!({
                "$setElementOrder/ports": [{"port": 4}, {"port": 2}],
                "ports": [{"port": 4}, {"port": 2, "name": "x"}, {"port": 1, "$patch": "delete"}],
            }),
            json!({"ports": [{"port": 4}, {"port": 2, "name": "x"}, {"port": 3}]}),
        ),
        (
            json!({"strategy": {"type": "Rolling", "rolling": {"surge": 1}, "other": 1}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            json!({"strategy": {"type": "Recreate"}}),
        ),
        // nothing of a directive is left in what is new
        (
            json!({}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "x"}, "ports": [{"port": 1, "$setElementOrder/tags": ["a"], "tags": ["a"]}]}),
            json!({"strategy": {"type": "x"}, "ports": [{"port": 1, "tags": ["a"]}]}),
        ),
    ] {
        assert_eq!(patched(&spec, &patch), Ok(want), "{spec} {patch}");
    }
}

#[test]
fn refused() {
    for (spec, patch, status, text) in [
        (
            json!({"ports": []}),
            json!({"ports": [{"name": "x"}]}),
            422,
            "map: {\"name\":\"x\"} does not contain declared merge key: port",
        ),
        (
            json!({"ports": [{"port": 1}]}),
            json!({"ports": [{"$patch": "delete"}]}),
            422,
            "map: {\"$patch\":\"delete\"} does not contain declared merge key: port",
        ),
        (
            json!({"ports": [{"port": 1}]}),
            json!({"ports": [{"$patch": "merge"}]}),
            422,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"labels": {}}),
            json!({"labels": {"$patch": "frob"}}),
            422,
            "unknown patch type: frob in map: {}",
        ),
        (
            json!({"set": ["a"]}),
            json!({"set": [["a"]]}),
            422,
            "lists of lists are not supported",
        ),
        (
            json!({"set": ["a"]}),
            json!({"set": [1]}),
            422,
            "list element types are not identical",
        ),
        (json!({}), json!({"strategy": {"$retainKeys": 1}}), 0, ""),
        (
            json!({"strategy": {}}),
            json!({"strategy": {"$retainKeys": 1}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"strategy": {}}),
            json!({"strategy": {"$retainKeys": [], "type": "x"}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"set": []}),
            json!({"$deleteFromPrimitiveList/set": "a"}),
            400,
            "invalid patch format of primitive list",
        ),
        (
            json!({"set": []}),
            json!({"$setElementOrder/set": "a"}),
            400,
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"set": ["a"]}),
            json!({"$setElementOrder/set": ["a", "b"], "set": ["b", "a"]}),
            422,
            "The order in patch list:\n[\"b\",\"a\"]\n doesn't match $setElementOrder list:\n[\"a\",\"b\"]\n",
        ),
    ] {
        match patched(&spec, &patch) {
            Ok(_) => assert_eq!(status, 0, "{spec} {patch}"),
            Err(error) => assert_eq!(error, (status, text.to_owned()), "{spec} {patch}"),
        }
    }
    assert_eq!(
        strategic_merge_patch(&schema(), &mut json!({}), &json!([]))
            .unwrap_err()
            .status_code(),
        400
    );
}

proptest! {
    /// Where no list is concerned it is a merge patch.
    #[test]
    fn without_lists_it_is_a_merge_patch(target in configuration("a"), patch in configuration("b")) {
        let without_lists = |mut value: Value| {
            if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
                spec.retain(|name, _| matches!(name.as_str(), "labels" | "replicas" | "name" | "pools"));
            }
            value
        };
        let (target, patch) = (without_lists(target), without_lists(patch));
        let (mut strategic, mut merged) = (target.clone(), target);
        strategic_merge_patch(&schema(), &mut strategic, &patch).unwrap();
        crate::merge_patch(&mut merged, &patch);
        prop_assert_eq!(strategic, merged);
    }

    /// A patch applied again changes nothing, and what it says the object says.
    #[test]
    fn idempotent(target in configuration("a"), patch in configuration("a")) {
        let mut once = object(&target);
        // Two items with one merge key are two words about one item, of which the first creates it: that is another law.
        let ports: Vec<_> = patch["spec"]["ports"].as_array().into_iter().flatten().map(|port| port["port"].as_i64()).collect();
        prop_assume!(ports.iter().enumerate().all(|(i, port)| !ports[..i].contains(port)));
        strategic_merge_patch(&schema(), &mut once, &patch).unwrap();
        let mut twice = once.clone();
        strategic_merge_patch(&schema(), &mut twice, &patch).unwrap();
        prop_assert_eq!(twice, once);
    }
}
