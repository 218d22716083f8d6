//! [`Object`]: an encoded object and the little of it that selectors need.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use setpoint_store::{Key, Revision, Versioned};

/// Where `metadata` begins in canonical JSON. apiVersion and kind come before it and cannot contain a quote, so the first match is it.
const METADATA: &[u8] = b"\"metadata\":{";

/// An object as stored: its bytes carry no resourceVersion, since that is the revision of the commit which wrote them; it is spliced in
/// when the object is written out. So the bytes are encoded once and shared by the store, this cache and every answer.
#[derive(Debug)]
pub struct Object {
    /// The store key.
    pub key: Key,
    /// The revision that last modified it.
    pub revision: Revision,
    /// `metadata.labels`, in order of the keys.
    pub labels: Vec<(Box<str>, Box<str>)>,
    bytes: Bytes,
    /// Offset just behind `"metadata":{`.
    splice: u32,
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
struct HeadMetadata {
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
}

impl Object {
    /// Reads what selectors need. Errors when the bytes are not a canonical object, which only a damaged store or a foreign writer
    /// can cause; the text says what is wrong.
    pub fn new(key: Key, versioned: &Versioned) -> Result<Self, String> {
        let bytes = versioned.value.clone();
        let at =
            memchr::memmem::find(&bytes, METADATA).ok_or_else(|| format!("{key}: no metadata in the stored object"))?;
        let splice = u32::try_from(at + METADATA.len()).map_err(|_| format!("{key}: stored object over 4 GiB"))?;
        let head: Head = serde_json::from_slice(&bytes).map_err(|e| format!("{key}: {e}"))?;
        let labels = head.metadata.labels.unwrap_or_default().into_iter().collect();
        Ok(Self {
            key,
            revision: versioned.modified,
            labels,
            bytes,
            splice,
        })
    }

    /// The same object as a deletion at `revision` shows it: its last state, at the resourceVersion of the deletion.
    pub fn at(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            labels: self.labels.clone(),
            bytes: self.bytes.clone(),
            splice: self.splice,
        }
    }

    /// `metadata.name`: the last segment of the key.
    pub fn name(&self) -> &str {
        self.key.as_str().rsplit('/').next().unwrap_or_default()
    }

    /// `metadata.namespace` (empty for cluster-scoped kinds).
    pub fn namespace(&self) -> &str {
        let mut segments = self.key.as_str().splitn(6, '/').skip(4);
        match (segments.next(), segments.next()) {
            (Some(namespace), Some(_)) => namespace,
            _ => "",
        }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .binary_search_by(|(k, _)| (**k).cmp(key))
            .ok()
            .map(|i| &*self.labels[i].1)
    }

    /// The stored bytes, without resourceVersion.
    pub fn stored(&self) -> &Bytes {
        &self.bytes
    }

    /// How long [`Object::write_json`]'s output is, at most.
    pub fn json_len(&self) -> usize {
        // `"resourceVersion":"…",` with at most 20 digits
        self.bytes.len() + 42
    }

    /// Appends the object's JSON with its resourceVersion.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let at = self.splice as usize;
        out.extend_from_slice(&self.bytes[..at]);
        self.write_from_metadata(out);
    }

    /// Appends the object's JSON under another apiVersion: what conversion strategy `None` does.
    pub fn write_json_as(&self, api_version: &str, out: &mut Vec<u8>) {
        let at = self.splice as usize;
        let kind = memchr::memmem::find(&self.bytes[..at], b"\"kind\":").unwrap_or(at);
        out.extend_from_slice(b"{\"apiVersion\":\"");
        out.extend_from_slice(api_version.as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(&self.bytes[kind..at]);
        self.write_from_metadata(out);
    }

    fn write_from_metadata(&self, out: &mut Vec<u8>) {
        let at = self.splice as usize;
        out.extend_from_slice(b"\"resourceVersion\":\"");
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(self.revision.get()).as_bytes());
        out.extend_from_slice(if self.bytes[at..].first() == Some(&b'}') {
            b"\""
        } else {
            b"\","
        });
        out.extend_from_slice(&self.bytes[at..]);
    }

    /// The object as a tree, with its resourceVersion.
    pub fn parse(&self) -> Value {
        // `new` has parsed these bytes as JSON with an object `metadata`
        let mut value: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str, key: &str) -> Object {
        let revision = Revision::new(7);
        Object::new(
            Key::new(key),
            &Versioned {
                value: Bytes::copy_from_slice(json.as_bytes()),
                created: revision,
                modified: revision,
            },
        )
        .unwrap()
    }

    #[test]
    fn writing_splices_the_resource_version_and_parses_back() {
        for metadata in [r#"{"name":"a","labels":{"x":"1","b":"2"}}"#, "{}"] {
            let o = object(
                &format!(r#"{{"apiVersion":"v1","kind":"K","metadata":{metadata},"data":{{"metadata":{{"a":1}}}}}}"#),
                "/registry/core/ks/ns/a",
            );
            let mut out = Vec::new();
            o.write_json(&mut out);
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), o.parse());
            assert_eq!(o.parse()["metadata"]["resourceVersion"], "7");
            assert!(out.len() <= o.json_len());
        }
    }

    #[test]
    fn names_come_from_the_key() {
        let json = r#"{"metadata":{"labels":{"x":"1","b":"2"}}}"#;
        let namespaced = object(json, "/registry/core/ks/ns/a");
        assert_eq!((namespaced.namespace(), namespaced.name()), ("ns", "a"));
        let cluster = object(json, "/registry/core/ks/a");
        assert_eq!((cluster.namespace(), cluster.name()), ("", "a"));
        assert_eq!((cluster.label("b"), cluster.label("c")), (Some("2"), None));
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let revision = Revision::new(1);
        for bytes in [&b"{"[..], b"{}", b"\"metadata\":{", b"{\"metadata\":{\"labels\":3}}"] {
            let value = Versioned {
                value: Bytes::from_static(bytes),
                created: revision,
                modified: revision,
            };
            assert!(Object::new(Key::new("/registry/a/b/c"), &value).is_err());
        }
    }
}
