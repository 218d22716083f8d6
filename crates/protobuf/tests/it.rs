//! Bodies that others wrote: prost from Kubernetes' own `.proto` files, and kubectl.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_pb::{
    api::{authorization::v1 as authorization, coordination::v1 as coordination, core::v1 as core, rbac::v1 as rbac},
    apimachinery::pkg::{
        apis::meta::v1::{DeleteOptions, FieldsV1, ManagedFieldsEntry, MicroTime, ObjectMeta, OwnerReference, Time},
        runtime::{TypeMeta, Unknown},
    },
};
use prost::Message;
use serde_json::{Value, json};
use setpoint_protobuf::{decode, encode};

fn envelope(api_version: &str, kind: &str, raw: &impl Message) -> Vec<u8> {
    let unknown = Unknown {
        type_meta: Some(TypeMeta {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
        }),
        raw: Some(raw.encode_to_vec()),
        content_encoding: Some(String::new()),
        content_type: Some(String::new()),
    };
    [b"k8s\0".to_vec(), unknown.encode_to_vec()].concat()
}

/// The message in a body that we wrote.
fn open<M: Message + Default>(body: &[u8]) -> M {
    let unknown = Unknown::decode(body.strip_prefix(b"k8s\0").unwrap()).unwrap();
    M::decode(unknown.raw.unwrap().as_slice()).unwrap()
}

/// Reads a message, compares its JSON, and sees whether prost reads the same message from what we write.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    api_version: &str,
    kind: &str,
    message: &M,
    expected: Value,
) {
    assert_eq!(decode(&envelope(api_version, kind, message)).unwrap(), expected);
    let again: M = open(&encode(&expected).unwrap());
    assert_eq!(again, *message);
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_namespace_as_go_writes_it() {
    // Go writes every value, the empty ones too, and a null time as an empty message
    let metadata = ObjectMeta {
        name: some("demo"),
        generate_name: some(""),
        namespace: some(""),
        generation: Some(0),
        creation_timestamp: Some(Time::default()),
        ..Default::default()
    };
    let message = core::Namespace {
        metadata: Some(metadata),
        spec: Some(core::NamespaceSpec::default()),
        status: Some(core::NamespaceStatus {
            phase: some(""),
            ..Default::default()
        }),
    };
    assert_eq!(
        decode(&envelope("v1", "Namespace", &message)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}, "spec": {}, "status": {}})
    );
}

#[test]
fn a_config_map() {
    let metadata = ObjectMeta {
        name: some("c"),
        labels: [("app".to_owned(), "x".to_owned())].into(),
        creation_timestamp: Some(Time {
            seconds: Some(1_700_000_000),
            nanos: Some(0),
        }),
        owner_references: vec![OwnerReference {
            kind: some("Node"),
            name: some("n"),
            uid: some("u"),
            api_version: some("v1"),
            controller: Some(false),
            ..Default::default()
        }],
        managed_fields: vec![ManagedFieldsEntry {
            manager: some("kubectl"),
            fields_v1: Some(FieldsV1 {
                raw: Some(br#"{"f:data":{}}"#.to_vec()),
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let message = core::ConfigMap {
        metadata: Some(metadata),
        data: [("empty".to_owned(), String::new()), ("k".to_owned(), "v".to_owned())].into(),
        binary_data: [("b".to_owned(), vec![0, 255])].into(),
        immutable: Some(false),
    };
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "c", "labels": {"app": "x"}, "creationTimestamp": "2023-11-14T22:13:20Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": false}],
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}],
        },
        "data": {"empty": "", "k": "v"}, "binaryData": {"b": "AP8="}, "immutable": false,
    });
    check("v1", "ConfigMap", &message, expected);
}

#[test]
fn a_secret() {
    let message = core::Secret {
        metadata: Some(ObjectMeta {
            name: some("s"),
            ..Default::default()
        }),
        data: [("token".to_owned(), b"hello".to_vec())].into(),
        r#type: some("Opaque"),
        ..Default::default()
    };
    let expected = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aGVsbG8="}, "type": "Opaque"});
    check("v1", "Secret", &message, expected);
}

#[test]
fn a_role() {
    let rule = rbac::PolicyRule {
        verbs: vec!["get".to_owned()],
        non_resource_ur_ls: vec!["/healthz".to_owned()],
        ..Default::default()
    };
    let message = rbac::Role {
        metadata: Some(ObjectMeta {
            name: some("r"),
            ..Default::default()
        }),
        rules: vec![rule],
    };
    let expected = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}],
    });
    check("rbac.authorization.k8s.io/v1", "Role", &message, expected);
}

