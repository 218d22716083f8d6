use expect_test::expect;
use serde_json::{Value, json};

use super::*;
use crate::resource::Verb;
use crate::table::{IncludeObject, Options, render};

fn find(group: &str, plural: &str) -> ResourceDefinition {
    all()
        .into_iter()
        .find(|def| &*def.group == group && &*def.plural == plural)
        .unwrap()
}

/// What `kubectl get` prints, a `|` between columns, those of `-o wide` in parentheses.
fn get(group: &str, plural: &str, object: Value) -> String {
    let def = find(group, plural);
    let options = Options {
        include_object: IncludeObject::None,
        now: "2026-01-01T00:10:00Z".parse().unwrap(),
        no_headers: false,
    };
    let table = render(&def, &def.versions[0], std::iter::once(&object), &options);
    let columns = table["columnDefinitions"].as_array().unwrap();
    let shown = |at: usize, text: String| {
        if columns[at]["priority"] == 0 {
            text
        } else {
            format!("({text})")
        }
    };
    let header = columns
        .iter()
        .enumerate()
        .map(|(at, column)| shown(at, column["name"].as_str().unwrap().to_uppercase()));
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), columns.len());
    let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let row = cells.iter().enumerate().map(|(at, value)| shown(at, cell(value)));
    format!(
        "{}\n{}",
        header.collect::<Vec<_>>().join(" | "),
        row.collect::<Vec<_>>().join(" | ")
    )
}

