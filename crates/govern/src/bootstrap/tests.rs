use std::collections::HashSet;

use serde_json::{Value, json};
use setpoint_meta::{GroupResource, object};

use super::*;
use crate::{
    Attributes, UserInfo,
    authz::Authorizer,
    user::{AUTHENTICATED, GATEWAYS, WORKERS},
};

fn fresh() -> Authorizer {
    let rbac = Authorizer::new();
    objects().iter().for_each(|object| rbac.upsert(object));
    rbac
}

/// `verb group resource[/sub] [namespace]` (`core` for the core group, `-` for no namespace), or `verb /path`.
fn may(rbac: &Authorizer, user: &UserInfo, request: &str) -> bool {
    let parts: Vec<&str> = request.split(' ').collect();
    let asked = if parts[1].starts_with('/') {
        Attributes::non_resource(user, parts[0], parts[1])
    } else {
        let group = match parts[1] {
            "core" => "",
            "inf" => INFERENCE,
            group => group,
        };
        let (resource, sub) = parts[2].split_once('/').unwrap_or((parts[2], ""));
        Attributes::resource(user, parts[0], group, resource)
            .subresource(sub)
            .in_namespace(parts.get(3).copied().unwrap_or(""))
    };
    rbac.authorize(&asked).is_allowed()
}

