//! PUT of an object or a part of it.

use bytes::Bytes;
use http::StatusCode;
use setpoint_meta::{object, status::Status};

use super::create::answer;
use crate::{
    Answer, Response,
    commit::{self, Ownership},
    context::Context,
    decode, respond,
    strategy::Target,
};

/// Replaces the object that the path names.
pub(crate) async fn update(cx: &Context, target: &Target, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let mut value = decode::object(cx, body)?;
    decode::check_name(cx, &mut value)?;
    let unconditional = cx.definition().unconditional_update;
    if object::resource_version(&value).is_none_or(|v| v == "0") && !unconditional {
        let path = setpoint_meta::field::Path::new("metadata").child("resourceVersion");
        let error = setpoint_meta::field::FieldError::invalid(path, 0, "must be specified for an update");
        return Err(Status::invalid(&cx.definition().gvk(cx.version()), &cx.path.name, vec![error]).into());
    }
    let exists = || cx.cache().get(&cx.key()).is_some();
    if cx.definition().create_on_update && *target == Target::Main && !exists() {
        cx.server
            .cache
            .fresh()
            .await
            .map_err(|e| super::list::cache_status(&e))?;
        if !exists() {
            object::metadata_mut(&mut value).remove("resourceVersion");
            let written = commit::create(cx, value, Ownership::Track).await?;
            return answer(cx, StatusCode::CREATED, negotiated, written);
        }
    }
    let written = commit::update(cx, target, Ownership::Track, |_| Ok(value.clone())).await?;
    answer(cx, StatusCode::OK, negotiated, written)
}

/// PUT `/api/v1/namespaces/NAME/finalize`: only `spec.finalizers` counts; an empty list lets the namespace go.
pub(crate) async fn finalize_namespace(cx: &Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(false)?;
    let mut value = decode::object(cx, body)?;
    decode::check_name(cx, &mut value)?;
    let target = Target::Part("spec".into());
    let written = commit::update(cx, &target, Ownership::Track, |old| {
        let mut new = old.clone();
        if let Some(version) = object::resource_version(&value) {
            object::metadata_mut(&mut new).insert("resourceVersion".into(), version.into());
        }
        new["spec"]["finalizers"] = value
            .pointer("/spec/finalizers")
            .cloned()
            .unwrap_or_else(|| serde_json::json!([]));
        Ok(new)
    })
    .await?;
    match written {
        commit::Written::Object(object) => respond::object(cx, StatusCode::OK, negotiated, &object),
        commit::Written::Tree(tree) => respond::tree(cx, StatusCode::OK, negotiated, tree),
    }
}
