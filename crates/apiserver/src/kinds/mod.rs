//! What is special about a kind on its way in: one file a kind, one line in [`of`]. Everything that every kind does is in
//! [`strategy`](crate::strategy).

mod config;
mod crd;
mod namespace;
mod rbac;

use jiff::Timestamp;
use serde_json::Value;
use setpoint_definition::ResourceDefinition;
use setpoint_meta::field::FieldError;

use crate::strategy::Target;

/// The special treatment of a kind. The defaults do nothing.
pub(crate) trait Strategy: Sync {
    /// After defaulting, before validation.
    fn prepare_create(&self, _new: &mut Value, _now: Timestamp) {}
    /// After parts and metadata have been carried over.
    fn prepare_update(&self, _target: &Target, _old: &Value, _new: &mut Value) {}
    /// Rules that the schema cannot say.
    fn validate(&self, _target: &Target, _new: &Value, _old: Option<&Value>, _errors: &mut Vec<FieldError>) {}
    /// Run when the object is to be deleted but something must go first; `true` keeps it, terminating, even without finalizers.
    fn begin_delete(&self, _object: &mut Value) -> bool {
        false
    }
}

struct Ordinary;

impl Strategy for Ordinary {}

/// The special treatment of this kind.
pub(crate) fn of(definition: &ResourceDefinition) -> &'static dyn Strategy {
    match (&*definition.group, &*definition.plural) {
        ("", "namespaces") => &namespace::Namespaces,
        ("", "configmaps") => &config::ConfigMaps,
        ("", "secrets") => &config::Secrets,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &crd::CustomResourceDefinitions,
        ("rbac.authorization.k8s.io", "clusterroles") => &rbac::Roles,
        ("rbac.authorization.k8s.io", "roles") => &rbac::Roles,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &rbac::Bindings,
        _ => &Ordinary,
    }
}
