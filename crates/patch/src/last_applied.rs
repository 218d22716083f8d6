//! The annotation in which `kubectl apply` without `--server-side` keeps what it applied, for the move to server-side apply.
//!
//! kubectl's client-side apply is an update by `kubectl-client-side-apply`; its server-side apply is a manager `kubectl`. A user who
//! adds `--server-side` must not be told that they are in conflict with themselves (Kubernetes, "Migrating between client-side and
//! server-side apply").

use serde_json::Value;

use crate::fieldset::FieldSet;
use crate::typed::{self, Node};

/// The manager for which all this is done.
pub(crate) const MANAGER: &str = "kubectl";

/// The annotation.
pub(crate) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Most bytes of all annotations together, as in Kubernetes (`TotalAnnotationSizeLimitB`).
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// The fields that the annotation of `live` holds and that still have the value that it holds. `None` if it has no usable one.
pub(crate) fn unchanged_fields(node: Node<'_>, live: &Value, api_version: &str) -> Option<FieldSet> {
    let text = annotation(live)?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion")?.as_str()? != api_version {
        return None;
    }
    let mut fields = typed::field_set(node, &applied).ok()?;
    let comparison = typed::compare(node, &applied, live).ok()?;
    fields.subtract(&comparison.modified);
    fields.subtract(&comparison.added);
    fields.subtract(&comparison.removed);
    Some(fields)
}

/// Writes what was applied into the annotation, where there is one; takes it away where it would be too large.
pub(crate) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = annotations_mut(&mut applied) {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = annotations_mut(object) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(format!("{applied}\n")));
    let size: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ANNOTATIONS_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(ANNOTATION)?
        .as_str()
        .filter(|text| !text.is_empty())
}

fn annotations_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}
