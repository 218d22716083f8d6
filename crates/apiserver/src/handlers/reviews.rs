//! The kinds that are questions: SubjectAccessReview and its siblings, TokenReview, SelfSubjectReview. Nothing is stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use setpoint_govern::{Attributes, UserInfo, authn::Outcome, authz::PolicyRule, user::AUTHENTICATED};
use setpoint_meta::{
    field::{FieldError, Path},
    object,
    status::Status,
};

use crate::{Answer, Response, context::Context, decode, respond};

/// Answers a review with its status filled in.
pub(crate) async fn review(cx: &Context, body: &Bytes) -> Answer<Response> {
    let negotiated = cx.negotiate(false)?;
    let mut review = decode::object(cx, body)?;
    setpoint_schema::default(&cx.version().schema, &mut review);
    let errors = setpoint_schema::validate(&cx.version().schema, &review, None);
    if !errors.is_empty() {
        return Err(invalid(cx, errors));
    }
    let status = match &*cx.definition().kind {
        "SelfSubjectReview" => json!({"userInfo": user_json(&cx.user)}),
        "TokenReview" => token(cx, &review)?,
        "SelfSubjectAccessReview" => access(cx, &review["spec"], &cx.user)?,
        "SubjectAccessReview" => access(cx, &review["spec"], &subject(cx, &review["spec"])?)?,
        "LocalSubjectAccessReview" => {
            let namespace = review
                .pointer("/spec/resourceAttributes/namespace")
                .and_then(Value::as_str);
            if namespace != Some(cx.namespace()) {
                let path = Path::new("spec").child("resourceAttributes").child("namespace");
                let error = FieldError::invalid(path, namespace.unwrap_or_default(), "must match metadata.namespace");
                return Err(invalid(cx, vec![error]));
            }
            access(cx, &review["spec"], &subject(cx, &review["spec"])?)?
        }
        "SelfSubjectRulesReview" => rules(cx, &review["spec"])?,
        other => return Err(Status::internal(format_args!("no review is served for {other}")).into()),
    };
    object::metadata_mut(&mut review)
        .entry("creationTimestamp")
        .or_insert(Value::Null);
    review["status"] = status;
    respond::encoded(StatusCode::CREATED, negotiated, &review)
}

fn invalid(cx: &Context, errors: Vec<FieldError>) -> Box<Status> {
    Status::invalid(&cx.definition().gvk(cx.version()), "", errors).into()
}

fn user_json(user: &UserInfo) -> Value {
    // text and lists of text always serialize
    serde_json::to_value(user).unwrap_or_default()
}

/// The user that a SubjectAccessReview asks about.
fn subject(cx: &Context, spec: &Value) -> Answer<UserInfo> {
    let name = spec["user"].as_str().unwrap_or_default();
    let groups: Vec<String> = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let error = FieldError::invalid(
            Path::new("spec").child("user"),
            name,
            "at least one of user or group must be specified",
        );
        return Err(invalid(cx, vec![error]));
    }
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra: BTreeMap<String, Vec<String>> = extra.map(|(k, v)| (k.to_lowercase(), texts(v))).collect();
    Ok(UserInfo {
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        extra,
        ..UserInfo::new(name, groups)
    })
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn access(cx: &Context, spec: &Value, user: &UserInfo) -> Answer<Value> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let authorizer = &cx.server.authorization.authorizer;
    let decision = match (resource.is_object(), path.is_object()) {
        (true, false) => {
            let [verb, group, version, plural, sub, namespace, name] = [
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "namespace",
                "name",
            ]
            .map(|key| text(resource, key));
            let asked = Attributes {
                api_version: &version,
                ..Attributes::resource(user, &verb, &group, &plural)
            };
            authorizer.authorize(&asked.in_namespace(&namespace).named(&name).subresource(&sub))
        }
        (false, true) => authorizer.authorize(&Attributes::non_resource(
            user,
            &text(path, "verb"),
            &text(path, "path"),
        )),
        _ => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(
                cx,
                vec![FieldError::invalid(
                    Path::new("spec").child("resourceAttributes"),
                    Value::Null,
                    detail,
                )],
            ));
        }
    };
    let mut status = json!({"allowed": decision.is_allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    Ok(status)
}

fn rules(cx: &Context, spec: &Value) -> Answer<Value> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request").into());
    }
    let review = cx.server.authorization.authorizer.rules_for(&cx.user, namespace);
    let shown = |rules: &[PolicyRule]| serde_json::to_value(rules).unwrap_or_default();
    let mut status = json!({
        "resourceRules": shown(&review.resource_rules),
        "nonResourceRules": shown(&review.non_resource_rules),
        "incomplete": !review.errors.is_empty(),
    });
    if !review.errors.is_empty() {
        status["evaluationError"] = review.errors.join(", ").into();
    }
    Ok(status)
}

fn token(cx: &Context, review: &Value) -> Answer<Value> {
    let presented = review
        .pointer("/spec/token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if presented.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication").into());
    }
    let audiences = texts(&review["spec"]["audiences"]);
    Ok(
        match cx
            .server
            .authentication
            .tokens
            .review(presented, &audiences, cx.server.clock.now())
        {
            Outcome::Known(mut user) => {
                user.groups.push(AUTHENTICATED.to_owned());
                user.groups.dedup();
                json!({"authenticated": true, "user": user_json(&user), "audiences": audiences})
            }
            Outcome::Refused(why) => json!({"authenticated": false, "user": {}, "error": why}),
            Outcome::NotMine => json!({"authenticated": false, "user": {}}),
        },
    )
}
