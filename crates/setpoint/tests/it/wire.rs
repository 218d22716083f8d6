//! The wire semantics that clients rely on, over real TLS: paging, watches, generations, finalizers, apply, CRDs.

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
    },
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::fixture::{Server, eventually, raw};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn put_map(client: &Client, name: &str, labels: Value, data: Value) -> (u16, Value) {
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})
            .to_string();
    raw(client, "POST", "/api/v1/namespaces/default/configmaps", &[JSON], body).await
}

#[tokio::test]
async fn pages_show_one_revision_whatever_is_written_between_them() {
    let server = Server::start_with(&["--api-only"]);
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for n in 0..25 {
        put_map(&client, &format!("m{n:02}"), json!({"page": "yes"}), json!({})).await;
    }
    let first = api
        .list(&ListParams::default().labels("page=yes").limit(10))
        .await
        .expect("a page");
    let version = first.metadata.resource_version.clone();
    put_map(&client, "m99", json!({"page": "yes"}), json!({})).await;
    api.delete("m24", &DeleteParams::default()).await.expect("deleted");
    let mut names: Vec<String> = first.items.iter().map(ResourceExt::name_any).collect();
    let mut token = first.metadata.continue_.clone();
    while let Some(at) = token.filter(|t| !t.is_empty()) {
        let page = api
            .list(&ListParams::default().labels("page=yes").limit(10).continue_token(&at))
            .await
            .expect("a page");
        assert_eq!(page.metadata.resource_version, version);
        names.extend(page.items.iter().map(ResourceExt::name_any));
        token = page.metadata.continue_.clone();
    }
    assert_eq!(names, (0..25).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_with_a_selector_tells_of_what_enters_and_leaves_it() {
    let server = Server::start_with(&["--api-only"]);
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    put_map(&client, "in", json!({"x": "1"}), json!({})).await;
    put_map(&client, "out", json!({"x": "2"}), json!({})).await;
    let version = api
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version
        .expect("a version");
    let mut events = api
        .watch(&WatchParams::default().labels("x=1").timeout(10), &version)
        .await
        .expect("a watch")
        .boxed();
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"x": value}}}));
    api.patch("out", &PatchParams::default(), &label("1"))
        .await
        .expect("patched");
    let left = api
        .patch("in", &PatchParams::default(), &label("3"))
        .await
        .expect("patched");
    let Some(Ok(WatchEvent::Added(entered))) = events.next().await else {
        panic!("an object that enters is ADDED")
    };
    assert_eq!(entered.name_any(), "out");
    let Some(Ok(WatchEvent::Deleted(gone))) = events.next().await else {
        panic!("an object that leaves is DELETED")
    };
    assert_eq!(
        (gone.name_any(), gone.labels().get("x").map(String::as_str)),
        ("in".into(), Some("1")),
        "the old object"
    );
    assert_eq!(
        gone.resource_version(),
        left.resource_version(),
        "at the new resourceVersion"
    );
}

#[tokio::test]
async fn a_streaming_list_says_when_its_initial_events_end() {
    let server = Server::start_with(&["--api-only"]);
    let client = server.client().await;
    put_map(&client, "a", json!({}), json!({})).await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let (code, body) = raw(&client, "GET", path, &[], "").await;
    assert_eq!(code, 200);
    let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("an event"))
        .collect();
    assert_eq!(
        (&events[0]["type"], &events[0]["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("a"))
    );
    assert_eq!(events[1]["type"], "BOOKMARK");
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        events.last().map(|e| e["type"].clone()),
        Some(json!("BOOKMARK")),
        "one before the server ends the watch"
    );
}

#[tokio::test]
async fn stale_writes_conflict_and_empty_ones_write_nothing() {
    let server = Server::start_with(&["--api-only"]);
    let client = server.client().await;
    let (_, made) = put_map(&client, "a", json!({}), json!({"x": "1"})).await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let mut same = made.clone();
    same["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("managedFields");
    let (code, again) = raw(&client, "PUT", path, &[JSON], made.to_string()).await;
    assert_eq!(
        (code, &again["metadata"]["resourceVersion"]),
        (200, &made["metadata"]["resourceVersion"]),
        "nothing changed"
    );
    let mut changed = made.clone();
    changed["data"]["x"] = "2".into();
    let (code, second) = raw(&client, "PUT", path, &[JSON], changed.to_string()).await;
    assert_eq!(code, 200);
    assert_ne!(
        second["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let (code, body) = raw(&client, "PUT", path, &[JSON], changed.to_string()).await;
    assert_eq!((code, body["reason"].as_str()), (409, Some("Conflict")), "{body}");
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let server = Server::start_with(&["--api-only"]);
    let api: Api<ConfigMap> = Api::namespaced(server.client().await, "default");
    let object: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a", "finalizers": ["x.y/z"]}})).expect("a map");
    api.create(&PostParams::default(), &object).await.expect("created");
    let kept = api
        .delete("a", &DeleteParams::default())
        .await
        .expect("deleted")
        .left()
        .expect("still there");
    assert!(kept.metadata.deletion_timestamp.is_some());
    let refused = api
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"finalizers": ["x.y/z", "new/one"]}})),
        )
        .await;
    assert!(refused.is_err(), "no finalizer can be added to what is being deleted");
    api.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .expect("patched");
    assert!(api.get_opt("a").await.expect("read").is_none());
}

