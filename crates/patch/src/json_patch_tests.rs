//! JSON patch: the RFC's examples, Kubernetes' latitude, error texts, bounds.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::json_value;

fn patched(target: Value, patch: Value) -> Result<Value, PatchError> {
    let mut target = target;
    json_patch_value(&mut target, &patch).map(|()| target)
}

/// The examples of RFC 6902, appendix A, that succeed.
#[test]
fn examples_of_the_rfc() {
    for (target, patch, want) in [
        (
            json!({"foo":"bar"}),
            json!([{"op":"add","path":"/baz","value":"qux"}]),
            json!({"foo":"bar","baz":"qux"}),
        ),
        (
            json!({"foo":["bar","baz"]}),
            json!([{"op":"add","path":"/foo/1","value":"qux"}]),
            json!({"foo":["bar","qux","baz"]}),
        ),
        (
            json!({"baz":"qux","foo":"bar"}),
            json!([{"op":"remove","path":"/baz"}]),
            json!({"foo":"bar"}),
        ),
        (
            json!({"foo":["bar","qux","baz"]}),
            json!([{"op":"remove","path":"/foo/1"}]),
            json!({"foo":["bar","baz"]}),
        ),
        (
            json!({"baz":"qux","foo":"bar"}),
            json!([{"op":"replace","path":"/baz","value":"boo"}]),
            json!({"baz":"boo","foo":"bar"}),
        ),
        (
            json!({"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}),
            json!([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]),
            json!({"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}),
        ),
        (
            json!({"foo":["all","grass","cows","eat"]}),
            json!([{"op":"move","from":"/foo/1","path":"/foo/3"}]),
            json!({"foo":["all","cows","eat","grass"]}),
        ),
        (
            json!({"baz":"qux","foo":["a",2,"c"]}),
            json!([{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]),
            json!({"baz":"qux","foo":["a",2,"c"]}),
        ),
        (
            json!({"foo":"bar"}),
            json!([{"op":"add","path":"/child","value":{"a":{}}}]),
            json!({"foo":"bar","child":{"a":{}}}),
        ),
        (
            json!({"foo":"bar"}),
            json!([{"op":"add","path":"/baz","value":"qux","xyz":123}]),
            json!({"foo":"bar","baz":"qux"}),
        ),
        (
            json!({"/":9,"~1":10}),
            json!([{"op":"test","path":"/~01","value":10}]),
            json!({"/":9,"~1":10}),
        ),
        (
            json!({"foo":["bar"]}),
            json!([{"op":"add","path":"/foo/-","value":["abc","def"]}]),
            json!({"foo":["bar",["abc","def"]]}),
        ),
    ] {
        assert_eq!(patched(target.clone(), patch.clone()), Ok(want), "{target} {patch}");
    }
}

#[test]
fn what_kubernetes_lets_through() {
    for (target, patch, want) in [
        (
            json!({}),
            json!([{"op":"replace","path":"/a","value":1}]),
            json!({"a":1}),
        ),
        (
            json!({"a":[1,2]}),
            json!([{"op":"add","path":"/a/-1","value":3}]),
            json!({"a":[1,2,3]}),
        ),
        (
            json!({"a":[1,2]}),
            json!([{"op":"remove","path":"/a/-2"}]),
            json!({"a":[2]}),
        ),
        (json!({}), json!([{"op":"test","path":"/a","value":null}]), json!({})),
        (
            json!({"a":1}),
            json!([{"op":"add","path":"/b"}]),
            json!({"a":1,"b":null}),
        ),
        (
            json!({"a":1}),
            json!([{"op":"replace","path":"","value":{"b":2}}]),
            json!({"b":2}),
        ),
        (
            json!({}),
            json!([{"op":"copy","from":"/a","path":"/b"}]),
            json!({"b":null}),
        ),
    ] {
        assert_eq!(patched(target.clone(), patch.clone()), Ok(want), "{target} {patch}");
    }
}

#[test]
fn errors_in_kubernetes_words() {
    let target = json!({"a":{"b":1},"l":[1]});
    for (operation, status, text) in [
        (
            json!({"op":"test","path":"/a/b","value":2}),
            422,
            "testing value /a/b failed: test failed",
        ),
        (
            json!({"op":"remove","path":"/a/c"}),
            422,
            "error in remove for path: '/a/c': Unable to remove nonexistent key: c: missing value",
        ),
        (
            json!({"op":"add","path":"/x/c","value":1}),
            422,
            "add operation does not apply: doc is missing path: \"/x/c\": missing value",
        ),
        (
            json!({"op":"add","path":"a/b","value":1}),
            422,
            "add operation does not apply: doc is missing path: \"a/b\": missing value",
        ),
        (
            json!({"op":"add","path":"/a/b/c","value":1}),
            422,
            "add operation does not apply: doc is missing path: \"/a/b/c\": missing value",
        ),
        (
            json!({"op":"add","value":1}),
            422,
            "add operation failed to decode path: missing value",
        ),
        (
            json!({"op":"replace","path":"/x/c","value":1}),
            422,
            "replace operation does not apply: doc is missing path: /x/c: missing value",
        ),
        (
            json!({"op":"replace","path":"/l/4","value":1}),
            422,
            "replace operation does not apply: doc is missing key: /l/4: missing value",
        ),
        (
            json!({"op":"add","path":"/l/4","value":1}),
            422,
            "error in add for path: '/l/4': Unable to access invalid index: 4: invalid index referenced",
        ),
        (
            json!({"op":"add","path":"/l/x","value":1}),
            422,
            "error in add for path: '/l/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            json!({"op":"move","from":"/x","path":"/y"}),
            422,
            "error in move for path: 'x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op":"move","from":"/a","path":"/a/b"}),
            422,
            "move operation does not apply: doc is missing destination path: /a/b: missing value",
        ),
        (
            json!({"op":"frobnicate","path":"/a"}),
            422,
            "Unexpected kind: frobnicate",
        ),
        (json!({"path":"/a"}), 422, "Unexpected kind: unknown"),
        (
            json!({"op":"replace","path":"","value":3}),
            422,
            "replace operation value must be object or array",
        ),
        (
            json!(7),
            400,
            "error decoding patch: an operation of a JSON patch is an object",
        ),
    ] {
        let error = patched(target.clone(), json!([operation])).unwrap_err();
        assert_eq!(
            (error.status_code(), error.to_string().as_str()),
            (status, text),
            "{operation}"
        );
    }
    assert_eq!(patched(target, json!({})).unwrap_err().status_code(), 400);
    assert_eq!(json_patch(&mut json!({}), b"[{").unwrap_err().status_code(), 400);
}

#[test]
fn bounded() {
    let many = |n: usize| Value::from(vec![json!({"op":"add","path":"/a","value":1}); n]);
    assert_eq!(patched(json!({}), many(MAX_OPERATIONS)), Ok(json!({"a":1})));
    let error = patched(json!({}), many(MAX_OPERATIONS + 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    assert_eq!(error.status_code(), 413);

    // Doubling: 30 copies would be 2^30 values.
    let mut double = vec![json!({"op":"add","path":"/a0","value":"x".repeat(1000)})];
    for i in 1..40 {
        double.push(json!({"op":"add","path":format!("/a{i}"),"value":{}}));
        double.push(json!({"op":"copy","from":format!("/a{}", i - 1),"path":format!("/a{i}/l")}));
        double.push(json!({"op":"copy","from":format!("/a{}", i - 1),"path":format!("/a{i}/r")}));
    }
    assert_eq!(patched(json!({}), Value::from(double)).unwrap_err().status_code(), 413);
}

/// Nesting by `add`, `copy` or `move` stops at the bound; deeper, a recursive walk could end the process.
#[test]
fn bounded_in_depth() {
    let at = |depth: usize| "/a".repeat(depth);
    let add: Vec<Value> = (1..=MAX_DEPTH + 1)
        .map(|depth| json!({"op":"add","path":at(depth),"value":{}}))
        .collect();
    assert!(patched(json!({}), Value::from(add[..MAX_DEPTH - 1].to_vec())).is_ok());
    assert_eq!(patched(json!({}), Value::from(add)).unwrap_err().status_code(), 413);

    let mut copy = vec![json!({"op":"add","path":"/a","value":{}})];
    copy.extend((1..20).map(|i| json!({"op":"copy","from":"/a","path":at(1 << i)})));
    assert!(patched(json!({}), Value::from(copy)).is_err());

    let chain = |top: &str, levels: usize| {
        (1..=levels)
            .map(|d| json!({"op":"add","path":format!("{top}{}", "/a".repeat(d - 1)),"value":{}}))
            .collect::<Vec<_>>()
    };
    let mut swap = chain("/x", 60);
    swap.extend(chain("/y", 60));
    swap.push(json!({"op":"move","from":"/y","path":format!("/x{}", "/a".repeat(60))}));
    assert_eq!(patched(json!({}), Value::from(swap)).unwrap_err().status_code(), 413);
}

proptest! {
    /// Where the RFC says that a patch applies, it means the same here as in the `json-patch` crate.
    #[test]
    fn agrees_with_the_json_patch_crate(target in json_value(), operations in prop::collection::vec(operation(), 0..5)) {
        let patch = Value::from(operations);
        let mut theirs = target.clone();
        let applied = serde_json::from_value::<json_patch::Patch>(patch.clone()).is_ok_and(|patch| json_patch::patch(&mut theirs, &patch).is_ok());
        if applied && target.is_object() {
            prop_assert_eq!(patched(target, patch), Ok(theirs));
        } else {
            let _ = patched(target, patch);
        }
    }
}

fn operation() -> impl Strategy<Value = Value> {
    let path = prop::collection::vec(prop_oneof![3 => "[a-d]", 2 => "[0-2]", 1 => Just("-".to_owned())], 1..3)
        .prop_map(|p| format!("/{}", p.join("/")));
    let kind = prop_oneof![
        Just("add"),
        Just("remove"),
        Just("replace"),
        Just("move"),
        Just("copy"),
        Just("test")
    ];
    (kind, path.clone(), path, json_value())
        .prop_map(|(op, from, path, value)| json!({"op":op,"from":from,"path":path,"value":value}))
}