fn meta() -> Value {
    json!({"name": "a", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"})
}

#[test]
fn tables() {
    let printed = [
        get(
            "",
            "configmaps",
            json!({"metadata": meta(), "data": {"x": ""}, "binaryData": {"y": ""}}),
        ),
        get(
            "",
            "secrets",
            json!({"metadata": meta(), "type": "Opaque", "data": {"x": ""}}),
        ),
        get(
            "",
            "namespaces",
            json!({"metadata": meta(), "status": {"phase": "Active"}}),
        ),
        get(
            "",
            "serviceaccounts",
            json!({"metadata": {"name": "no-time"}, "secrets": []}),
        ),
        get(
            "",
            "resourcequotas",
            json!({"metadata": meta(), "status": {"hard": {"pods": "2", "limits.cpu": "1"}, "used": {"pods": "1"}}}),
        ),
        get("", "events", event()),
        get("events.k8s.io", "events", events_event()),
        get(
            "coordination.k8s.io",
            "leases",
            json!({"metadata": meta(), "spec": {"holderIdentity": "me"}}),
        ),
        get("rbac.authorization.k8s.io", "roles", json!({"metadata": meta()})),
        get("rbac.authorization.k8s.io", "clusterroles", json!({"metadata": meta()})),
        get("rbac.authorization.k8s.io", "rolebindings", binding()),
        get("rbac.authorization.k8s.io", "clusterrolebindings", binding()),
        get(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            json!({"metadata": meta()}),
        ),
    ];
    expect![[r#"
        NAME | DATA | AGE
        a | 2 | 10m
        NAME | TYPE | DATA | AGE
        a | Opaque | 1 | 10m
        NAME | STATUS | AGE
        a | Active | 10m
        NAME | SECRETS | AGE
        no-time | 0 | <unknown>
        NAME | REQUEST | LIMIT | AGE
        a | pods: 1/2 | limits.cpu: 0/1 | 10m
        LAST SEEN | TYPE | REASON | OBJECT | (SUBOBJECT) | (SOURCE) | MESSAGE | (FIRST SEEN) | (COUNT) | (NAME)
        60s | Warning | NoFit | replica/r-0 | (spec) | (scheduler) | no worker fits | (10m) | (3) | (a)
        LAST SEEN | TYPE | REASON | OBJECT | (SUBOBJECT) | (SOURCE) | MESSAGE | (FIRST SEEN) | (COUNT) | (NAME)
        30s | Normal | Bound | replica/r-0 | () | (scheduler, s-1) | bound to w-1 | (30s) | (1) | (a)
        NAME | HOLDER | AGE
        a | me | 10m
        NAME | CREATED AT
        a | 2026-01-01T00:00:00Z
        NAME | CREATED AT
        a | 2026-01-01T00:00:00Z
        NAME | ROLE | AGE | (USERS) | (GROUPS) | (SERVICEACCOUNTS)
        a | ClusterRole/view | 10m | (jane) | () | (n/b)
        NAME | ROLE | AGE | (USERS) | (GROUPS) | (SERVICEACCOUNTS)
        a | ClusterRole/view | 10m | (jane) | () | (n/b)
        NAME | CREATED AT
        a | 2026-01-01T00:00:00Z"#]]
    .assert_eq(&printed.join("\n"));
}

fn event() -> Value {
    json!({
        "metadata": meta(), "type": "Warning", "reason": "NoFit", "message": " no worker fits \n", "count": 3,
        "involvedObject": {"kind": "Replica", "name": "r-0", "fieldPath": "spec"},
        "source": {"component": "scheduler"}, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z",
    })
}

fn events_event() -> Value {
    json!({
        "metadata": meta(), "type": "Normal", "reason": "Bound", "note": "bound to w-1", "regarding": {"kind": "Replica", "name": "r-0"},
        "reportingController": "scheduler", "reportingInstance": "s-1", "eventTime": "2026-01-01T00:09:30.000000Z",
    })
}

fn binding() -> Value {
    json!({
        "metadata": meta(), "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "b", "namespace": "n"}],
    })
}

/// The columns of a custom resource, and rows with PartialObjectMetadata.
#[test]
fn custom_resource_table() {
    let crd = crate::crd::tests::sample();
    let def = ResourceDefinition::from_crd(&crd, crate::resource::Origin::CustomResource).unwrap();
    let objects = [
        json!({"metadata": meta(), "spec": {"cronSpec": "* *", "replicas": 2}, "status": {
            "lastRun": "2026-01-01T00:09:58Z", "conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"metadata": meta()}),
    ];
    let options = Options {
        include_object: IncludeObject::Metadata,
        now: "2026-01-01T00:10:00Z".parse().unwrap(),
        no_headers: false,
    };
    insta::assert_json_snapshot!(
        "custom_resource_table",
        render(&def, def.stored(), objects.iter(), &options)
    );
    let bare = Options {
        include_object: IncludeObject::None,
        no_headers: true,
        ..options
    };
    let table = render(&def, def.stored(), objects[1..].iter(), &bare);
    assert_eq!(table["columnDefinitions"], Value::Null);
    assert_eq!(table["rows"], json!([{"cells": ["a", null, null, null, null, "10m"]}]));
}

#[test]
fn every_kind_is_whole() {
    let defs = all();
    for def in &defs {
        let version = def.stored();
        assert!(version.served && !version.columns.is_empty(), "{}", def.kind);
        assert!(
            def.verbs == Verb::REVIEW || def.verbs.contains(&Verb::Watch),
            "{}",
            def.kind
        );
        for field in ["apiVersion", "kind", "metadata"] {
            assert!(version.schema.properties.contains_key(field), "{} {field}", def.kind);
        }
        for part in &version.parts {
            assert!(
                version.schema.properties.contains_key(&*part.name),
                "{} {}",
                def.kind,
                part.name
            );
        }
        let same = defs
            .iter()
            .filter(|other| other.group == def.group && other.plural == def.plural);
        assert_eq!(same.count(), 1, "{}", def.kind);
    }
}

#[test]
fn views_share_the_keys_of_what_they_view() {
    assert_eq!(
        find("events.k8s.io", "events").key("n", "a"),
        "/registry/core/events/n/a"
    );
    assert_eq!(
        find("events.k8s.io", "events").key("n", "a"),
        find("", "events").key("n", "a")
    );
    assert_eq!(
        find("coordination.k8s.io", "leases").key("n", "a"),
        "/registry/coordination.k8s.io/leases/n/a"
    );
    assert_eq!(find("", "namespaces").key("", "a"), "/registry/core/namespaces/a");
}

#[test]
fn defaults_that_openapi_lacks() {
    let default = |group: &str, plural: &str, field: &str| {
        find(group, plural).versions[0].schema.properties[field].default.clone()
    };
    assert_eq!(default("", "secrets", "type"), Some(json!("Opaque")));
    assert_eq!(default("", "namespaces", "status"), Some(json!({})));
    assert_eq!(default("coordination.k8s.io", "leases", "spec"), Some(json!({})));
}

/// The update rules of Kubernetes' registries: (unconditional update, create on update).
#[test]
fn update_rules() {
    let rules = |group: &str, plural: &str| {
        let def = find(group, plural);
        (def.unconditional_update, def.create_on_update)
    };
    assert_eq!(rules("", "configmaps"), (true, false));
    assert_eq!(rules("", "serviceaccounts"), (false, false));
    assert_eq!(rules("", "events"), (true, true));
    assert_eq!(rules("coordination.k8s.io", "leases"), (false, true));
    assert_eq!(rules("rbac.authorization.k8s.io", "roles"), (true, true));
    assert_eq!(
        rules("apiextensions.k8s.io", "customresourcedefinitions"),
        (false, false)
    );
}
