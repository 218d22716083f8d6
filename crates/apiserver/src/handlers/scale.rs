//! `/scale`: the autoscaling/v1 view of a kind that can be scaled, at the paths that its definition names.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use setpoint_definition::ScalePaths;
use setpoint_meta::{
    field::{FieldError, Path},
    object,
    status::Status,
};

use crate::{
    Answer, Response,
    commit::{self, Ownership, Written},
    context::Context,
    decode, respond,
    strategy::{self, Target},
};

/// GET, PUT or PATCH of `/scale`.
pub(crate) async fn scale(cx: &Context, body: &Bytes) -> Answer<Response> {
    let Some(paths) = cx.version().scale.clone() else {
        return Err(Status::no_such_path().into());
    };
    let negotiated = cx.negotiate(false)?;
    let shown = match cx.info.verb {
        "get" => {
            cx.server
                .cache
                .fresh()
                .await
                .map_err(|e| super::list::cache_status(&e))?;
            let object = cx.cache().get(&cx.key()).ok_or_else(|| cx.not_found())?;
            view(&paths, &respond::parse(cx, &object))
        }
        "update" | "patch" => {
            let change = Change::parse(cx, body)?;
            let written =
                commit::update(cx, &Target::Main, Ownership::Track, |old| change.apply(cx, &paths, old)).await?;
            match written {
                Written::Object(object) => view(&paths, &respond::parse(cx, &object)),
                Written::Tree(tree) => view(&paths, &tree),
            }
        }
        verb => return Err(Status::method_not_supported(&cx.group_resource(), verb).into()),
    };
    respond::encoded(StatusCode::OK, negotiated, &shown)
}

/// What a request does to the Scale.
enum Change {
    Replace(Value),
    Merge(Value),
    Json(Bytes),
}

impl Change {
    fn parse(cx: &Context, body: &Bytes) -> Answer<Self> {
        if cx.info.verb == "update" {
            let (value, _) = decode::parse(decode::content_type(&cx.headers), body)?;
            return Ok(Self::Replace(value));
        }
        match decode::content_type(&cx.headers) {
            "application/json-patch+json" => Ok(Self::Json(body.clone())),
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                Ok(Self::Merge(decode::parse("application/json", body)?.0))
            }
            "application/apply-patch+yaml" => Ok(Self::Merge(decode::yaml_or_json(body)?)),
            _ => Err(
                Status::unsupported_media_type(&["application/json-patch+json", "application/merge-patch+json"]).into(),
            ),
        }
    }

    /// The object with the replicas that the changed Scale asks for.
    fn apply(&self, cx: &Context, paths: &ScalePaths, old: &Value) -> Answer<Value> {
        let before = view(paths, old);
        let mut after = before.clone();
        match self {
            Self::Replace(value) => after = value.clone(),
            Self::Merge(patch) => setpoint_patch::merge_patch(&mut after, patch),
            Self::Json(patch) => {
                setpoint_patch::json_patch(&mut after, patch).map_err(|e| super::patch::patch_status(cx, &e))?
            }
        }
        let replicas = match after.pointer("/spec/replicas") {
            None | Some(Value::Null) => json!(0),
            Some(value) => value.clone(),
        };
        if !replicas
            .as_i64()
            .is_some_and(|n| (0..=i64::from(i32::MAX)).contains(&n))
        {
            let error = FieldError::invalid(
                Path::new("spec").child("replicas"),
                replicas,
                "should be a non-negative integer",
            );
            let kind = setpoint_meta::Gvk::new("autoscaling", "v1", "Scale");
            return Err(Status::invalid(&kind, object::name(old), vec![error]).into());
        }
        let mut new = old.clone();
        put(&mut new, &paths.spec_replicas, replicas);
        if let Some(version) = object::resource_version(&after) {
            object::metadata_mut(&mut new).insert("resourceVersion".into(), version.into());
        }
        Ok(new)
    }
}

/// The Scale of an object.
fn view(paths: &ScalePaths, value: &Value) -> Value {
    let at = |path: &[String]| path.iter().try_fold(value, |v, segment| v.get(segment)).cloned();
    let metadata = &value["metadata"];
    let kept: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), metadata.get(*key)?.clone())))
        .collect();
    let mut status = json!({"replicas": at(&paths.status_replicas).unwrap_or_else(|| json!(0))});
    if let Some(selector) = paths.label_selector.as_deref().and_then(at) {
        status["selector"] = selector;
    }
    let replicas = at(&paths.spec_replicas).unwrap_or_else(|| json!(0));
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": {"replicas": replicas}, "status": status})
}

fn put(value: &mut Value, path: &[String], field: Value) {
    match path {
        [] => {}
        [last] => strategy::set(value, last, field),
        [first, rest @ ..] => {
            if !value[first].is_object() {
                value[first] = json!({});
            }
            put(&mut value[first], rest, field);
        }
    }
}
