//! What is special about a kind on its way in and needs the old object, the clock or the request's target: one file a kind, one line in
//! [`of`]. Defaults and validation of a kind are in its definition; what every kind does is in [`strategy`](crate::strategy).

mod crd;
mod namespace;

use jiff::Timestamp;
use serde_json::Value;
use setpoint_definition::ResourceDefinition;

use crate::strategy::Target;

/// The special treatment of a kind. The defaults do nothing.
pub(crate) trait Strategy: Sync {
    /// After defaulting, before validation.
    fn prepare_create(&self, _new: &mut Value, _now: Timestamp) {}
    /// After parts and metadata have been carried over.
    fn prepare_update(&self, _target: &Target, _old: &Value, _new: &mut Value) {}
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
        ("apiextensions.k8s.io", "customresourcedefinitions") => &crd::CustomResourceDefinitions,
        _ => &Ordinary,
    }
}