#[tokio::test]
async fn apply_shares_and_defends_fields() {
    let server = Server::start_with(&["--api-only"]);
    let api: Api<ConfigMap> = Api::namespaced(server.client().await, "default");
    let apply = |manager: &'static str, data: Value| {
        let api = api.clone();
        async move {
            let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
            api.patch("a", &PatchParams::apply(manager), &Patch::Apply(patch)).await
        }
    };
    apply("one", json!({"x": "1", "y": "1"})).await.expect("applied");
    apply("two", json!({"z": "1"})).await.expect("applied");
    let Err(kube::Error::Api(conflict)) = apply("two", json!({"x": "2", "z": "1"})).await else {
        panic!("a conflict")
    };
    assert_eq!(conflict.code, 409);
    assert!(
        conflict.message.contains(r#"conflict with "one": .data.x"#),
        "{}",
        conflict.message
    );
    let after = apply("one", json!({"x": "1"})).await.expect("applied");
    assert_eq!(
        after.data.map(|d| d.into_keys().collect::<Vec<_>>()),
        Some(vec!["x".to_owned(), "z".to_owned()]),
        "y is gone, z is not ours"
    );
}

#[tokio::test]
async fn a_custom_kind_serves_at_once_and_keeps_its_status_apart() {
    let server = Server::start();
    let client = server.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"}, "versions": [{
            "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["size"], "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red"}}},
                "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}},
        }]},
    }))
    .expect("a definition");
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Widget"), "widgets");
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let widget = |spec: Value| {
        serde_json::from_value::<DynamicObject>(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec, "status": {"ready": true}})).expect("a widget")
    };
    // no pause: established means served
    let made = widgets
        .create(&PostParams::default(), &widget(json!({"size": 3})))
        .await
        .expect("created");
    assert_eq!(
        (made.data["spec"]["color"].as_str(), made.metadata.generation),
        (Some("red"), Some(1))
    );
    assert!(made.data.get("status").is_none(), "status is dropped on create");
    let status = widgets
        .patch_status(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"ready": true}, "spec": {"size": 9}})),
        )
        .await
        .expect("patched");
    assert_eq!(
        (status.data["spec"]["size"].as_i64(), status.metadata.generation),
        (Some(3), Some(1)),
        "a status write changes nothing else"
    );
    let spec = widgets
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"size": 4}, "status": {"ready": false}})),
        )
        .await
        .expect("patched");
    assert_eq!(
        (spec.data["status"]["ready"].as_bool(), spec.metadata.generation),
        (Some(true), Some(2))
    );
    let refused = widgets
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"size": 0}})),
        )
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(s)) if s.code == 422));
    // deleting the definition deletes its objects, and then it goes
    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the definition goes", 20, || async {
        definitions
            .get_opt("widgets.example.com")
            .await
            .expect("read")
            .is_none()
    })
    .await;
    assert_eq!(
        raw(&client, "GET", "/apis/example.com/v1/widgets", &[], "").await.0,
        404
    );
}

#[tokio::test]
async fn owners_take_their_dependents_with_them_and_namespaces_their_content() {
    let server = Server::start();
    let client = server.client().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gone"}}).to_string();
    assert_eq!(
        raw(&client, "POST", "/api/v1/namespaces", &[JSON], namespace).await.0,
        201
    );
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "gone");
    let owner: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "owner"}})).expect("a map");
    let owner = api.create(&PostParams::default(), &owner).await.expect("created");
    let owned: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().expect("a uid")}]}}))
    .expect("a map");
    api.create(&PostParams::default(), &owned).await.expect("created");
    eventually("the namespace is furnished", 10, || async {
        api.get_opt("kube-root-ca.crt").await.expect("read").is_some()
    })
    .await;
    api.delete("owner", &DeleteParams::default()).await.expect("deleted");
    eventually("the dependent goes", 20, || async {
        api.get_opt("owned").await.expect("read").is_none()
    })
    .await;
    assert_eq!(
        raw(&client, "DELETE", "/api/v1/namespaces/gone", &[JSON], "").await.0,
        200
    );
    eventually("the namespace goes", 20, || async {
        raw(&client, "GET", "/api/v1/namespaces/gone", &[], "").await.0 == 404
    })
    .await;
}

