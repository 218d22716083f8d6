//! [`Status`]: the one shape of every error that leaves the API server (`meta/v1` Status). Codes, reasons and texts are those of
//! Kubernetes' `api/errors`; clients switch on `reason`, and people search the web for `message`.
//!
//! How to get it wrong: making a Status by hand where a constructor exists. The constructors set `details` too, which client
//! libraries read (`kubectl` prints `details.causes`).

use crate::{
    field::{self, FieldError},
    gvk::{GroupKind, GroupResource},
    quote::quoted,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt::Display;

macro_rules! reasons {
    ($($name:ident $doc:literal),+ $(,)?) => {
        /// Why a request failed, machine-readable. The text is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            /// No reason known; the empty text.
            Unknown,
            $(#[doc = $doc] $name),+
        }

        impl Reason {
            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { Self::Unknown => "", $(Self::$name => stringify!($name)),+ }
            }

            /// The reason with this text, `Unknown` when there is none.
            pub fn parse(text: &str) -> Self {
                match text { $(stringify!($name) => Self::$name,)+ _ => Self::Unknown }
            }
        }
    };
}

reasons! {
    Unauthorized "401: who are you?",
    Forbidden "403: you may not.",
    NotFound "404: no such object or path.",
    AlreadyExists "409: the name is taken.",
    Conflict "409: the object is not at the version that you think.",
    Gone "410: no longer there, and no forwarding address.",
    Invalid "422: the object breaks rules, which the causes name.",
    ServerTimeout "500: could not be completed now; may be retried.",
    StorageReadError "500: the store has something that cannot be read.",
    Timeout "504: took too long; may or may not have happened.",
    TooManyRequests "429: later, please.",
    BadRequest "400: not understood.",
    MethodNotAllowed "405: not on this resource.",
    NotAcceptable "406: none of the response types that you take.",
    RequestEntityTooLarge "413: too long a body.",
    UnsupportedMediaType "415: not in a format that is read here.",
    InternalError "500: a bug or a broken dependency.",
    Expired "410: that version is compacted; list again.",
    ServiceUnavailable "503: not ready.",
}

/// One of several causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Machine-readable, as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Where, as `spec.replicas`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its *resource* in most errors (as Kubernetes does), its kind in `Invalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Retry after so many seconds; 0 = nothing said. Also goes into the `Retry-After` header.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A failed request. See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What it is about. Boxed, since a `Status` is the error arm of most functions of the API server.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where a list whose revision is compacted can go on at the current one.
    pub go_on: Option<Box<str>>,
}

fn about(resource: &GroupResource, name: &str) -> Details {
    Details {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..Details::default()
    }
}

