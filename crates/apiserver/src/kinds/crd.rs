//! CustomResourceDefinitions: defaulted, checked as a whole, and established in the write that creates them, so that the first create
//! of the new kind succeeds (the reference sleeps there). Names that another definition has taken are refused by admission, which sees
//! the catalog; here the conditions say what was decided.

use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_definition::crd;
use setpoint_meta::object;

use super::Strategy;
use crate::strategy::Target;

/// Removed by the loop that deletes a definition's objects.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(super) struct CustomResourceDefinitions;

impl Strategy for CustomResourceDefinitions {
    fn prepare_create(&self, new: &mut Value, now: Timestamp) {
        crd::defaults(new);
        let metadata = object::metadata_mut(new);
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut().filter(|l| !l.iter().any(|f| f == CLEANUP)) {
            list.push(CLEANUP.into());
        }
        new["status"] = status(new, &Value::Null, now);
    }

    fn prepare_update(&self, target: &Target, old: &Value, new: &mut Value) {
        if *target == Target::Main {
            crd::defaults(new);
            new["status"] = status(new, &old["status"], Timestamp::now());
        }
    }
}

/// Accepted names, established, and every version that was ever stored.
fn status(new: &Value, old: &Value, now: Timestamp) -> Value {
    let storage = new
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true);
    let mut stored: Vec<Value> = old["storedVersions"].as_array().cloned().unwrap_or_default();
    if let Some(name) = storage.map(|v| v["name"].clone()).filter(|n| !stored.contains(n)) {
        stored.push(name);
    }
    let since = |ty: &str| {
        let before = old["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == ty && c["status"] == "True");
        before.map_or_else(
            || setpoint_meta::time::rfc3339(now).into(),
            |c| c["lastTransitionTime"].clone(),
        )
    };
    let mut conditions = vec![
        json!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": since("NamesAccepted")}),
        json!({"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": since("Established")}),
    ];
    let ours = |c: &&Value| c["type"] != "NamesAccepted" && c["type"] != "Established";
    conditions.extend(old["conditions"].as_array().into_iter().flatten().filter(ours).cloned());
    json!({"acceptedNames": new["spec"]["names"].clone(), "conditions": conditions, "storedVersions": stored})
}