fn bind(rbac: &Authorizer, namespace: &str, role: &str, user: &str) {
    rbac.upsert(
        &json!({"kind": "RoleBinding", "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]}),
    );
}

#[test]
fn the_default_roles_decide_as_documented() {
    let rbac = fresh();
    for (role, user) in [("view", "vera"), ("edit", "ed"), ("admin", "ada")] {
        bind(&rbac, "a", role, user);
    }
    let user = |name: &str| UserInfo::new(name, [AUTHENTICATED]);
    let (vera, ed, ada, nobody) = (user("vera"), user("ed"), user("ada"), user("nobody"));
    let anonymous = UserInfo::anonymous();
    let root = UserInfo::new("root", [crate::user::MASTERS]);
    let worker = UserInfo::new("system:worker:w1", [WORKERS, AUTHENTICATED]);
    let gateway = UserInfo::new("system:gateway:g1", [GATEWAYS, AUTHENTICATED]);
    for (user, allowed, refused) in [
        (
            &anonymous,
            vec!["get /healthz", "get /livez", "get /readyz", "get /version"],
            vec![
                "get /api",
                "get /openapi/v3",
                "get /metrics",
                "list core namespaces",
                "get /healthz/x",
            ],
        ),
        (
            &nobody,
            vec![
                "get /api",
                "get /apis/apps/v1",
                "get /openapi/v3",
                "create authorization.k8s.io selfsubjectaccessreviews",
            ],
            vec![
                "get /metrics",
                "list core configmaps a",
                "create authorization.k8s.io subjectaccessreviews",
            ],
        ),
        (
            &vera,
            vec![
                "list core configmaps a",
                "watch inf replicas a",
                "get inf modeldeployments/status a",
                "get events.k8s.io events a",
            ],
            vec![
                "get core secrets a",
                "create core configmaps a",
                "list core configmaps b",
                "list inf workers",
                "get rbac.authorization.k8s.io roles a",
            ],
        ),
        (
            &ed,
            vec![
                "list core configmaps a",
                "get core secrets a",
                "delete inf modeldeployments a",
                "update inf modeldeployments/scale a",
                "create core serviceaccounts/token a",
                "create coordination.k8s.io leases a",
                "impersonate core serviceaccounts a",
            ],
            vec![
                "create inf replicas a",
                "update inf autoscalers a",
                "create inf workers",
                "update core resourcequotas a",
                "patch inf modeldeployments/status a",
                "create rbac.authorization.k8s.io roles a",
                "create inf modeldeployments b",
            ],
        ),
        (
            &ada,
            vec![
                "create rbac.authorization.k8s.io rolebindings a",
                "patch inf modeldeployments a",
                "get core secrets a",
            ],
            vec![
                "create core resourcequotas a",
                "create rbac.authorization.k8s.io clusterroles",
                "delete core namespaces a",
            ],
        ),
        (&root, vec!["delete core namespaces", "post /anything"], vec![]),
        (
            &worker,
            vec![
                "watch inf replicas",
                "create inf workers",
                "patch inf workers/status",
                "patch inf replicas/status a",
                "patch inf replicas a",
                "update coordination.k8s.io leases setpoint-workers",
                "create core events a",
            ],
            vec![
                "update coordination.k8s.io leases a",
                "create inf replicas a",
                "patch inf replicas/binding a",
                "delete inf workers",
                "get core secrets a",
                "patch inf workers/lifecycle",
                "delete inf replicas a",
            ],
        ),
        (
            &gateway,
            vec![
                "watch inf modelroutes",
                "watch inf replicas",
                "patch inf autoscalers/signals a",
                "create events.k8s.io events a",
            ],
            vec![
                "patch inf autoscalers a",
                "patch inf autoscalers/status a",
                "patch inf replicas/status a",
                "get core secrets a",
            ],
        ),
    ] {
        for request in allowed {
            assert!(may(&rbac, user, request), "{} may not {request}", user.name);
        }
        for request in refused {
            assert!(!may(&rbac, user, request), "{} may {request}", user.name);
        }
    }
}

#[test]
fn every_object_is_marked_named_once_and_bound_to_a_role_that_exists() {
    let all = objects();
    let key = |object: &Value| {
        let namespace = object::namespace(object).unwrap_or("");
        format!("{} {namespace}/{}", object::kind(object), object::name(object))
    };
    let keys: HashSet<_> = all.iter().map(key).collect();
    assert_eq!(keys.len(), all.len(), "a name occurs twice");
    for object in &all {
        assert_eq!(
            object::label(object, "kubernetes.io/bootstrapping"),
            Some("rbac-defaults"),
            "{}",
            key(object)
        );
        assert_eq!(object::annotation(object, AUTOUPDATE), Some("true"), "{}", key(object));
        if let Some(role) = object.get("roleRef") {
            let kind = role["kind"].as_str().expect("kind");
            let namespace = if kind == "Role" {
                object::namespace(object).expect("namespace")
            } else {
                ""
            };
            let wanted = format!("{kind} {namespace}/{}", role["name"].as_str().expect("name"));
            assert!(keys.contains(&wanted), "{wanted}");
        }
    }
}

#[test]
fn a_reconciler_may_do_what_it_declares_and_nothing_else() {
    let inference = |resource: &str| GroupResource::new(INFERENCE, resource);
    let grant = ReconcilerGrant {
        name: "deployment".into(),
        reads: vec![
            inference("models"),
            inference("autoscalers"),
            inference("modeldeployments"),
        ],
        owns: vec![inference("replicas"), inference("autoscalers")],
        part: Some((inference("modeldeployments"), "status".into())),
        extra: vec![PolicyRule::resources(
            &["update"],
            &[INFERENCE],
            &["modeldeployments/finalizers"],
        )],
    };
    let rbac = Authorizer::new();
    grant.objects().iter().for_each(|object| rbac.upsert(object));
    let user = UserInfo::reconciler("deployment");
    for request in [
        "watch inf models",
        "list inf replicas",
        "create inf replicas a",
        "delete inf autoscalers a",
        "patch inf modeldeployments/status a",
        "create core events a",
        "update inf modeldeployments/finalizers a",
    ] {
        assert!(may(&rbac, &user, request), "{request}");
    }
    for request in [
        "create inf models a",
        "patch inf modeldeployments a",
        "patch inf replicas/status a",
        "patch inf replicas/binding a",
        "get core secrets a",
        "list inf workers",
        "deletecollection inf replicas a",
    ] {
        assert!(!may(&rbac, &user, request), "{request}");
    }
    assert!(!may(&rbac, &UserInfo::reconciler("other"), "watch inf models"));
    assert_eq!(
        grant.rules()[0].resources,
        ["autoscalers", "modeldeployments", "models", "replicas"]
    );
}

#[test]
fn upgrades_add_what_is_missing_and_keep_what_was_added() {
    let find = |kind: &str, name: &str| {
        let mut all = objects().into_iter();
        all.find(|object| object::kind(object) == kind && object::name(object) == name)
            .expect("object")
    };
    for object in objects() {
        assert_eq!(reconcile(&object, &object), Change::None, "{}", object::name(&object));
    }
    let wanted = find("ClusterRole", "system:basic-user");
    let mut stored = wanted.clone();
    stored["metadata"]["resourceVersion"] = "7".into();
    stored["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}, wanted["rules"][0]]);
    stored["metadata"]["labels"] = json!({"mine": "yes"});
    let Change::Update(next) = reconcile(&stored, &wanted) else {
        panic!("no update")
    };
    let rules = PolicyRule::list_from(&next);
    assert_eq!(rules[0], PolicyRule::urls(&["get"], &["/mine"]));
    assert!(crate::authz::covers(&rules, &PolicyRule::list_from(&wanted)));
    assert_eq!(
        next["metadata"]["labels"],
        json!({"mine": "yes", "kubernetes.io/bootstrapping": "rbac-defaults"})
    );
    assert_eq!(next["metadata"]["resourceVersion"], "7");
    assert_eq!(reconcile(&next, &wanted), Change::None);
    stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    assert_eq!(reconcile(&stored, &wanted), Change::None, "protected");

    // An aggregated role's rules belong to aggregation.
    let edit = find("ClusterRole", "edit");
    let mut filled = edit.clone();
    filled["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(reconcile(&filled, &edit), Change::None);
    filled["aggregationRule"] = Value::Null;
    let Change::Update(next) = reconcile(&filled, &edit) else {
        panic!("no update")
    };
    assert_eq!(next["aggregationRule"], edit["aggregationRule"]);

    let binding = find("ClusterRoleBinding", "cluster-admin");
    let mut fewer = binding.clone();
    fewer["subjects"] = json!([{"kind": "User", "name": "mine"}]);
    let Change::Update(next) = reconcile(&fewer, &binding) else {
        panic!("no update")
    };
    assert_eq!(next["subjects"].as_array().map(Vec::len), Some(2));
    fewer["roleRef"]["name"] = "view".into();
    assert_eq!(reconcile(&fewer, &binding), Change::Recreate(binding));

    // Ours: exactly this version's rules.
    let worker = find("ClusterRole", "system:setpoint:worker");
    let mut wide = worker.clone();
    wide["rules"] = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let Change::Update(next) = reconcile(&wide, &worker) else {
        panic!("no update")
    };
    assert_eq!(next["rules"], worker["rules"]);
}