impl Status {
    /// Of these parts, without details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            go_on: None,
        }
    }

    /// The same with these details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn on(code: u16, reason: Reason, resource: &GroupResource, name: &str, message: String) -> Self {
        Self::new(code, reason, message).with_details(about(resource, name))
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::on(
            404,
            Reason::NotFound,
            resource,
            name,
            format!("{resource} {} not found", quoted(name)),
        )
    }

    /// 404 for a path that names nothing that is served here.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        )
        .with_details(Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::on(
            409,
            Reason::AlreadyExists,
            resource,
            name,
            format!("{resource} {} already exists", quoted(name)),
        )
    }

    /// 409: every name that was generated was taken; may be retried after some seconds.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str, retry_after_s: u32) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quoted(name)
        );
        Self::on(409, Reason::AlreadyExists, resource, name, message).retry_after(retry_after_s)
    }

    /// 409: the write's precondition does not hold.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quoted(name));
        Self::on(409, Reason::Conflict, resource, name, message)
    }

    /// 409 in Kubernetes' words for a resourceVersion that is not the object's.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409 of server-side apply; one cause for each field that another manager owns.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::new(409, Reason::Conflict, message).with_details(Details {
            causes,
            ..Details::default()
        })
    }

    /// 422 with one cause for each error. `kind` is a [`GroupKind`] or a `&Gvk`.
    pub fn invalid(kind: impl Into<GroupKind>, name: &str, errors: Vec<FieldError>) -> Self {
        let kind = kind.into();
        let mut message = format!("{kind} {} is invalid", quoted(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&field::aggregate(&errors));
        }
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.kind.as_str().to_owned(),
                message: e.body(),
                field: e.path.to_string(),
            })
            .collect();
        let details = Details {
            name: name.to_owned(),
            group: kind.group,
            kind: kind.kind,
            causes,
            ..Details::default()
        };
        Self::new(422, Reason::Invalid, message).with_details(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403. An empty resource is a path that is no resource; an empty name, a whole collection.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = if resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quoted(name))
        };
        Self::on(403, Reason::Forbidden, resource, name, message)
    }

    /// 405. `action` is the verb, as `update`.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quoted(&resource.to_string())
        );
        Self::on(405, Reason::MethodNotAllowed, resource, "", message)
    }

    /// 405 where there is no resource to name.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, Reason::MethodNotAllowed, message).with_details(Details::default())
    }

    /// 406. `accepted`: the media types that could be sent.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 415. `accepted`: the media types that could be read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 413.
    pub fn request_entity_too_large(message: impl Display) -> Self {
        Self::new(
            413,
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: {message}"),
        )
    }

    /// 410 Expired: that revision is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 410 Gone.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    /// 504: `Timeout: …`. Retry after so many seconds; 0 = nothing said.
    pub fn timeout(message: impl Display, retry_after_s: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(retry_after_s)
    }

    /// 504 for a read at a revision that the store has not reached; clients know it by its cause and retry.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let mut status = Self::timeout(
            format_args!("Too large resource version: {asked}, current: {current}"),
            1,
        );
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        status.details.get_or_insert_default().causes.push(cause);
        status
    }

    /// 429. Retry after so many seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry_after(retry_after_s)
    }

    /// 500 ServerTimeout: an operation that may be tried again.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_s: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::on(500, Reason::ServerTimeout, resource, operation, message).retry_after(retry_after_s)
    }

    /// 500: a bug or a broken dependency.
    pub fn internal(message: impl Display) -> Self {
        let cause = Cause {
            message: message.to_string(),
            ..Cause::default()
        };
        let details = Details {
            causes: vec![cause],
            ..Details::default()
        };
        Self::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        )
        .with_details(details)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// The same, saying after how many seconds to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Seconds after which to try again, where something is said.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// The object on the wire: `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",…}`.
    pub fn to_json(&self) -> Value {
        let mut out =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": self.code});
        if let Some(token) = &self.go_on {
            out["metadata"]["continue"] = (**token).into();
        }
        if let Value::Object(map) = &mut out {
            self.put(map);
        }
        out
    }

    fn put(&self, map: &mut Map<String, Value>) {
        if !self.message.is_empty() {
            map.insert("message".to_owned(), self.message.clone().into());
        }
        if self.reason != Reason::Unknown {
            map.insert("reason".to_owned(), self.reason.as_str().into());
        }
        // Details are strings and a number: they always serialize.
        if let Some(details) = self.details.as_ref().and_then(|d| serde_json::to_value(d).ok()) {
            map.insert("details".to_owned(), details);
        }
    }

    /// Reads a Status from the wire; `None` when the value is not one, or says success.
    pub fn from_json(value: &Value) -> Option<Self> {
        if value.get("kind")?.as_str()? != "Status" || value.get("status").and_then(Value::as_str) == Some("Success") {
            return None;
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            code: value
                .get("code")
                .and_then(Value::as_u64)
                .and_then(|c| u16::try_from(c).ok())
                .unwrap_or(500),
            reason: Reason::parse(text("reason")),
            message: text("message").to_owned(),
            go_on: value
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .map(Box::from),
            details: value
                .get("details")
                .and_then(|d| Details::deserialize(d).ok())
                .map(Box::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    #[test]
    fn messages_are_kubernetes_messages() {
        let apps = GroupResource::new("apps", "deployments");
        let kind = GroupKind::new("apps", "Deployment");
        let all = [
            Status::not_found(&apps, "x\n"),
            Status::already_exists(&pods(), "x"),
            Status::generate_name_conflict(&pods(), "x", 1),
            Status::modified(&pods(), "x"),
            Status::invalid(
                &kind,
                "x",
                vec![FieldError::required("spec.a", ""), FieldError::invalid("b", 1, "no")],
            ),
            Status::invalid(&kind, "x", vec![]),
            Status::bad_request("huh"),
            Status::unauthorized(),
            Status::forbidden(&GroupResource::default(), "", "no"),
            Status::forbidden(&pods(), "", "no"),
            Status::forbidden(&pods(), "x", "no"),
            Status::method_not_supported(&pods(), "update"),
            Status::not_acceptable(&["application/json", "application/yaml"]),
            Status::unsupported_media_type(&["application/json"]),
            Status::request_entity_too_large("limit is 3145728"),
            Status::expired("old"),
            Status::gone("gone"),
            Status::timeout("slow", 3),
            Status::too_large_resource_version(7, 5),
            Status::too_many_requests("later", 2),
            Status::server_timeout(&pods(), "list", 2),
            Status::internal("boom"),
            Status::service_unavailable("not yet"),
        ];
        let lines: Vec<_> = all
            .iter()
            .map(|s| format!("{} {} | {s}", s.code, s.reason.as_str()))
            .collect();
        expect![[r#"
            404 NotFound | deployments.apps "x\n" not found
            409 AlreadyExists | pods "x" already exists
            409 AlreadyExists | pods "x" already exists, the server was not able to generate a unique name for the object
            409 Conflict | Operation cannot be fulfilled on pods "x": the object has been modified; please apply your changes to the latest version and try again
            422 Invalid | Deployment.apps "x" is invalid: [spec.a: Required value, b: Invalid value: 1: no]
            422 Invalid | Deployment.apps "x" is invalid
            400 BadRequest | huh
            401 Unauthorized | Unauthorized
            403 Forbidden | forbidden: no
            403 Forbidden | pods is forbidden: no
            403 Forbidden | pods "x" is forbidden: no
            405 MethodNotAllowed | update is not supported on resources of kind "pods"
            406 NotAcceptable | only the following media types are accepted: application/json, application/yaml
            415 UnsupportedMediaType | the body of the request was in an unknown format - accepted media types include: application/json
            413 RequestEntityTooLarge | Request entity too large: limit is 3145728
            410 Expired | old
            410 Gone | gone
            504 Timeout | Timeout: slow
            504 Timeout | Timeout: Too large resource version: 7, current: 5
            429 TooManyRequests | later
            500 ServerTimeout | The list operation against pods could not be completed at this time, please try again.
            500 InternalError | Internal error occurred: boom
            503 ServiceUnavailable | not yet"#]]
        .assert_eq(&lines.join("\n"));
        for status in all {
            assert_eq!(Status::from_json(&status.to_json()), Some(status));
        }
    }

    #[test]
    fn the_wire_form_names_the_causes() {
        let kind = GroupKind::new("apps", "Deployment");
        let status = Status::invalid(
            &kind,
            "x",
            vec![FieldError::invalid("spec.replicas", -1, "must be positive")],
        );
        assert_eq!(
            status.to_json(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
                "message": "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be positive",
                "details": {"name": "x", "group": "apps", "kind": "Deployment", "causes": [
                    {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be positive", "field": "spec.replicas"}]},
            })
        );
        assert_eq!(Status::from_json(&json!({"kind": "Status", "status": "Success"})), None);
        assert_eq!(Status::from_json(&json!({"kind": "Pod"})), None);
    }
}
