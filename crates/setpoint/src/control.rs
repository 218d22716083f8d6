//! What a server runs beside the API: reconcilers and system loops, each an ordinary client of the API under an identity of its own.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use setpoint_apiserver::{ApiServer, Shutdown};
use setpoint_engine::{ENGINE_IDENTITY, Engine, Metrics};
use setpoint_govern::{
    UserInfo,
    authz::PolicyRule,
    bootstrap::{self, LEASE_NAMESPACE},
    quota::Measure,
    user::{AUTHENTICATED, MASTERS, RECONCILERS},
};
use setpoint_reconcile::{Declaration, Pass, Reconciler};
use tokio::task::JoinSet;

/// Who the system loops are. They work on any kind, so they have the administrator's rights; they are the only ones.
const SYSTEM: &str = "system:setpoint:system";

/// What must exist in every control plane: namespaces, roles, and the reconcilers' rights by their declarations.
pub(crate) fn bootstrap() -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut objects: Vec<Value> = [
        "default",
        "kube-system",
        "kube-public",
        "kube-node-lease",
        LEASE_NAMESPACE,
    ]
    .map(namespace)
    .to_vec();
    objects.extend(bootstrap::objects());
    let declarations = declarations();
    for declaration in &declarations {
        objects.extend(bootstrap::reconciler_objects(declaration.name, rules(declaration)));
    }
    objects.extend(engine_role(&declarations));
    objects
}

/// Every reconciler's declaration.
fn declarations() -> Vec<Declaration> {
    setpoint_inference::registry::declarations()
}

fn rules(declaration: &Declaration) -> Vec<PolicyRule> {
    let rules = serde_json::to_value(declaration.policy_rules()).unwrap_or_default();
    PolicyRule::list_from(&json!({"rules": rules}))
}

/// The engine's shared watches read what any reconciler reads.
fn engine_role(declarations: &[Declaration]) -> [Value; 2] {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in declarations.iter().flat_map(Declaration::watches) {
        kinds
            .entry(kind.group.to_string())
            .or_default()
            .push(kind.plural.to_string());
    }
    let rules = kinds.into_iter().map(|(group, mut plurals)| {
        plurals.sort();
        plurals.dedup();
        let plurals: Vec<&str> = plurals.iter().map(String::as_str).collect();
        PolicyRule::resources(&["get", "list", "watch"], &[&group], &plurals)
    });
    let rules: Vec<PolicyRule> = rules.collect();
    let role = "system:setpoint:engine";
    let meta = json!({"name": role, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
    [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ENGINE_IDENTITY}]}),
    ]
}

/// The quota measures of the kinds that the binary ships.
pub(crate) fn measures() -> Vec<Arc<dyn Measure>> {
    crate::measures::all()
}

/// The running loops.
pub(crate) struct Control {
    tasks: JoinSet<()>,
}

impl Control {
    /// Waits until all have ended, which they do on shutdown.
    pub(crate) async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts the reconcilers and the system loops.
pub(crate) fn start(server: &ApiServer, ca_pem: &str, shutdown: Shutdown) -> Control {
    let mut tasks = JoinSet::new();
    let api = server.clone();
    let mut metrics = None;
    server
        .metrics()
        .register(|registry| metrics = Some(Metrics::register(registry)));
    let engine = Engine::builder(move |user: &str| client(&api, user)).metrics(metrics.unwrap_or_default());
    let mut registrar = Registrar(Some(engine));
    setpoint_inference::registry::register(&mut registrar, Timestamp::now());
    if let Some(engine) = registrar.0 {
        // the embedded store has one process at a time, which holds its lock: nobody to elect
        let stop = shutdown.clone();
        tasks.spawn(async move { engine.run(stop.cancelled_owned()).await });
    }
    let system = || client(server, SYSTEM);
    tasks.spawn(setpoint_system::garbage::run(system(), shutdown.clone()));
    tasks.spawn(setpoint_system::namespaces::run(system(), shutdown.clone()));
    tasks.spawn(setpoint_system::definitions::run(system(), shutdown.clone()));
    tasks.spawn(setpoint_system::accounts::run(
        system(),
        ca_pem.to_owned(),
        shutdown.clone(),
    ));
    let used = server.clone();
    let used: setpoint_system::quota::Used = Arc::new(move |namespace: String| {
        let server = used.clone();
        Box::pin(async move { server.quota_used(&namespace).await })
    });
    tasks.spawn(setpoint_system::quota::run(system(), used, shutdown));
    Control { tasks }
}

/// Hands the domain's reconcilers to the engine.
struct Registrar(Option<setpoint_engine::Builder>);

impl setpoint_inference::registry::Registrar for Registrar {
    fn reconciler<R: Reconciler>(&mut self, reconciler: R) {
        self.0 = self.0.take().map(|engine| engine.register(reconciler));
    }

    fn pass<P: Pass>(&mut self, pass: P) {
        self.0 = self.0.take().map(|engine| engine.register_pass(pass));
    }
}

/// A client in this process that acts as the user.
fn client(server: &ApiServer, user: &str) -> Client {
    let groups = if user == SYSTEM {
        [MASTERS, AUTHENTICATED]
    } else {
        [RECONCILERS, AUTHENTICATED]
    };
    Client::new(server.client_service(UserInfo::new(user, groups)), "default")
}
