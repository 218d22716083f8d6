//! From an object and its family to an answer. Pure.

use kube::{ResourceExt, api::DynamicObject};
use serde_json::Value;

use super::{Answer, Blocker, Family, Related, kind_of};

pub(super) fn answer(kind: &str, object: &DynamicObject, family: &Family) -> Answer {
    let named = named(kind, object);
    let place = object
        .namespace()
        .map(|n| format!("{named} in {n}"))
        .unwrap_or_else(|| named.clone());
    let data = &object.data;
    let mut children: Vec<Related> = family.children.iter().map(related).collect();
    children.sort_by_key(|c| c.healthy);
    let mut blocked_by = blockers(data);
    if blocked_by.is_empty() {
        // a child's trouble is its owner's, each reason once
        for blocker in family.children.iter().flat_map(|c| blockers(&c.data)) {
            if !blocked_by.iter().any(|b| b.reason == blocker.reason) {
                blocked_by.push(blocker);
            }
        }
    }
    let state = state(object);
    let headline = match (deleting(object), blocked_by.first()) {
        (Some(waits), _) => format!("{place} is being deleted and waits for {waits}."),
        (None, Some(first)) if !state.1 => {
            format!("{place}: {}. {}: {}", state.0, first.reason, sentence(&first.message))
        }
        _ => format!("{place}: {}.", state.0),
    };
    let owners = object
        .owner_references()
        .iter()
        .map(|o| Related {
            object: format!("{}/{}", o.kind.to_lowercase(), o.name),
            state: String::new(),
            healthy: true,
        })
        .collect();
    let healthy = state.1 && deleting(object).is_none();
    if healthy {
        blocked_by.clear();
    }
    Answer {
        object: place,
        headline,
        healthy,
        desired: desired(data),
        observed: observed(object),
        blocked_by,
        owners,
        children,
        events: Vec::new(),
    }
}

fn named(kind: &str, object: &DynamicObject) -> String {
    format!("{}/{}", kind.to_lowercase(), object.name_any())
}

fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

fn deleting(object: &DynamicObject) -> Option<String> {
    object.metadata.deletion_timestamp.as_ref()?;
    let finalizers = object.finalizers();
    Some(if finalizers.is_empty() {
        "its end".into()
    } else {
        format!("the finalizers {}", finalizers.join(", "))
    })
}

fn related(object: &DynamicObject) -> Related {
    let (state, healthy) = state(object);
    Related {
        object: named(kind_of(object), object),
        state,
        healthy: healthy && object.metadata.deletion_timestamp.is_none(),
    }
}

fn text<'a>(data: &'a Value, pointer: &str) -> Option<&'a str> {
    data.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty())
}

fn number(data: &Value, pointer: &str) -> Option<i64> {
    data.pointer(pointer).and_then(Value::as_i64)
}

/// The state in a few words, and whether it is as it should be.
fn state(object: &DynamicObject) -> (String, bool) {
    let data = &object.data;
    if object.metadata.deletion_timestamp.is_some() {
        return ("terminating".into(), false);
    }
    if let (Some(desired), Some(ready)) = (
        number(data, "/status/desiredReplicas"),
        number(data, "/status/readyReplicas"),
    ) {
        return (format!("{ready} of {desired} replicas are ready"), ready >= desired);
    }
    if let Some(desired) = number(data, "/status/desiredReplicas") {
        let why = text(data, "/status/decision/reason")
            .map(|r| format!(" ({r})"))
            .unwrap_or_default();
        return (format!("asks for {desired} replicas{why}"), true);
    }
    if let Some(worker) = text(data, "/lifecycle/state") {
        return (format!("the worker is {worker}"), worker == "Ready");
    }
    if data.pointer("/spec/deploymentRef").is_some() {
        let phase = text(data, "/status/phase").unwrap_or("Pending");
        let ready = data.pointer("/status/ready") == Some(&Value::Bool(true));
        return match text(data, "/binding/worker") {
            Some(worker) => (format!("{phase} on {worker}"), ready),
            None => (
                format!(
                    "not placed ({})",
                    text(data, "/binding/reason").unwrap_or("the scheduler has not looked yet")
                ),
                false,
            ),
        };
    }
    from_conditions(data)
}

fn from_conditions(data: &Value) -> (String, bool) {
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
    let of = |ty: &str| conditions.into_iter().flatten().find(|c| c["type"] == ty);
    for ty in ["Ready", "Available", "Established", "Resolved"] {
        if let Some(condition) = of(ty) {
            let good = condition["status"] == "True";
            let message = condition["message"]
                .as_str()
                .filter(|m| !m.is_empty())
                .map(|m| format!(": {m}"))
                .unwrap_or_default();
            return (
                format!("{ty} is {}{message}", condition["status"].as_str().unwrap_or("Unknown")),
                good,
            );
        }
    }
    match text(data, "/status/phase") {
        Some(phase) => (phase.to_owned(), !matches!(phase, "Failed" | "Terminating")),
        None => ("exists; nothing is reconciled for it".into(), true),
    }
}

