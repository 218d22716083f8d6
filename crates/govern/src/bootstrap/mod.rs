//! The roles that a server starts with: Kubernetes' default ClusterRoles for what exists here, and those of Setpoint's own parts.
//!
//! [`objects`] makes them; [`reconcile`] says how a stored one must change to be complete again after an upgrade.
//!
//! # Guarantees
//! - The names, labels and meaning of Kubernetes' default roles are kept, so that published manifests which bind to `view`, `edit`,
//!   `admin` or extend them by aggregation labels work.
//! - What an administrator added to a default role stays. With the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`
//!   an object is left alone altogether.
//! - Roles whose name starts with `system:setpoint:` belong to this program: they get exactly the rules of this version, no more, so
//!   that a right that a reconciler no longer declares goes away.
//!
//! # How to get it wrong
//! Adding a rule to `admin`, `edit` or `view` themselves: their rules are aggregated, so the addition is overwritten. Make a
//! ClusterRole with the label `rbac.authorization.k8s.io/aggregate-to-edit: "true"` instead.

mod grant;
mod reconcile;
mod roles;

use serde_json::{Value, json};

use crate::authz::{GROUP, PolicyRule};

pub use grant::{ReconcilerGrant, reconciler_objects};
pub use reconcile::{Change, reconcile};
pub use roles::{LEASE_NAMESPACE, objects};

/// The annotation that, when `"false"`, keeps [`reconcile`] away from an object.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The prefix of the roles that are ours alone.
pub const OWN_PREFIX: &str = "system:setpoint:";

const INFERENCE: &str = "inference.setpoint.dev";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    })
}

fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole", "metadata": metadata(name), "rules": rules,
    })
}

/// A ClusterRole that takes part in another's aggregation.
fn part_of(whole: &str, name: &str, rules: Vec<PolicyRule>) -> Value {
    let mut role = cluster_role(name, rules);
    role["metadata"]["labels"][aggregation_label(whole)] = "true".into();
    role
}

/// A ClusterRole whose rules come from others.
fn aggregated(name: &str) -> Value {
    let mut role = cluster_role(name, Vec::new());
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {aggregation_label(name): "true"}}]});
    role
}

fn aggregation_label(whole: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{whole}")
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": kind, "name": name})
}

fn cluster_binding(name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata(name),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}, "subjects": subjects,
    })
}

#[cfg(test)]
mod tests;
