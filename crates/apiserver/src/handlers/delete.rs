//! DELETE of an object and of a collection: preconditions, propagation policy, finalizers.
//!
//! The policy only adds or removes the `orphan` and `foregroundDeletion` finalizers; the garbage collector does the rest, by watching.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use setpoint_meta::{object, status::Status};
use setpoint_store::Key;

use super::list::{Selector, settle};
use crate::{
    Answer, Response,
    commit::{self, Written},
    context::Context,
    decode,
    options::ListOptions,
    respond,
};

/// The finalizers of the propagation policies (meta/v1).
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// The options of a delete, from the body or, as older clients do, from the query.
struct DeleteOptions {
    policy: Option<&'static str>,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    fn parse(cx: &Context, body: &Bytes) -> Answer<Self> {
        let value = if body.is_empty() {
            Value::Null
        } else {
            decode::parse(decode::content_type(&cx.headers), body)?.0
        };
        if value
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|k| k != "DeleteOptions")
        {
            return Err(Status::bad_request("the body of a DELETE must be DeleteOptions").into());
        }
        for dry in value["dryRun"].as_array().into_iter().flatten() {
            if dry != "All" {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: {dry}: supported values: \"All\""
                ))
                .into());
            }
        }
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let named = text("/propagationPolicy").or_else(|| cx.query.get("propagationPolicy").map(str::to_owned));
        let orphan = value
            .get("orphanDependents")
            .and_then(Value::as_bool)
            .or_else(|| cx.query.get("orphanDependents").map(|v| v == "true"));
        let policy = match (named.as_deref(), orphan) {
            (Some(_), Some(_)) => {
                return Err(Status::bad_request("orphanDependents and propagationPolicy cannot be both set").into());
            }
            (None, None) => None,
            (Some("Background"), None) | (None, Some(false)) => Some(""),
            (Some("Foreground"), None) => Some(FOREGROUND),
            (Some("Orphan"), None) | (None, Some(true)) => Some(ORPHAN),
            (Some(other), None) => {
                let message = format!(
                    "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
                );
                return Err(Status::bad_request(message).into());
            }
        };
        Ok(Self {
            policy,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: value["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
        })
    }

    fn check(&self, cx: &Context, old: &Value, revision: setpoint_meta::Revision) -> Answer<()> {
        let refuse = |what: &str, given: &str, actual: &str| {
            let why = format!("Precondition failed: {what} in precondition: {given}, {what} in object meta: {actual}");
            Err(Box::new(Status::conflict(&cx.group_resource(), object::name(old), why)))
        };
        if let Some(uid) = self.uid.as_deref().filter(|u| object::uid(old) != Some(u)) {
            return refuse("UID", uid, object::uid(old).unwrap_or_default());
        }
        let actual = revision.to_string();
        if let Some(version) = self.resource_version.as_deref().filter(|v| *v != actual) {
            return refuse("ResourceVersion", version, &actual);
        }
        Ok(())
    }

    fn finalizers(&self, value: &mut Value) {
        let Some(policy) = self.policy else { return };
        let metadata = object::metadata_mut(value);
        let mut list: Vec<Value> = metadata
            .get("finalizers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        list.retain(|f| f != ORPHAN && f != FOREGROUND);
        if !policy.is_empty() {
            list.push(policy.into());
        }
        if list.is_empty() {
            drop(metadata.remove("finalizers"))
        } else {
            drop(metadata.insert("finalizers".into(), list.into()))
        }
    }
}

/// Deletes the object that the path names.
pub(crate) async fn delete(cx: &mut Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let options = DeleteOptions::parse(cx, body)?;
    if options.dry_run {
        cx.query.push("dryRun", "All");
    }
    let cx = &*cx;
    let key = Key::new(cx.key());
    let written = commit::delete(
        cx,
        &key,
        |old, revision| options.check(cx, old, revision),
        |v| options.finalizers(v),
    )
    .await?;
    match written {
        // still there, terminating: the client sees what keeps it
        Written::Object(object) => respond::object(cx, StatusCode::OK, negotiated, &object),
        Written::Tree(last) => Ok(respond::value(StatusCode::OK, &success(cx, &last))),
    }
}

/// The Status of an object that is gone.
fn success(cx: &Context, last: &Value) -> Value {
    let resource = cx.group_resource();
    let mut details =
        json!({"name": object::name(last), "kind": resource.resource, "uid": object::uid(last).unwrap_or_default()});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Deletes every object of a collection that is selected, each on its own: what fails stops the rest and is reported.
pub(crate) async fn delete_collection(cx: &mut Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(false)?;
    let options = DeleteOptions::parse(cx, body)?;
    if options.dry_run {
        cx.query.push("dryRun", "All");
    }
    let cx = &*cx;
    let list = ListOptions::parse(&cx.query, false)?;
    let selector = Selector::new(cx, &list)?;
    let seen = settle(cx, list.at).await?;
    let snapshot = cx
        .cache()
        .snapshot(&cx.collection(), None, list.limit, seen, |o| selector.matches(o));
    let mut items = Vec::with_capacity(snapshot.objects.len());
    for object in snapshot.objects {
        let outcome = commit::delete(
            cx,
            &object.key,
            |old, revision| options.check(cx, old, revision),
            |v| options.finalizers(v),
        )
        .await;
        match outcome {
            Ok(_) => items.push(respond::parse(cx, &object)),
            // someone else deleted it first
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let shown = json!({
        "kind": &*cx.definition().list_kind,
        "apiVersion": cx.served.api_version(),
        "metadata": {"resourceVersion": snapshot.revision.to_string()},
        "items": items,
    });
    respond::encoded(StatusCode::OK, negotiated, &shown)
}
