//! Borrowed readers over an object that is still JSON. None allocates; none panics; a field that is absent or of the wrong type
//! reads as absent (the schema has refused wrong types before anything is stored).

use serde_json::{Map, Value};

/// The object's `metadata`.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The object's `metadata` to write to. An object without gets an empty one; what is not an object at all becomes one: check the
/// type of what comes from users first.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    ensure_map(ensure_map(object).entry("metadata").or_insert(Value::Null))
}

fn ensure_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Made an object just above.
        _ => unreachable!("an object was put here"),
    }
}

fn meta_str<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    metadata(object)?.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn meta_map<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    metadata(object)?.get(field)?.as_object()
}

/// `apiVersion`; empty when absent.
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// `kind`; empty when absent.
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`; empty when absent.
pub fn name(object: &Value) -> &str {
    meta_str(object, "name").unwrap_or_default()
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> Option<&str> {
    meta_str(object, "generateName")
}

/// `metadata.namespace`; `None` for cluster-scoped objects.
pub fn namespace(object: &Value) -> Option<&str> {
    meta_str(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> Option<&str> {
    meta_str(object, "uid")
}

/// `metadata.resourceVersion`, as text: clients must not read more into it.
pub fn resource_version(object: &Value) -> Option<&str> {
    meta_str(object, "resourceVersion")
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    meta_str(object, "creationTimestamp")
}

/// `metadata.deletionTimestamp`: set = the object is being deleted, and cannot be brought back.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    meta_str(object, "deletionTimestamp")
}

/// `metadata.generation`; 0 when absent.
pub fn generation(object: &Value) -> i64 {
    metadata(object)
        .and_then(|m| m.get("generation"))
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// `metadata.labels`. Give `&labels(object)` to [`crate::LabelSelector::matches`].
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    meta_map(object, "labels")
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    meta_map(object, "annotations")
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    metadata(object)
        .and_then(|m| m.get(field))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// Group and version of the owner.
    pub api_version: &'a str,
    /// Kind of the owner.
    pub kind: &'a str,
    /// Name of the owner, in the dependent's namespace or cluster-scoped.
    pub name: &'a str,
    /// Uid of the owner: a later object of that name is not the owner.
    pub uid: &'a str,
    /// The one owner that manages the object.
    pub controller: bool,
    /// Foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    list(object, "ownerReferences").iter().map(|entry| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let flag = |field: &str| entry.get(field).and_then(Value::as_bool).unwrap_or_default();
        OwnerReference {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: flag("controller"),
            block_owner_deletion: flag("blockOwnerDeletion"),
        }
    })
}

/// The owner that manages the object, if any.
pub fn controller(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_read_where_it_is() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"x": "y"}, "annotations": {"k": "v"}, "finalizers": ["f", 1, "g"],
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "p", "controller": true}]}});
        assert_eq!((api_version(&object), kind(&object), name(&object)), ("v1", "Pod", "a"));
        assert_eq!(
            (namespace(&object), uid(&object), generation(&object)),
            (Some("n"), Some("u"), 3)
        );
        assert_eq!(
            (label(&object, "x"), annotation(&object, "k"), resource_version(&object)),
            (Some("y"), Some("v"), Some("7"))
        );
        assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["f", "g"]);
        let owner = controller(&object).unwrap();
        assert_eq!(
            (owner.kind, owner.uid, owner.block_owner_deletion),
            ("ReplicaSet", "p", false)
        );
    }

    #[test]
    fn odd_shapes_read_as_absent() {
        for object in [
            json!(null),
            json!([]),
            json!({"metadata": 1}),
            json!({"metadata": {"name": 1, "labels": [], "finalizers": {}}}),
        ] {
            assert_eq!((name(&object), namespace(&object), generation(&object)), ("", None, 0));
            assert_eq!(
                (labels(&object), finalizers(&object).count(), controller(&object)),
                (None, 0, None)
            );
        }
    }

    #[test]
    fn metadata_is_made_where_it_lacks() {
        let mut object = json!({"kind": "Pod"});
        metadata_mut(&mut object).insert("name".into(), "a".into());
        metadata_mut(&mut object).insert("uid".into(), "u".into());
        assert_eq!(object, json!({"kind": "Pod", "metadata": {"name": "a", "uid": "u"}}));
    }
}