#[test]
fn a_lease_with_times_before_1970_and_zero_transitions() {
    let spec = coordination::LeaseSpec {
        holder_identity: some("h"),
        lease_duration_seconds: Some(15),
        acquire_time: Some(MicroTime {
            seconds: Some(1_700_000_000),
            nanos: Some(123_456_000),
        }),
        renew_time: Some(MicroTime {
            seconds: Some(-1),
            nanos: Some(500_000_000),
        }),
        lease_transitions: Some(0),
        ..Default::default()
    };
    let message = coordination::Lease {
        metadata: Some(ObjectMeta::default()),
        spec: Some(spec),
    };
    let expected = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
        "spec": {
            "holderIdentity": "h", "leaseDurationSeconds": 15, "acquireTime": "2023-11-14T22:13:20.123456Z",
            "renewTime": "1969-12-31T23:59:59.500000Z", "leaseTransitions": 0,
        },
    });
    check("coordination.k8s.io/v1", "Lease", &message, expected);
}

#[test]
fn an_access_review() {
    let attributes = authorization::ResourceAttributes {
        verb: some("get"),
        resource: some("secrets"),
        ..Default::default()
    };
    let message = authorization::SelfSubjectAccessReview {
        metadata: Some(ObjectMeta::default()),
        spec: Some(authorization::SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..Default::default()
        }),
        status: Some(authorization::SubjectAccessReviewStatus {
            allowed: Some(false),
            ..Default::default()
        }),
    };
    let expected = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
        "spec": {"resourceAttributes": {"verb": "get", "resource": "secrets"}}, "status": {"allowed": false},
    });
    check("authorization.k8s.io/v1", "SelfSubjectAccessReview", &message, expected);
}

#[test]
fn an_immediate_deletion_keeps_its_zero_in_any_group() {
    let message = DeleteOptions {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    let expected =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "dryRun": []});
    let mut expected = expected;
    expected.as_object_mut().unwrap().remove("dryRun");
    check("coordination.k8s.io/v1", "DeleteOptions", &message, expected);
}

/// What kubectl 1.32 sent for `create configmap|secret|namespace|serviceaccount|quota|role|token`, `auth can-i` and `auth whoami`.
#[test]
fn the_bodies_of_kubectl() {
    let cases = [
        (
            "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEhsKEQoBYxIAGgAiACoAMgA4AEIAEgYKAWESAWIaACIA",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}),
        ),
        (
            "azhzAAoMCgJ2MRIGU2VjcmV0Eh0KEQoBcxIAGgAiACoAMgA4AEIAEgYKAWESAWIaABoAIgA=",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}),
        ),
        (
            "azhzAAoPCgJ2MRIJTmFtZXNwYWNlEhkKEQoBbhIAGgAiACoAMgA4AEIAEgAaAgoAGgAiAA==",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {}, "status": {}}),
        ),
        (
            "azhzAAoUCgJ2MRIOU2VydmljZUFjY291bnQSEwoRCgFzEgAaACIAKgAyADgAQgAaACIA",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}}),
        ),
        (
            "azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRInChEKAXESABoAIgAqADIAOABCABIQCg4KB3NlY3JldHMSAwoBMxoAGgAiAA==",
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"secrets": "3"}}, "status": {}}),
        ),
        (
            "azhzAAokChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEgRSb2xlEiUKEQoBchIAGgAiACoAMgA4AEIAEhAKA2dldBIAGgdzZWNyZXRzGgAiAA==",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]}),
        ),
        (
            "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBIdChAKABIAGgAiACoAMgA4AEIAEgMg2AQaBAoAEgAaACIA",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"expirationSeconds": 600}, "status": {}}),
        ),
        (
            "azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSPwoQCgASABoAIgAqADIAOABCABIhCh8KB2RlZmF1bHQSA2dldBoAIgAqB3NlY3JldHMyADoAGggIABIAGgAgABoAIgA=",
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "secrets"}}, "status": {"allowed": false}}),
        ),
        (
            "azhzAAotChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESEVNlbGZTdWJqZWN0UmV2aWV3EhoKEAoAEgAaACIAKgAyADgAQgASBgoECgASABoAIgA=",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}, "status": {"userInfo": {}}}),
        ),
    ];
    for (body, expected) in cases {
        let body = STANDARD.decode(body).unwrap();
        assert_eq!(decode(&body).unwrap(), expected);
        for end in 0..body.len() {
            let _ = decode(&body[..end]);
        }
        assert_eq!(decode(&encode(&expected).unwrap()).unwrap(), expected);
    }
}