/// What the object itself says keeps it back.
fn blockers(data: &Value) -> Vec<Blocker> {
    let mut found = Vec::new();
    for pending in data
        .pointer("/status/pending")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let message = format!(
            "{} replicas wait: {}",
            pending["count"],
            pending["message"].as_str().unwrap_or_default()
        );
        found.push(Blocker {
            reason: pending["reason"].as_str().unwrap_or_default().into(),
            message,
            unblock: Vec::new(),
        });
    }
    if let Some(reason) = text(data, "/binding/reason").filter(|r| *r != "Bound") {
        let unblock = data
            .pointer("/binding/counterfactuals")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let unblock = unblock
            .map(|c| {
                format!(
                    "{} → {} workers fit",
                    c["change"].as_str().unwrap_or_default(),
                    c["workers"]
                )
            })
            .collect();
        found.push(Blocker {
            reason: reason.into(),
            message: text(data, "/binding/message").unwrap_or_default().into(),
            unblock,
        });
    }
    let ready = data.pointer("/status/ready") == Some(&Value::Bool(true));
    if let Some(message) = text(data, "/status/message").filter(|_| !ready) {
        let reason = text(data, "/status/reason")
            .or(text(data, "/status/phase"))
            .unwrap_or("NotReady");
        found.push(Blocker {
            reason: reason.into(),
            message: message.into(),
            unblock: Vec::new(),
        });
    }
    if found.is_empty() {
        let conditions = data
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let bad = conditions.filter(|c| {
            (c["type"] == "Blocked" && c["status"] == "True")
                || (c["type"] != "Blocked" && c["type"] != "Limited" && c["status"] == "False")
        });
        found.extend(bad.map(|c| Blocker {
            reason: c["reason"].as_str().unwrap_or_default().into(),
            message: c["message"].as_str().unwrap_or_default().into(),
            unblock: Vec::new(),
        }));
    }
    found
}

fn desired(data: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut line = |label: &str, pointer: &str| {
        if let Some(value) = data.pointer(pointer).filter(|v| !v.is_null()) {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            out.push(format!("{label}: {shown}"));
        }
    };
    line("replicas", "/spec/replicas");
    line("at least", "/spec/autoscaling/minReplicas");
    line("at most", "/spec/autoscaling/maxReplicas");
    line("wanted now", "/status/desiredReplicas");
    line("model", "/spec/modelRef/name");
    line("regions", "/spec/placement/regions");
    line("revision", "/status/revision");
    out
}

fn observed(object: &DynamicObject) -> Vec<String> {
    let data = &object.data;
    let mut out = vec![state(object).0];
    for (label, pointer) in [
        ("exist", "/status/replicas"),
        ("updated", "/status/updatedReplicas"),
        ("terminating", "/status/terminatingReplicas"),
        ("endpoint", "/status/endpoint"),
        ("restarts", "/status/restarts"),
    ] {
        if let Some(value) = data.pointer(pointer).filter(|v| !v.is_null() && **v != 0) {
            out.push(format!(
                "{label}: {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ));
        }
    }
    if let (Some(generation), Some(seen)) = (object.metadata.generation, number(data, "/status/observedGeneration"))
        && seen < generation
    {
        out.push(format!(
            "the status is about generation {seen}; the object is at {generation}"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn deployment(status: Value) -> DynamicObject {
        object(json!({
            "apiVersion": "inference.setpoint.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "chat", "namespace": "a", "uid": "1"},
            "spec": {"replicas": 5, "placement": {"regions": ["mars-1"]}}, "status": status,
        }))
    }

    #[test]
    fn a_deployment_whose_replicas_wait_says_for_what() {
        let replica = object(json!({
            "apiVersion": "v1", "kind": "Replica", "metadata": {"name": "chat-1", "namespace": "a"}, "spec": {"deploymentRef": {"name": "chat"}},
            "binding": {"reason": "NoMatchingRegion", "message": "no worker is in region mars-1", "counterfactuals": [{"change": "drop placement.regions", "workers": 3}]},
        }));
        let family = Family {
            children: vec![replica],
            events: Vec::new(),
        };
        let answer = answer(
            "ModelDeployment",
            &deployment(json!({"desiredReplicas": 5, "readyReplicas": 0})),
            &family,
        );
        expect![[r#"
            modeldeployment/chat in a: 0 of 5 replicas are ready. NoMatchingRegion: no worker is in region mars-1.
            unblock: drop placement.regions → 3 workers fit
            child: replica/chat-1: not placed (NoMatchingRegion)"#]]
        .assert_eq(&format!(
            "{}\nunblock: {}\nchild: {}: {}",
            answer.headline, answer.blocked_by[0].unblock[0], answer.children[0].object, answer.children[0].state
        ));
        assert!(!answer.healthy);
    }

    #[test]
    fn a_healthy_deployment_is_not_blocked() {
        let answer = answer(
            "ModelDeployment",
            &deployment(json!({"desiredReplicas": 5, "readyReplicas": 5})),
            &Family::default(),
        );
        assert_eq!(answer.headline, "modeldeployment/chat in a: 5 of 5 replicas are ready.");
        assert!(answer.healthy && answer.blocked_by.is_empty());
    }

    #[test]
    fn a_terminating_object_names_its_finalizers() {
        let object = object(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]},
        }));
        assert_eq!(
            answer("Namespace", &object, &Family::default()).headline,
            "namespace/a is being deleted and waits for the finalizers x/y."
        );
    }
}
