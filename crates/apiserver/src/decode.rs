//! Request bodies: bytes to an object of the kind that the path names.
//!
//! Unknown and duplicate fields are found here (KEP-2885): `fieldValidation` says whether they are refused, warned about or dropped.

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use setpoint_meta::{object, status::Status};
use setpoint_schema::strict;

use crate::{Answer, catalog::Served, context::Context};

/// Kubernetes' limit on a request body, which is also etcd's on a value with room for the rest.
pub(crate) const BODY_LIMIT: usize = 3 << 20;

/// Kubernetes' own protobuf: what typed clients (kubectl create among them) send for built-in kinds.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What is done about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

impl FieldValidation {
    pub(crate) fn of(cx: &Context) -> Answer<Self> {
        Ok(match cx.query.get("fieldValidation") {
            None | Some("Warn") => Self::Warn,
            Some("Strict") => Self::Strict,
            Some("Ignore") => Self::Ignore,
            Some(other) => {
                let message = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(Status::bad_request(message).into());
            }
        })
    }

    /// Refuses, warns or keeps silent about problems found in decoding.
    pub(crate) fn report(self, cx: &Context, problems: Vec<String>) -> Answer<()> {
        if problems.is_empty() || self == Self::Ignore {
            return Ok(());
        }
        if self == Self::Warn {
            problems.into_iter().for_each(|p| cx.notes.warn(p));
            return Ok(());
        }
        let kind = &cx.definition().kind;
        let version = &cx.version().name;
        let message = format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            problems.join(", ")
        );
        Err(Status::bad_request(message).into())
    }
}

/// The media type of the body, without parameters; JSON where none is named.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("application/json");
    value.split(';').next().unwrap_or_default().trim()
}

/// Parses JSON or YAML, as the content type says; duplicate fields are reported beside the value.
pub(crate) fn parse(content_type: &str, body: &Bytes) -> Answer<(Value, Vec<String>)> {
    match content_type {
        "application/json" | "" => json(body),
        PROTOBUF => setpoint_protobuf::decode(body)
            .map(|value| (value, Vec::new()))
            .map_err(|e| Status::bad_request(format!("the request body is not valid protobuf: {e}")).into()),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(body).map(|value| (value, Vec::new())),
        _ => Err(Status::unsupported_media_type(crate::negotiate::ACCEPTED).into()),
    }
}

fn json(body: &Bytes) -> Answer<(Value, Vec<String>)> {
    let (value, duplicates) = strict::decode_json(body)
        .map_err(|e| Status::bad_request(format!("the request body is not valid JSON: {e}")))?;
    Ok((value, duplicates.into_iter().map(|d| d.to_string()).collect()))
}

/// YAML with bounded aliases, depth and size; only what JSON can express.
pub(crate) fn yaml(body: &Bytes) -> Answer<Value> {
    let text = std::str::from_utf8(body).map_err(|_| Status::bad_request("the request body is not valid UTF-8"))?;
    serde_saphyr::from_str(text).map_err(|e| {
        Status::bad_request(format!(
            "the request body is not valid YAML: {}",
            e.to_string().lines().next().unwrap_or_default()
        ))
        .into()
    })
}

/// The object of a create or update: of the kind and version of the path, pruned of unknown fields, in the shape of the schema.
pub(crate) fn object(cx: &Context, body: &Bytes) -> Answer<Value> {
    let validation = FieldValidation::of(cx)?;
    if content_type(&cx.headers) == PROTOBUF && cx.definition().origin != setpoint_definition::Origin::Kubernetes {
        // a custom resource has no protobuf form
        return Err(Status::unsupported_media_type(crate::negotiate::ACCEPTED).into());
    }
    let (mut object, mut problems) = parse(content_type(&cx.headers), body)?;
    check_type(&cx.served, &mut object)?;
    problems.extend(prune(&cx.served, &mut object));
    validation.report(cx, problems)?;
    Ok(object)
}

/// Fills in a missing apiVersion and kind, and refuses others than the path's.
pub(crate) fn check_type(served: &Served, value: &mut Value) -> Answer<()> {
    let Some(map) = value.as_object_mut() else {
        return Err(Status::bad_request("the body of the request must be an object").into());
    };
    let (kind, api_version) = (&*served.definition.kind, served.api_version());
    for (key, expected) in [("apiVersion", &*api_version), ("kind", kind)] {
        match map.get(key) {
            Some(Value::String(given)) if given == expected => {}
            None | Some(Value::Null) => drop(map.insert(key.into(), expected.into())),
            Some(Value::String(given)) if key == "apiVersion" => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({given}) does not match the expected API version ({expected})"
                ))
                .into());
            }
            Some(given) => {
                let given = given.as_str().unwrap_or_default();
                return Err(Status::bad_request(format!(
                    "{given} in version {:?} cannot be handled as a {kind}: the kind in the data must be {kind}",
                    &*served.version().name
                ))
                .into());
            }
        }
    }
    match map.get("metadata") {
        Some(Value::Object(_)) => Ok(()),
        None | Some(Value::Null) => {
            map.insert("metadata".into(), Value::Object(serde_json::Map::new()));
            Ok(())
        }
        Some(_) => Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: metadata must be an object",
            &*served.version().name
        ))
        .into()),
    }
}

/// Removes what the schema does not know and says what that was; drops nulls that stand for "absent".
pub(crate) fn prune(served: &Served, value: &mut Value) -> Vec<String> {
    let schema = &served.version().schema;
    setpoint_schema::prune(schema, value, &setpoint_schema::PruneOptions::default())
        .into_iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect()
}

/// Whether the object names the thing that the path names.
pub(crate) fn check_name(cx: &Context, value: &mut Value) -> Answer<()> {
    let wanted = cx.path.name.clone();
    let given = object::name(value).to_owned();
    if given.is_empty() {
        object::metadata_mut(value).insert("name".into(), wanted.into());
    } else if given != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        ))
        .into());
    }
    check_namespace(cx, value)
}

/// Whether the object is in the namespace that the path names.
pub(crate) fn check_namespace(cx: &Context, value: &mut Value) -> Answer<()> {
    let wanted = cx.namespace().to_owned();
    let given = object::namespace(value).unwrap_or_default().to_owned();
    let metadata = object::metadata_mut(value);
    if wanted.is_empty() {
        // a cluster-scoped object has no namespace, whatever the client put there
        metadata.remove("namespace");
    } else if given.is_empty() {
        metadata.insert("namespace".into(), wanted.into());
    } else if given != wanted {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )
        .into());
    }
    Ok(())
}

/// An apply configuration: YAML, of which JSON is a part; JSON is tried first since it is far cheaper to parse.
pub(crate) fn yaml_or_json(body: &Bytes) -> Answer<Value> {
    if body.first() == Some(&b'{')
        && let Ok((value, _)) = json(body)
    {
        return Ok(value);
    }
    yaml(body)
}
