//! rbac.authorization.k8s.io/v1 RoleBinding.

use super::rbac;
use crate::resource::ResourceDefinition;

const SCHEMA: &str = "io.k8s.api.rbac.v1.RoleBinding";

pub(super) fn definition() -> ResourceDefinition {
    rbac::draft(SCHEMA, "rolebindings")
        .columns(rbac::binding_columns(SCHEMA, "roleBinding"))
        .defaulter(rbac::default_binding)
        .validator(|new, old| rbac::validate_binding(new, old, true))
        .build()
}
