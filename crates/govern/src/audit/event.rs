//! The record of one request, in the shape of Kubernetes' `audit.k8s.io/v1` Event.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use setpoint_meta::Status;

use crate::{Attributes, Decision, UserInfo};

/// The annotation that says `allow` or `forbid`.
pub const DECISION: &str = "authorization.k8s.io/decision";
/// The annotation that says why.
pub const REASON: &str = "authorization.k8s.io/reason";
/// The annotation with the numbers behind a quota's refusal: JSON, see [`crate::quota::Exceeded::to_json`].
pub const QUOTA_EXCEEDED: &str = "quota.setpoint.dev/exceeded";
/// The longest requestURI and userAgent kept, in bytes; the rest is cut (a URL may be 16 KiB and is the client's to choose).
pub const MAX_TEXT_BYTES: usize = 4096;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when and the outcome; no bodies.
    Metadata,
    /// Also the request's object.
    Request,
    /// Also the response's object.
    RequestResponse,
}

/// When in a request's life the record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// As soon as the request is known.
    RequestReceived,
    /// The response's head is sent, the body goes on: watches.
    ResponseStarted,
    /// The whole response is sent.
    ResponseComplete,
    /// The handler panicked.
    Panic,
}

/// Everything that a record may tell about a request, borrowed from it. The API server fills one in when the response is known.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The id that the response carries in its `Audit-ID` header.
    pub audit_id: &'a str,
    /// Which stage this is.
    pub stage: Stage,
    /// What was asked. Its user is the effective one, after impersonation.
    pub attributes: Attributes<'a>,
    /// Who authenticated, if it is not the effective user: set only under impersonation.
    pub impersonator: Option<&'a UserInfo>,
    /// Path and query as sent.
    pub request_uri: &'a str,
    /// The client's address, and those of proxies before it.
    pub source_ips: &'a [IpAddr],
    /// The `User-Agent` header.
    pub user_agent: &'a str,
    /// When the request arrived.
    pub received: Timestamp,
    /// When this stage was reached.
    pub now: Timestamp,
    /// HTTP status code of the response; 0 when there is none yet.
    pub code: u16,
    /// The error, if the response is one.
    pub error: Option<&'a Status>,
    /// The authorizer's answer, if it got so far.
    pub decision: Option<&'a Decision>,
    /// The object's uid and resourceVersion, where known.
    pub object: ObjectVersion<'a>,
    /// The request's object, for level Request and above.
    pub request_object: Option<&'a Value>,
    /// The response's object, for level RequestResponse.
    pub response_object: Option<&'a Value>,
    /// What admission steps had to say; keys are qualified names.
    pub annotations: BTreeMap<String, String>,
}

/// Which version of an object a request was about.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectVersion<'a> {
    /// `metadata.uid`; empty if unknown.
    pub uid: &'a str,
    /// `metadata.resourceVersion` in the request; empty if there was none.
    pub resource_version: &'a str,
}

impl<'a> Facts<'a> {
    /// The facts of a finished request; what is not given starts empty and is a public field.
    pub fn new(audit_id: &'a str, attributes: Attributes<'a>, received: Timestamp, code: u16) -> Self {
        Self {
            audit_id,
            stage: Stage::ResponseComplete,
            attributes,
            impersonator: None,
            request_uri: attributes.path,
            source_ips: &[],
            user_agent: "",
            received,
            now: Timestamp::now(),
            code,
            error: None,
            decision: None,
            object: ObjectVersion::default(),
            request_object: None,
            response_object: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the request was refused for what it is (401, 403, or 429 by quota or flow control), not for being malformed.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code, 401 | 403 | 429)
    }
}

/// One record, owned: what goes into the log. Field order is that of Kubernetes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    /// How much is recorded.
    pub level: Level,
    /// See [`Facts::audit_id`].
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// When in the request's life.
    pub stage: Stage,
    /// See [`Facts::request_uri`].
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The verb.
    pub verb: String,
    /// Who authenticated.
    pub user: UserInfo,
    /// As whom they acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<UserInfo>,
    /// Addresses.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<IpAddr>,
    /// The client's name for itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What object, for resource requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    /// The outcome: a Status without details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    /// The request's object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    /// The response's object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    /// When it arrived.
    #[serde(serialize_with = "micros")]
    pub request_received_timestamp: Timestamp,
    /// When the stage was reached.
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    /// Decision, reason, and what admission added.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The object of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names of Kubernetes' ObjectReference
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

impl Event {
    /// The record of these facts at this level. The values of Secrets never get in, whatever the level: their bodies (and those of
    /// token requests and reviews) are left out.
    pub fn new(level: Level, facts: &Facts<'_>) -> Self {
        let attributes = &facts.attributes;
        let (user, impersonated_user) = match facts.impersonator {
            Some(impersonator) => (impersonator.clone(), Some(attributes.user.clone())),
            None => (attributes.user.clone(), None),
        };
        let mut annotations = facts.annotations.clone();
        if let Some(decision) = facts.decision {
            annotations.insert(DECISION.to_owned(), decision.audit_word().to_owned());
            annotations.insert(REASON.to_owned(), decision.reason().to_owned());
        }
        let body = |wanted: Level, object: Option<&Value>| match object {
            Some(object) if level >= wanted && !carries_secrets(attributes) => Some(without_managed_fields(object)),
            _ => None,
        };
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: cut(facts.audit_id).into_owned(),
            stage: facts.stage,
            request_uri: cut(facts.request_uri).into_owned(),
            verb: attributes.verb.to_owned(),
            user,
            impersonated_user,
            source_ips: facts.source_ips.to_vec(),
            user_agent: cut(facts.user_agent).into_owned(),
            object_ref: attributes
                .resource_request
                .then(|| object_ref(attributes, facts.object)),
            response_status: response_status(facts),
            request_object: body(Level::Request, facts.request_object),
            response_object: body(Level::RequestResponse, facts.response_object),
            request_received_timestamp: facts.received,
            stage_timestamp: facts.now,
            annotations,
        }
    }
}

