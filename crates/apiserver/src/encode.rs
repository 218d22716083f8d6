//! The canonical encoding of a stored object, and its pieces written out in a request's version.

use bytes::Bytes;
use serde_json::{Map, Value};

/// Encodes an object for the store: `apiVersion`, `kind`, `metadata` first (the watch cache relies on it), no resourceVersion, no
/// empty `status`-like nulls at the root.
pub(crate) fn stored(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["apiVersion", "kind", "metadata"] {
        if out.len() > 1 {
            out.push(b',');
        }
        string(&mut out, key);
        out.push(b':');
        match (key, object.get(key)) {
            ("metadata", Some(Value::Object(metadata))) => without_version(&mut out, metadata),
            (_, Some(value)) => json(&mut out, value),
            (_, None) => out.extend_from_slice(if key == "metadata" { b"{}" } else { b"\"\"" }),
        }
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        if matches!(&**key, "apiVersion" | "kind" | "metadata") || value.is_null() {
            continue;
        }
        out.push(b',');
        string(&mut out, key);
        out.push(b':');
        json(&mut out, value);
    }
    out.push(b'}');
    out.into()
}

fn without_version(out: &mut Vec<u8>, metadata: &Map<String, Value>) {
    out.push(b'{');
    let mut first = true;
    for (key, value) in metadata {
        if key == "resourceVersion" || value.is_null() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        string(out, key);
        out.push(b':');
        json(out, value);
    }
    out.push(b'}');
}

/// Appends a value as JSON.
pub(crate) fn json(out: &mut Vec<u8>, value: &Value) {
    // writing a tree of maps with string keys to memory cannot fail
    let _ = serde_json::to_writer(out, value);
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stored_form_begins_with_the_type_and_metadata_and_has_no_version() {
        let object = json!({"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "5"}, "kind": "ConfigMap", "apiVersion": "v1", "status": null});
        let text = String::from_utf8(stored(&object).to_vec()).unwrap();
        assert_eq!(
            text,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}"#
        );
    }
}
