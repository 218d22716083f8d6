//! Bad input costs no more than a clear error: code, reason and message are Kubernetes'.

use expect_test::expect;
use serde_json::Value;

use crate::fixture::{Server, client, raw};

const JSON: (&str, &str) = ("content-type", "application/json");
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/inference.setpoint.dev/v1alpha1/namespaces/default/modeldeployments";

/// What it is called, method, path, content type, body.
type Case<'a> = (&'a str, &'a str, String, (&'a str, &'a str), String);

fn line(name: &str, (code, body): (u16, Value)) -> String {
    let reason = body["reason"].as_str().unwrap_or("-");
    let message = body["message"].as_str().map_or_else(|| body.to_string(), str::to_owned);
    format!("{name}: {code} {reason}: {message}\n")
}

#[tokio::test]
async fn bad_input_is_answered_as_kubernetes_answers_it() {
    let server = Server::start();
    let admin = server.client().await;
    let mut said = String::new();
    let big = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"x":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let deployment = |spec: &str| {
        format!(
            r#"{{"apiVersion":"inference.setpoint.dev/v1alpha1","kind":"ModelDeployment","metadata":{{"name":"a"}},"spec":{spec}}}"#
        )
    };
    let cases: Vec<Case> = vec![
        (
            "unknown field, strict",
            "POST",
            format!("{MAPS}?fieldValidation=Strict"),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dat":{}}"#.into(),
        ),
        (
            "duplicate field, strict",
            "POST",
            format!("{MAPS}?fieldValidation=Strict"),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{},"data":{}}"#.into(),
        ),
        (
            "wrong type",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":1}}"#.into(),
        ),
        ("not JSON", "POST", MAPS.into(), JSON, r#"{"apiVersion":"#.into()),
        (
            "not YAML",
            "POST",
            MAPS.into(),
            ("content-type", "application/yaml"),
            "a: [".into(),
        ),
        (
            "another kind",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#.into(),
        ),
        (
            "another version",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"a"}}"#.into(),
        ),
        (
            "no name",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap"}"#.into(),
        ),
        (
            "bad name",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"A_b"}}"#.into(),
        ),
        (
            "another namespace",
            "POST",
            MAPS.into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"b"}}"#.into(),
        ),
        (
            "no such namespace",
            "POST",
            "/api/v1/namespaces/nope/configmaps".into(),
            JSON,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#.into(),
        ),
        ("too large", "POST", MAPS.into(), JSON, big),
        (
            "unknown media type",
            "POST",
            MAPS.into(),
            ("content-type", "text/plain"),
            "x".into(),
        ),
        (
            "negative replicas",
            "POST",
            DEPLOYMENTS.into(),
            JSON,
            deployment(r#"{"modelRef":{"name":"m"},"replicas":-1}"#),
        ),
        (
            "replicas of the wrong type",
            "POST",
            DEPLOYMENTS.into(),
            JSON,
            deployment(r#"{"modelRef":{"name":"m"},"replicas":"five"}"#),
        ),
        (
            "a required field missing",
            "POST",
            DEPLOYMENTS.into(),
            JSON,
            deployment("{}"),
        ),
        ("no such object", "GET", format!("{MAPS}/nope"), JSON, String::new()),
        ("no such kind", "GET", "/apis/x.y/v1/things".into(), JSON, String::new()),
        ("no such path", "GET", "/nothing/here".into(), JSON, String::new()),
        (
            "a path with a trick",
            "GET",
            "/api/v1/namespaces/default/configmaps/%2e%2e/secrets".into(),
            JSON,
            String::new(),
        ),
        (
            "bad selector",
            "GET",
            format!("{MAPS}?labelSelector=a%20in%20(b"),
            JSON,
            String::new(),
        ),
        (
            "bad field selector",
            "GET",
            format!("{MAPS}?fieldSelector=data.x%3D1"),
            JSON,
            String::new(),
        ),
        (
            "bad continue",
            "GET",
            format!("{MAPS}?continue=nonsense"),
            JSON,
            String::new(),
        ),
        (
            "bad version",
            "GET",
            format!("{MAPS}?resourceVersion=x"),
            JSON,
            String::new(),
        ),
        (
            "apply without a manager",
            "PATCH",
            format!("{MAPS}/a"),
            ("content-type", "application/apply-patch+yaml"),
            "{}".into(),
        ),
        (
            "strategic merge of a custom resource",
            "PATCH",
            format!("{DEPLOYMENTS}/a"),
            ("content-type", "application/strategic-merge-patch+json"),
            "{}".into(),
        ),
        ("a verb that is not served", "PUT", MAPS.into(), JSON, "{}".into()),
    ];
    for (name, method, path, header, body) in cases {
        said.push_str(&line(name, raw(&admin, method, &path, &[header], body).await));
    }
    let (code, _) = raw(&admin, "GET", "/api/v1/configmaps", &[("accept", "image/png")], "").await;
    assert_eq!(code, 406);
    expect![[r#"
        unknown field, strict: 400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dat"
        duplicate field, strict: 400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"
        wrong type: 400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data.x of type string
        not JSON: 400 BadRequest: the request body is not valid JSON: unexpected end of JSON input at line 1, column 15
        not YAML: 400 BadRequest: the request body is not valid YAML: error: line 1 column 4: unclosed bracket '['
        another kind: 400 BadRequest: Secret in version "v1" cannot be handled as a ConfigMap: the kind in the data must be ConfigMap
        another version: 400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)
        no name: 422 Invalid: ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required
        bad name: 422 Invalid: ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        another namespace: 400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
        no such namespace: 404 NotFound: namespaces "nope" not found
        too large: 413 RequestEntityTooLarge: Request entity too large: limit is 3145728
        unknown media type: 415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml
        negative replicas: 422 Invalid: ModelDeployment.inference.setpoint.dev "a" is invalid: spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0
        replicas of the wrong type: 422 Invalid: ModelDeployment.inference.setpoint.dev "a" is invalid: spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"
        a required field missing: 422 Invalid: ModelDeployment.inference.setpoint.dev "a" is invalid: spec.modelRef: Required value
        no such object: 404 NotFound: configmaps "nope" not found
        no such kind: 404 NotFound: the server could not find the requested resource
        no such path: 404 NotFound: the server could not find the requested resource
        a path with a trick: 400 BadRequest: the path "/api/v1/namespaces/default/configmaps/%2e%2e/secrets" is not in its plain form: it may not hold empty, "." or ".." segments or encoded slashes
        bad selector: 400 BadRequest: unable to parse requirement: found '', expected: ',' or ')'
        bad field selector: 400 BadRequest: field label not supported: data.x
        bad continue: 400 BadRequest: continue key is not valid: it must be the value that a list answered
        bad version: 400 BadRequest: invalid resource version "x": it must be a decimal number that a server gave out
        apply without a manager: 400 BadRequest: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        strategic merge of a custom resource: 415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml
        a verb that is not served: 405 MethodNotAllowed: the server does not allow this method on the requested resource
    "#]].assert_eq(&said);
}

#[tokio::test]
async fn who_may_not_is_told_so_and_who_lies_is_nobody() {
    let server = Server::start();
    let alice = client(&server.user("alice", &["dev"])).await;
    let (code, body) = raw(&alice, "GET", "/api/v1/namespaces/default/secrets", &[], "").await;
    assert_eq!(code, 403);
    assert_eq!(
        body["message"],
        r#"secrets is forbidden: User "alice" cannot list resource "secrets" in API group "" in the namespace "default""#
    );
    // discovery and health are open to whoever is authenticated
    assert_eq!(raw(&alice, "GET", "/apis", &[], "").await.0, 200);
    assert_eq!(raw(&alice, "GET", "/readyz", &[], "").await.0, 200);
    // impersonation needs the right to
    assert_eq!(
        raw(&alice, "GET", "/api/v1/namespaces", &[("impersonate-user", "root")], "")
            .await
            .0,
        403
    );
    let admin = server.client().await;
    assert_eq!(
        raw(
            &admin,
            "GET",
            "/api/v1/namespaces",
            &[("impersonate-user", "alice")],
            ""
        )
        .await
        .0,
        403
    );
    // a credential that is no good is 401, never anonymous
    let mut config = kube::Config::new(server.url.parse().expect("a URL"));
    config.accept_invalid_certs = true;
    for token in ["garbage", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."] {
        config.auth_info.token = Some(token.to_owned().into());
        let liar = kube::Client::try_from(config.clone()).expect("a client");
        assert_eq!(raw(&liar, "GET", "/healthz", &[], "").await.0, 401, "{token}");
    }
    config.auth_info.token = None;
    let nobody = kube::Client::try_from(config).expect("a client");
    assert_eq!(raw(&nobody, "GET", "/livez", &[], "").await.0, 200);
    assert_eq!(raw(&nobody, "GET", "/api/v1/namespaces", &[], "").await.0, 403);
}
