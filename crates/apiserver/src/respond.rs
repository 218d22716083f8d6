//! Answers: an object, a list, a Status, in the form and encoding that were agreed on.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use setpoint_cache::Object;
use setpoint_definition::table;
use setpoint_meta::{Revision, status::Status};

use crate::{
    Answer, Response, ResponseBody,
    catalog::Served,
    context::Context,
    encode,
    negotiate::{Encoding, Form, Negotiated},
};

/// Objects of a list below this many bytes are answered in one piece; above, in chunks of about this size, so that no list is ever
/// copied as a whole.
const CHUNK: usize = 128 << 10;

/// A response with a body of this type.
pub(crate) fn with_type(code: StatusCode, content_type: &'static str, body: impl Into<ResponseBody>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON value as it is.
pub(crate) fn value(code: StatusCode, value: &Value) -> Response {
    let mut out = Vec::with_capacity(256);
    encode::json(&mut out, value);
    with_type(code, "application/json", out)
}

/// A Status, with `Retry-After` where it says so.
pub(crate) fn status(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, &status.to_json());
    if let Some(seconds) = status.retry_after_seconds() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A tree in the encoding that was agreed on.
pub(crate) fn encoded(code: StatusCode, negotiated: Negotiated, value: &Value) -> Answer<Response> {
    let body = match negotiated.encoding {
        Encoding::Json => {
            let mut out = Vec::with_capacity(1024);
            encode::json(&mut out, value);
            out
        }
        Encoding::PrettyJson => {
            let mut out = serde_json::to_vec_pretty(value).unwrap_or_default();
            out.push(b'\n');
            out
        }
        Encoding::Yaml => serde_saphyr::to_string(value)
            .map_err(|e| Status::internal(format_args!("the answer cannot be written as YAML: {e}")))?
            .into_bytes(),
    };
    Ok(with_type(code, negotiated.content_type(), body))
}

/// One object.
pub(crate) fn object(cx: &Context, code: StatusCode, negotiated: Negotiated, object: &Object) -> Answer<Response> {
    if negotiated
        == (Negotiated {
            form: Form::Object,
            encoding: Encoding::Json,
        })
    {
        let mut out = Vec::with_capacity(object.json_len());
        write(cx, object, &mut out);
        return Ok(with_type(code, "application/json", out));
    }
    tree(cx, code, negotiated, parse(cx, object))
}

/// One object as a tree.
pub(crate) fn tree(cx: &Context, code: StatusCode, negotiated: Negotiated, object: Value) -> Answer<Response> {
    let shown = match negotiated.form {
        Form::Object => object,
        Form::Metadata => table::partial_object_metadata(&object),
        Form::Table => {
            let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
            let mut shown = render(cx, std::iter::once(&object));
            shown["metadata"] = json!({"resourceVersion": version});
            shown
        }
    };
    encoded(code, negotiated, &shown)
}

/// What a list says about itself.
pub(crate) struct ListMeta {
    pub(crate) revision: Revision,
    pub(crate) go_on: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl ListMeta {
    fn to_json(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(go_on) = &self.go_on {
            meta["continue"] = go_on.clone().into();
        }
        if let Some(remaining) = self.remaining.filter(|n| *n > 0) {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// A list.
pub(crate) fn list(
    cx: &Context,
    negotiated: Negotiated,
    meta: &ListMeta,
    objects: Vec<Arc<Object>>,
) -> Answer<Response> {
    if negotiated
        == (Negotiated {
            form: Form::Object,
            encoding: Encoding::Json,
        })
    {
        return Ok(stream_list(cx, meta, objects));
    }
    let trees: Vec<Value> = objects.iter().map(|o| parse(cx, o)).collect();
    let shown = match negotiated.form {
        Form::Object => {
            json!({"kind": &*cx.definition().list_kind, "apiVersion": cx.served.api_version(), "metadata": meta.to_json(), "items": trees})
        }
        Form::Metadata => {
            let items: Vec<Value> = trees.iter().map(table::partial_object_metadata).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta.to_json(), "items": items})
        }
        Form::Table => {
            let mut shown = render(cx, trees.iter());
            shown["metadata"] = meta.to_json();
            shown
        }
    };
    encoded(StatusCode::OK, negotiated, &shown)
}

/// A Table of these objects, as `includeObject` asks.
pub(crate) fn render<'a>(cx: &Context, objects: impl Iterator<Item = &'a Value>) -> Value {
    let include = match cx.query.get("includeObject") {
        Some("None") => table::IncludeObject::None,
        Some("Object") => table::IncludeObject::Object,
        _ => table::IncludeObject::Metadata,
    };
    let options = table::Options {
        include_object: include,
        now: jiff::Timestamp::now(),
        no_headers: false,
    };
    table::render(cx.definition(), cx.version(), objects, &options)
}

fn stream_list(cx: &Context, meta: &ListMeta, objects: Vec<Arc<Object>>) -> Response {
    let mut head = Vec::with_capacity(CHUNK.min(objects.iter().take(64).map(|o| o.json_len()).sum::<usize>() + 256));
    head.extend_from_slice(b"{\"kind\":");
    encode::string(&mut head, &cx.definition().list_kind);
    head.extend_from_slice(b",\"apiVersion\":");
    let api_version = cx.served.api_version();
    encode::string(&mut head, &api_version);
    head.extend_from_slice(b",\"metadata\":");
    encode::json(&mut head, &meta.to_json());
    head.extend_from_slice(b",\"items\":[");
    let mut pages = ListPages {
        objects: objects.into_iter(),
        out: head,
        served: cx.served.clone(),
        first: true,
        done: false,
    };
    let first = pages.next().unwrap_or_default();
    if pages.done {
        return with_type(StatusCode::OK, "application/json", first);
    }
    let stream = futures::stream::once(std::future::ready(first)).chain(futures::stream::iter(pages));
    with_type(StatusCode::OK, "application/json", ResponseBody::Stream(stream.boxed()))
}

use futures::StreamExt as _;

/// Writes a list piece by piece; holds references to the objects, never a second copy of them.
struct ListPages {
    objects: std::vec::IntoIter<Arc<Object>>,
    out: Vec<u8>,
    served: Served,
    first: bool,
    done: bool,
}

impl Iterator for ListPages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        while self.out.len() < CHUNK {
            let Some(object) = self.objects.next() else {
                self.out.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                self.out.push(b',');
            }
            write_as(&self.served, &object, &mut self.out);
        }
        Some(std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + (CHUNK >> 2))).into())
    }
}

/// Appends an object in the version of the request.
pub(crate) fn write(cx: &Context, object: &Object, out: &mut Vec<u8>) {
    write_as(&cx.served, object, out);
}

fn write_as(served: &Served, object: &Object, out: &mut Vec<u8>) {
    match (served.converts(), served.definition.view) {
        (false, _) => object.write_json(out),
        (true, None) => object.write_json_as(&served.api_version(), out),
        (true, Some(_)) => {
            let mut tree = object.parse();
            served.show(&mut tree);
            encode::json(out, &tree);
        }
    }
}

/// An object as a tree in the version of the request.
pub(crate) fn parse(cx: &Context, object: &Object) -> Value {
    let mut tree = object.parse();
    if cx.served.converts() {
        cx.served.show(&mut tree);
    }
    tree
}
