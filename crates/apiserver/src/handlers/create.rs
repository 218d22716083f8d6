//! POST to a collection.

use bytes::Bytes;
use http::StatusCode;
use setpoint_meta::{object, status::Status};

use crate::{
    Answer, Response,
    commit::{self, Ownership, Written},
    context::Context,
    decode, respond,
};

/// Creates the object in the body.
pub(crate) async fn create(cx: &Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let mut value = decode::object(cx, body)?;
    if cx.path.name.is_empty() || cx.definition().plural.as_ref() == "namespaces" {
        decode::check_namespace(cx, &mut value)?;
    }
    if object::name(&value).is_empty() && object::generate_name(&value).is_none() {
        let error = setpoint_meta::field::FieldError::required(
            setpoint_meta::field::Path::new("metadata").child("name"),
            "name or generateName is required",
        );
        return Err(Status::invalid(&cx.definition().gvk(cx.version()), "", vec![error]).into());
    }
    let written = commit::create(cx, value, Ownership::Track).await?;
    answer(cx, StatusCode::CREATED, negotiated, written)
}

/// What was written, as an answer.
pub(crate) fn answer(
    cx: &Context,
    code: StatusCode,
    negotiated: crate::negotiate::Negotiated,
    written: Written,
) -> Answer<Response> {
    match written {
        Written::Object(object) => respond::object(cx, code, negotiated, &object),
        Written::Tree(tree) => respond::tree(cx, code, negotiated, tree),
    }
}
