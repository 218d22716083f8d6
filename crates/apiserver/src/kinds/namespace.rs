//! Namespaces: live until their content is gone. `spec.finalizers` holds `kubernetes` until then, and only `/finalize` changes it.

use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_meta::object;

use super::Strategy;
use crate::strategy::Target;

pub(super) struct Namespaces;

impl Strategy for Namespaces {
    fn prepare_create(&self, new: &mut Value, _now: Timestamp) {
        new["spec"] = json!({"finalizers": ["kubernetes"]});
        new["status"] = json!({"phase": "Active"});
        label_with_name(new);
    }

    fn prepare_update(&self, target: &Target, old: &Value, new: &mut Value) {
        if *target == Target::Main {
            new["spec"] = old.get("spec").cloned().unwrap_or_else(|| json!({}));
            label_with_name(new);
        }
    }

    fn begin_delete(&self, object: &mut Value) -> bool {
        object["status"]["phase"] = "Terminating".into();
        object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|f| !f.is_empty())
    }
}

/// `kubernetes.io/metadata.name`, which selectors of policies rely on (KEP-2161).
fn label_with_name(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if name.is_empty() {
        return;
    }
    let metadata = object::metadata_mut(namespace);
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}