#[tokio::test]
async fn quota_refuses_the_whole_request_with_the_numbers_and_one_audit_record() {
    let server = Server::start();
    let client = server.client().await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"count/replicas.inference.setpoint.dev": "20", "count/secrets": "1"}}});
    assert_eq!(
        raw(
            &client,
            "POST",
            "/api/v1/namespaces/default/resourcequotas",
            &[JSON],
            quota.to_string()
        )
        .await
        .0,
        201
    );
    let path = "/apis/inference.setpoint.dev/v1alpha1/namespaces/default/modeldeployments";
    let deployment = |replicas: u32| {
        json!({"apiVersion": "inference.setpoint.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "chat"}, "spec": {"modelRef": {"name": "m"}, "replicas": replicas}}).to_string()
    };
    let (code, body) = raw(&client, "POST", path, &[JSON], deployment(10_000)).await;
    assert_eq!(code, 403, "{body}");
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.contains("exceeded quota: q, requested: count/replicas.inference.setpoint.dev=10k, used: count/replicas.inference.setpoint.dev=0, limited: count/replicas.inference.setpoint.dev=20"), "{message}");
    let replicas: Api<setpoint_inference::kinds::Replica> = Api::all(client.clone());
    assert!(
        replicas
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty(),
        "none was made"
    );
    // the same through an edit and through /scale
    assert_eq!(raw(&client, "POST", path, &[JSON], deployment(5)).await.0, 201);
    let merge = ("content-type", "application/merge-patch+json");
    assert_eq!(
        raw(
            &client,
            "PATCH",
            &format!("{path}/chat"),
            &[merge],
            r#"{"spec":{"replicas":21}}"#
        )
        .await
        .0,
        403
    );
    assert_eq!(
        raw(
            &client,
            "PATCH",
            &format!("{path}/chat/scale"),
            &[merge],
            r#"{"spec":{"replicas":21}}"#
        )
        .await
        .0,
        403
    );
    assert_eq!(
        raw(
            &client,
            "PATCH",
            &format!("{path}/chat/scale"),
            &[merge],
            r#"{"spec":{"replicas":20}}"#
        )
        .await
        .0,
        200
    );
    eventually("each refusal is on record once", 10, || async {
        let log = std::fs::read_to_string(server.data_dir().join("audit.log")).unwrap_or_default();
        let refused = log
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .filter(|e| e["responseStatus"]["code"] == 403);
        refused
            .filter(|e| e["objectRef"]["resource"] == "modeldeployments")
            .count()
            == 3
    })
    .await;
}

/// Found in review: rights, dry runs and names that were not asked about.
#[tokio::test]
async fn what_a_request_turns_out_to_do_is_what_it_needs_the_right_for() {
    let server = Server::start_with(&["--api-only"]);
    let admin = server.client().await;
    let apply = ("content-type", "application/apply-patch+yaml");
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "patcher"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"},
        "subjects": [{"kind": "User", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}]});
    assert_eq!(
        raw(&admin, "POST", &format!("{rbac}/roles"), &[JSON], role.to_string())
            .await
            .0,
        201
    );
    assert_eq!(
        raw(
            &admin,
            "POST",
            &format!("{rbac}/rolebindings"),
            &[JSON],
            binding.to_string()
        )
        .await
        .0,
        201
    );
    put_map(&admin, "there", json!({}), json!({})).await;
    let patcher = crate::fixture::client(&server.user("patcher", &[])).await;
    let map = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "1"}}).to_string()
    };
    let path = |name: &str| format!("/api/v1/namespaces/default/configmaps/{name}?fieldManager=p");
    eventually("the binding is in force", 5, || async {
        raw(&patcher, "PATCH", &path("there"), &[apply], map("there")).await.0 == 200
    })
    .await;
    assert_eq!(
        raw(&patcher, "PATCH", &path("new"), &[apply], map("new")).await.0,
        403,
        "an apply that creates needs create"
    );
    // a dry run in another encoding is a dry run
    let yaml = ("content-type", "application/yaml");
    let options = "kind: DeleteOptions\napiVersion: v1\ndryRun: [All]\n";
    assert_eq!(
        raw(
            &admin,
            "DELETE",
            "/api/v1/namespaces/default/configmaps/there",
            &[yaml],
            options
        )
        .await
        .0,
        200
    );
    assert_eq!(
        raw(&admin, "GET", "/api/v1/namespaces/default/configmaps/there", &[], "")
            .await
            .0,
        200,
        "still there"
    );
    // no definition stands in for a kind that is there
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "workers.inference.setpoint.dev"},
        "spec": {"group": "inference.setpoint.dev", "scope": "Cluster", "names": {"plural": "workers", "singular": "worker", "kind": "Worker"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let (code, body) = raw(
        &admin,
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &[JSON],
        definition.to_string(),
    )
    .await;
    assert_eq!(code, 422, "{body}");
    // a body that is no TokenRequest is told so
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}).to_string();
    assert_eq!(
        raw(
            &admin,
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            &[JSON],
            account
        )
        .await
        .0,
        201
    );
    let token = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    assert_eq!(raw(&admin, "POST", token, &[JSON], r#"{"spec":"x"}"#).await.0, 400);
}
