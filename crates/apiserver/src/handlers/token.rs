//! POST `serviceaccounts/NAME/token`: TokenRequest (KEP-1205).

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use setpoint_govern::authn::{TokenError, TokenRequest};
use setpoint_meta::{
    Gvk,
    field::{FieldError, Path},
    object,
    status::Status,
};

use crate::{Answer, Response, context::Context, decode, respond};

/// Issues a token for the service account that the path names.
pub(crate) async fn create(cx: &Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(false)?;
    let (mut review, _) = decode::parse(decode::content_type(&cx.headers), body)?;
    if review.get("spec").is_some_and(|spec| !spec.is_object()) || !(review.is_object() || review.is_null()) {
        return Err(Status::bad_request("the body must be a TokenRequest").into());
    }
    if review.pointer("/spec/boundObjectRef").is_some_and(|r| !r.is_null()) {
        let path = Path::new("spec").child("boundObjectRef");
        let error = FieldError::forbidden(path, "tokens that are bound to an object are not issued here");
        return Err(Status::invalid(
            &Gvk::new("authentication.k8s.io", "v1", "TokenRequest"),
            "",
            vec![error],
        )
        .into());
    }
    cx.server
        .cache
        .fresh()
        .await
        .map_err(|e| super::list::cache_status(&e))?;
    let account = cx.cache().get(&cx.key()).ok_or_else(|| cx.not_found())?.parse();
    let seconds = review
        .pointer("/spec/expirationSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(3600);
    let audiences = review.pointer("/spec/audiences").and_then(Value::as_array);
    let request = TokenRequest {
        namespace: cx.namespace(),
        name: &cx.path.name,
        uid: object::uid(&account).unwrap_or_default(),
        audiences: audiences
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        expiration_seconds: seconds,
    };
    let now = cx.server.clock.now();
    let issued = cx
        .server
        .authentication
        .tokens
        .issue(&request, now)
        .map_err(|error| match error {
            TokenError::Key(_) => Status::internal(error),
            error => {
                let path = Path::new("spec").child("expirationSeconds");
                let errors = vec![FieldError::invalid(path, seconds, error.to_string())];
                Status::invalid(&Gvk::new("authentication.k8s.io", "v1", "TokenRequest"), "", errors)
            }
        })?;
    if !review["spec"].is_object() {
        review = json!({"spec": {}});
    }
    review["kind"] = "TokenRequest".into();
    review["apiVersion"] = "authentication.k8s.io/v1".into();
    let created = setpoint_meta::time::rfc3339(now);
    review["metadata"] = json!({"name": cx.path.name, "namespace": cx.namespace(), "creationTimestamp": created});
    review["spec"]["expirationSeconds"] = seconds.into();
    let expires = setpoint_meta::time::rfc3339(issued.expiration);
    review["status"] = json!({"token": issued.token, "expirationTimestamp": expires});
    respond::encoded(StatusCode::CREATED, negotiated, &review)
}
