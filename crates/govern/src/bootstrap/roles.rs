//! The default objects. Source: Kubernetes' RBAC documentation, "Default roles and role bindings", and the objects that a cluster of
//! 1.36 serves, cut down to the resources that exist here.

use serde_json::{Value, json};

use super::{
    INFERENCE, OWN_PREFIX, READ, WRITE, aggregated, cluster_binding, cluster_role, metadata, part_of, subject,
};
use crate::{
    authz::{ALL, GROUP, PolicyRule},
    user::{AUTHENTICATED, GATEWAYS, MASTERS, SERVICE_ACCOUNTS, UNAUTHENTICATED, WORKERS},
};

/// The namespace of the workers' heartbeat Leases. It must exist before a worker can register.
pub const LEASE_NAMESPACE: &str = "setpoint-workers";

/// Every default ClusterRole, Role and binding, in an order in which they can be created.
pub fn objects() -> Vec<Value> {
    let mut all = system_roles();
    all.extend(user_roles());
    all.extend(inference_parts());
    all.extend(data_plane());
    all
}

/// What the server itself, health checks and discovery need.
fn system_roles() -> Vec<Value> {
    let group = |name| subject("Group", name);
    let info = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let monitoring = [
        "/healthz",
        "/healthz/*",
        "/livez",
        "/livez/*",
        "/metrics",
        "/metrics/*",
        "/readyz",
        "/readyz/*",
    ];
    let issuer = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    let get = |urls: &[&str]| vec![PolicyRule::urls(&["get"], urls)];
    let rule = PolicyRule::resources;
    let access = "authorization.k8s.io";
    let bound = |name: &str, rules: Vec<PolicyRule>, subjects: &[Value]| {
        [cluster_role(name, rules), cluster_binding(name, name, subjects)]
    };
    let everything = vec![rule(&[ALL], &[ALL], &[ALL]), PolicyRule::urls(&[ALL], &[ALL])];
    let basic = vec![
        rule(
            &["create"],
            &[access],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        ),
        rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    ];
    let delegator = vec![
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &[access], &["subjectaccessreviews"]),
    ];
    let public = [group(AUTHENTICATED), group(UNAUTHENTICATED)];
    let mut all = vec![cluster_role("system:auth-delegator", delegator)];
    all.extend(bound("cluster-admin", everything, &[group(MASTERS)]));
    all.extend(bound("system:basic-user", basic, &[group(AUTHENTICATED)]));
    all.extend(bound("system:discovery", get(&discovery), &[group(AUTHENTICATED)]));
    all.extend(bound("system:public-info-viewer", get(&info), &public));
    all.extend(bound(
        "system:monitoring",
        get(&monitoring),
        &[group("system:monitoring")],
    ));
    all.extend(bound(
        "system:service-account-issuer-discovery",
        get(&issuer),
        &[group(SERVICE_ACCOUNTS)],
    ));
    all
}

/// `admin` ⊃ `edit` ⊃ `view`, by aggregation.
fn user_roles() -> Vec<Value> {
    let rule = PolicyRule::resources;
    let labelled = |name: &str, within: &str| {
        let mut role = aggregated(name);
        role["metadata"]["labels"][super::aggregation_label(within)] = "true".into();
        role
    };
    let admin = vec![
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
        rule(&[READ, WRITE].concat(), &[GROUP], &["rolebindings", "roles"]),
    ];
    let edit = vec![
        rule(READ, &[""], &["secrets"]),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
        rule(WRITE, &[""], &["configmaps", "events", "secrets", "serviceaccounts"]),
        rule(&[READ, WRITE].concat(), &["coordination.k8s.io"], &["leases"]),
    ];
    let view = vec![
        rule(
            READ,
            &[""],
            &[
                "configmaps",
                "events",
                "namespaces",
                "namespaces/status",
                "resourcequotas",
                "resourcequotas/status",
                "serviceaccounts",
            ],
        ),
        rule(READ, &["events.k8s.io"], &["events"]),
    ];
    vec![
        aggregated("admin"),
        labelled("edit", "admin"),
        labelled("view", "edit"),
        part_of("admin", "system:aggregate-to-admin", admin),
        part_of("edit", "system:aggregate-to-edit", edit),
        part_of("view", "system:aggregate-to-view", view),
    ]
}

/// What the inference domain adds to `edit` and `view`: users declare models, deployments and routes; Autoscalers and Replicas are
/// made by reconcilers, so users look at them and no more. That is also what makes a quota on deployments a quota on replicas.
fn inference_parts() -> Vec<Value> {
    let rule = PolicyRule::resources;
    let edit = vec![rule(
        WRITE,
        &[INFERENCE],
        &["modeldeployments", "modeldeployments/scale", "modelroutes", "models"],
    )];
    let view = vec![rule(
        READ,
        &[INFERENCE],
        &[
            "autoscalers",
            "autoscalers/status",
            "gpuflavors",
            "gpupools",
            "gpupools/status",
            "modeldeployments",
            "modeldeployments/scale",
            "modeldeployments/status",
            "modelroutes",
            "modelroutes/status",
            "models",
            "models/status",
            "replicas",
            "replicas/status",
            "workers",
            "workers/status",
        ],
    )];
    vec![
        part_of("edit", "system:inference:aggregate-to-edit", edit),
        part_of("view", "system:inference:aggregate-to-view", view),
    ]
}

/// Workers and gateways. RBAC cannot say "its own": [`crate::restriction`] does.
fn data_plane() -> Vec<Value> {
    let rule = PolicyRule::resources;
    let events = rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]);
    let change = &["get", "patch", "update"];
    let worker = vec![
        rule(
            READ,
            &[INFERENCE],
            &["modeldeployments", "models", "replicas", "workers"],
        ),
        rule(&["create", "patch", "update"], &[INFERENCE], &["workers"]),
        // The agent takes its finalizer off a replica whose process is gone.
        rule(&["patch", "update"], &[INFERENCE], &["replicas"]),
        rule(change, &[INFERENCE], &["replicas/status", "workers/status"]),
        events.clone(),
    ];
    let gateway = vec![
        rule(
            READ,
            &[INFERENCE],
            &["autoscalers", "modeldeployments", "modelroutes", "models", "replicas"],
        ),
        rule(change, &[INFERENCE], &["autoscalers/signals"]),
        events,
    ];
    let leases = vec![rule(
        &["create", "get", "patch", "update"],
        &["coordination.k8s.io"],
        &["leases"],
    )];
    let (worker_name, gateway_name) = (format!("{OWN_PREFIX}worker"), format!("{OWN_PREFIX}gateway"));
    let workers = [subject("Group", WORKERS)];
    vec![
        cluster_role(&worker_name, worker),
        cluster_binding(&worker_name, &worker_name, &workers),
        in_lease_namespace(json!({"kind": "Role", "rules": leases}), &worker_name),
        in_lease_namespace(
            json!({"kind": "RoleBinding", "subjects": workers,
                "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": worker_name}}),
            &worker_name,
        ),
        cluster_role(&gateway_name, gateway),
        cluster_binding(&gateway_name, &gateway_name, &[subject("Group", GATEWAYS)]),
    ]
}

fn in_lease_namespace(mut object: Value, name: &str) -> Value {
    object["apiVersion"] = format!("{GROUP}/v1").into();
    object["metadata"] = metadata(name);
    object["metadata"]["namespace"] = LEASE_NAMESPACE.into();
    object
}
