//! FieldsV1: the JSON form of a [`FieldSet`] in `metadata.managedFields` (KEP-555).
//!
//! A step is a key (`f:` field, `k:` key fields, `v:` value, `i:` index), what is below it is its value, and `.` says that the path that
//! ends here is itself a member where there is something below it too. *Guarantees*: [`encode`] then [`decode`] gives the same set, and
//! equal sets have equal encodings.

use serde_json::{Map, Value};

use crate::fieldset::{Entry, FieldSet};
use crate::path::{ParseElementError, PathElement};

/// Not the JSON of a set of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error decoding set: {0}")]
pub struct DecodeError(String);

/// The JSON of `set`.
#[must_use]
pub fn encode(set: &FieldSet) -> Value {
    let mut object = Map::new();
    encode_into(set, &mut object);
    Value::Object(object)
}

fn encode_into(set: &FieldSet, object: &mut Map<String, Value>) {
    for Entry { element, member, below } in &set.entries {
        let mut inner = Map::new();
        if !below.is_empty() {
            if *member {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            encode_into(below, &mut inner);
        }
        object.insert(element.encode(), Value::Object(inner));
    }
}

/// Reads the JSON of a set. Steps of a kind that is not known are skipped, as the format asks.
///
/// # Errors
/// [`DecodeError`] if it is no set of fields.
pub fn decode(json: &Value) -> Result<FieldSet, DecodeError> {
    decode_level(json).map(|(set, _)| set)
}

/// What is below, and whether the path that ends here is a member.
fn decode_level(json: &Value) -> Result<(FieldSet, bool), DecodeError> {
    let object = json
        .as_object()
        .ok_or_else(|| DecodeError(format!("expected an object, got {json}")))?;
    let mut entries = Vec::with_capacity(object.len());
    let mut member = false;
    for (key, inner) in object {
        if key == "." {
            member = true;
            continue;
        }
        let element = match PathElement::parse(key) {
            Ok(element) => element,
            Err(ParseElementError::UnknownType) => continue,
            Err(error) => return Err(DecodeError(format!("parsing key as path element: {error}"))),
        };
        let (below, member) = decode_level(inner)?;
        entries.push(Entry { element, member, below });
    }
    let set = FieldSet::from_entries(entries);
    member |= set.is_empty();
    Ok((set, member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::testing::field_set;

    #[test]
    fn forms() {
        let json = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}, "f:finalizers": {"v:\"x\"": {}}},
        });
        let set = decode(&json).unwrap();
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.finalizers[=\"x\"]"
            ]
        );
        assert_eq!(encode(&set), json);
    }

    #[test]
    fn what_is_not_known_is_skipped_and_what_is_wrong_is_refused() {
        assert_eq!(
            decode(&json!({"z:new": {"f:a": {}}, "f:b": {}})).unwrap().paths(),
            [".b"]
        );
        for bad in [
            json!([]),
            json!(null),
            json!({"f:a": 1}),
            json!({"nocolon": {}}),
            json!({"k:[": {}}),
        ] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(set in field_set()) {
            prop_assert_eq!(decode(&encode(&set)), Ok(set));
        }
    }
}
