//! JSON merge patch (RFC 7386): objects merge, `null` removes, everything else replaces.
//!
//! *Guarantees*: total, never fails; the result nests no deeper than the deeper of target and patch; the target is changed in place, and
//! only what the patch names is touched. *Assumes*: both documents have a bounded depth (the decoder sees to it). *How to get it wrong*:
//! treating a list as anything but one value, or keeping a `null` of a patch that creates an object.

use serde_json::{Map, Value};

/// Applies `patch` to `target` in place, as RFC 7386 section 2 has it.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, change) in fields {
        match change {
            Value::Null => {
                object.remove(name);
            }
            change => match object.get_mut(name) {
                Some(current) => merge_patch(current, change),
                None => {
                    let mut created = Value::Null;
                    merge_patch(&mut created, change);
                    object.insert(name.clone(), created);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::testing::json_value;

    /// The examples of RFC 7386, appendix A.
    #[test]
    fn examples_of_the_rfc() {
        for (target, patch, want) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut got = target.clone();
            merge_patch(&mut got, &patch);
            assert_eq!(got, want, "{target} patched with {patch}");
        }
    }

    proptest! {
        /// Applying the same patch again changes nothing.
        #[test]
        fn idempotent(target in json_value(), patch in json_value()) {
            let mut once = target;
            merge_patch(&mut once, &patch);
            let mut twice = once.clone();
            merge_patch(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }

        /// The same function as the one of the `json-patch` crate, which others have tested for years.
        #[test]
        fn agrees_with_the_json_patch_crate(target in json_value(), patch in json_value()) {
            let (mut ours, mut theirs) = (target.clone(), target);
            merge_patch(&mut ours, &patch);
            json_patch::merge(&mut theirs, &patch);
            prop_assert_eq!(ours, theirs);
        }
    }
}