fn object_ref(attributes: &Attributes<'_>, object: ObjectVersion<'_>) -> ObjectRef {
    ObjectRef {
        resource: attributes.resource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        uid: object.uid.to_owned(),
        api_group: attributes.api_group.to_owned(),
        api_version: attributes.api_version.to_owned(),
        resource_version: object.resource_version.to_owned(),
        subresource: attributes.subresource.to_owned(),
    }
}

fn response_status(facts: &Facts<'_>) -> Option<Value> {
    if facts.code == 0 {
        return None;
    }
    let mut status = json!({"metadata": {}, "code": facts.code});
    if let Some(error) = facts.error {
        status["status"] = "Failure".into();
        status["reason"] = error.reason.as_str().into();
        status["message"] = error.message.as_str().into();
    }
    Some(status)
}

/// Whether the bodies of such a request hold credentials.
fn carries_secrets(attributes: &Attributes<'_>) -> bool {
    match attributes.api_group {
        "" => attributes.resource == "secrets" || attributes.subresource == "token",
        "authentication.k8s.io" => true,
        _ => false,
    }
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT_BYTES {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// RFC 3339 with six decimals, as `metav1.MicroTime`.
fn micros<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn moment() -> Timestamp {
        "2026-01-02T03:04:05.123456Z".parse().expect("time")
    }

    #[test]
    fn the_record_has_kubernetes_shape() {
        let user = UserInfo::new("jane", ["system:authenticated"]);
        let admin = UserInfo::new("root", ["system:masters"]);
        let mut attributes = Attributes::resource(&user, "update", "apps", "deployments")
            .in_namespace("ns")
            .named("web");
        attributes.api_version = "v1";
        let error = attributes.forbidden("");
        let decision = Decision::NoOpinion(String::new());
        let ips = ["10.0.0.1".parse().expect("address")];
        let facts = Facts {
            impersonator: Some(&admin),
            request_uri: "/apis/apps/v1/namespaces/ns/deployments/web",
            source_ips: &ips,
            user_agent: "kubectl/1.32",
            now: moment(),
            error: Some(&error),
            decision: Some(&decision),
            ..Facts::new("id-1", attributes, moment(), 403)
        };
        assert!(facts.is_refusal());
        let text = serde_json::to_string_pretty(&Event::new(Level::Metadata, &facts)).expect("json");
        expect![[r#"
            {
              "kind": "Event",
              "apiVersion": "audit.k8s.io/v1",
              "level": "Metadata",
              "auditID": "id-1",
              "stage": "ResponseComplete",
              "requestURI": "/apis/apps/v1/namespaces/ns/deployments/web",
              "verb": "update",
              "user": {
                "username": "root",
                "groups": [
                  "system:masters"
                ]
              },
              "impersonatedUser": {
                "username": "jane",
                "groups": [
                  "system:authenticated"
                ]
              },
              "sourceIPs": [
                "10.0.0.1"
              ],
              "userAgent": "kubectl/1.32",
              "objectRef": {
                "resource": "deployments",
                "namespace": "ns",
                "name": "web",
                "apiGroup": "apps",
                "apiVersion": "v1"
              },
              "responseStatus": {
                "code": 403,
                "message": "deployments.apps \"web\" is forbidden: User \"jane\" cannot update resource \"deployments\" in API group \"apps\" in the namespace \"ns\"",
                "metadata": {},
                "reason": "Forbidden",
                "status": "Failure"
              },
              "requestReceivedTimestamp": "2026-01-02T03:04:05.123456Z",
              "stageTimestamp": "2026-01-02T03:04:05.123456Z",
              "annotations": {
                "authorization.k8s.io/decision": "forbid",
                "authorization.k8s.io/reason": ""
              }
            }"#]].assert_eq(&text);
    }

    #[test]
    fn bodies_follow_the_level_and_never_show_credentials() {
        let user = UserInfo::new("jane", ["g"]);
        let object = json!({"metadata": {"name": "a", "managedFields": [{}]}, "data": {"k": "v"}});
        let record = |level, attributes| {
            let mut facts = Facts::new("id", attributes, moment(), 201);
            facts.request_object = Some(&object);
            facts.response_object = Some(&object);
            let event = Event::new(level, &facts);
            (event.request_object, event.response_object)
        };
        let maps = Attributes::resource(&user, "create", "", "configmaps").in_namespace("n");
        let kept = Some(json!({"metadata": {"name": "a"}, "data": {"k": "v"}}));
        assert_eq!(record(Level::Metadata, maps), (None, None));
        assert_eq!(record(Level::Request, maps), (kept.clone(), None));
        assert_eq!(record(Level::RequestResponse, maps), (kept.clone(), kept));
        let secrets = Attributes::resource(&user, "create", "", "secrets");
        let token = Attributes::resource(&user, "create", "", "serviceaccounts").subresource("token");
        let review = Attributes::resource(&user, "create", "authentication.k8s.io", "tokenreviews");
        for attributes in [secrets, token, review] {
            assert_eq!(record(Level::RequestResponse, attributes), (None, None));
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let text = "ü".repeat(MAX_TEXT_BYTES);
        let cut = cut(&text);
        assert!(cut.len() <= MAX_TEXT_BYTES + "…".len() && cut.ends_with('…'));
    }
}
