//! PATCH: JSON (RFC 6902), merge (RFC 7386), strategic merge (built-in kinds) and server-side apply (KEP-555).

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use setpoint_meta::{object, status::Status};
use setpoint_patch::{ApplyError, Manager, PatchError};

use super::create::answer;
use crate::{
    Answer, Response,
    commit::{self, Ownership, Written},
    context::Context,
    decode::{self, FieldValidation},
    strategy::Target,
};

/// The media types of patches.
const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY_YAML: &str = "application/apply-patch+yaml";
const APPLY_CBOR: &str = "application/apply-patch+cbor";

/// Patches the object that the path names.
pub(crate) async fn patch(cx: &Context, target: &Target, body: &Bytes) -> Answer<Response> {
    let strategic = cx.definition().origin == setpoint_definition::Origin::Kubernetes;
    let kind = decode::content_type(&cx.headers);
    if cx.query.get("force").is_some() && kind != APPLY_YAML {
        return Err(Status::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        )
        .into());
    }
    match kind {
        APPLY_YAML => apply(cx, target, body).await,
        JSON => change(cx, target, |old| json_patch(cx, old, body)).await,
        MERGE => {
            let (patch, _) = decode::parse("application/json", body)?;
            change(cx, target, |old| {
                let mut new = old.clone();
                setpoint_patch::merge_patch(&mut new, &patch);
                Ok(new)
            })
            .await
        }
        STRATEGIC if strategic => {
            let (patch, _) = decode::parse("application/json", body)?;
            change(cx, target, |old| {
                let mut new = old.clone();
                setpoint_patch::strategic_merge_patch(&cx.version().schema, &mut new, &patch)
                    .map_err(|e| patch_status(cx, &e))?;
                Ok(new)
            })
            .await
        }
        APPLY_CBOR => Err(accepted(strategic)),
        _ => Err(accepted(strategic)),
    }
}

fn accepted(strategic: bool) -> Box<Status> {
    let all = [JSON, MERGE, APPLY_YAML, STRATEGIC];
    Status::unsupported_media_type(if strategic { &all } else { &all[..3] }).into()
}

fn json_patch(cx: &Context, old: &Value, body: &Bytes) -> Answer<Value> {
    let mut new = old.clone();
    setpoint_patch::json_patch(&mut new, body).map_err(|e| patch_status(cx, &e))?;
    Ok(new)
}

async fn change(
    cx: &Context,
    target: &Target,
    change: impl Fn(&Value) -> Answer<Value> + Send + Sync,
) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let validation = FieldValidation::of(cx)?;
    let written = commit::update(cx, target, Ownership::Track, |old| {
        let mut new = change(old)?;
        decode::check_type(&cx.served, &mut new)?;
        decode::check_name(cx, &mut new)?;
        let unknown = decode::prune(&cx.served, &mut new);
        validation.report(cx, unknown)?;
        Ok(new)
    })
    .await?;
    answer(cx, StatusCode::OK, negotiated, written)
}

/// Server-side apply; creates what does not exist.
async fn apply(cx: &Context, target: &Target, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    if cx.query.get("fieldManager").is_none() {
        return Err(Status::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        )
        .into());
    }
    let patch = applied(cx, body)?;
    let exists = commit_target_exists(cx).await?;
    if !exists {
        if *target != Target::Main {
            return Err(cx.not_found());
        }
        if object::resource_version(&patch).is_some() || object::uid(&patch).is_some() {
            return Err(Status::conflict(
                &cx.group_resource(),
                &cx.path.name,
                "the object does not exist, but the applied configuration names its uid or resourceVersion",
            )
            .into());
        }
        let merged = merge(cx, None, &patch, target)?;
        match commit::create(cx, merged, Ownership::Applied).await {
            Err(status) if status.reason == setpoint_meta::status::Reason::AlreadyExists => {}
            other => return answer(cx, StatusCode::CREATED, negotiated, other?),
        }
    }
    let written = commit::update(cx, target, Ownership::Applied, |old| {
        merge(cx, Some(old), &patch, target)
    })
    .await?;
    match written {
        Written::Object(_) | Written::Tree(_) => answer(cx, StatusCode::OK, negotiated, written),
    }
}

async fn commit_target_exists(cx: &Context) -> Answer<bool> {
    if cx.cache().get(&cx.key()).is_some() {
        return Ok(true);
    }
    cx.server
        .cache
        .fresh()
        .await
        .map_err(|e| super::list::cache_status(&e))?;
    Ok(cx.cache().get(&cx.key()).is_some())
}

/// The applied configuration, decoded and checked: what it says is what the manager will own.
fn applied(cx: &Context, body: &Bytes) -> Answer<Value> {
    let mut patch = decode::yaml_or_json(body)?;
    let given = object::api_version(&patch).to_owned();
    let expected = cx.served.api_version();
    if given != expected {
        return Err(Status::bad_request(format!(
            "the API version in the patch ({given:?}) does not match the expected API version ({expected:?})"
        ))
        .into());
    }
    decode::check_type(&cx.served, &mut patch)?;
    decode::check_name(cx, &mut patch)?;
    if patch["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil").into());
    }
    let unknown = decode::prune(&cx.served, &mut patch);
    // an apply that names an unknown field fails whatever fieldValidation says: it could not be owned
    if let Some(first) = unknown.first() {
        let message = format!(
            "failed to create typed patch object ({}/{}; {}): field not declared in schema: {first}",
            cx.namespace(),
            cx.path.name,
            cx.definition().gvk(cx.version())
        );
        return Err(Status::internal(message).into());
    }
    Ok(patch)
}

fn merge(cx: &Context, live: Option<&Value>, patch: &Value, target: &Target) -> Answer<Value> {
    let manager = cx.field_manager()?;
    let now = setpoint_meta::time::rfc3339(cx.server.clock.now());
    let api_version = cx.served.api_version();
    let manager = Manager {
        name: &manager,
        api_version: &api_version,
        subresource: &cx.path.subresource,
        now: &now,
    };
    let reset = commit::reset_fields(cx, target);
    let mut merged = setpoint_patch::apply(
        &cx.version().schema,
        live,
        patch,
        &manager,
        cx.query.flag("force"),
        &reset,
    )
    .map_err(|e| match e {
        ApplyError::Conflicts(_) => Box::new(e.status()),
        ApplyError::Invalid(why) => Box::new(Status::bad_request(why)),
    })?;
    // the version that the patch states is a precondition; what the live object carries is not
    let metadata = object::metadata_mut(&mut merged);
    match object::resource_version(patch) {
        Some(version) => drop(metadata.insert("resourceVersion".into(), version.into())),
        None => drop(metadata.remove("resourceVersion")),
    }
    Ok(merged)
}

/// A patch that cannot be applied, as the client is told.
pub(crate) fn patch_status(cx: &Context, error: &PatchError) -> Box<Status> {
    let message = error.to_string();
    match error.status_code() {
        413 => Status::request_entity_too_large(message),
        415 => Status::unsupported_media_type(&[JSON, MERGE, APPLY_YAML]),
        422 => Status {
            message,
            ..Status::invalid(&cx.definition().gvk(cx.version()), &cx.path.name, Vec::new())
        },
        _ => Status::bad_request(message),
    }
    .into()
}
