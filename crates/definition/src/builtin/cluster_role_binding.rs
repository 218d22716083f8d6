//! rbac.authorization.k8s.io/v1 ClusterRoleBinding.

use super::rbac;
use crate::resource::ResourceDefinition;

const SCHEMA: &str = "io.k8s.api.rbac.v1.ClusterRoleBinding";

pub(super) fn definition() -> ResourceDefinition {
    rbac::draft(SCHEMA, "clusterrolebindings")
        .cluster()
        .columns(rbac::binding_columns(SCHEMA, "clusterRoleBinding"))
        .defaulter(rbac::default_binding)
        .validator(|new, old| rbac::validate_binding(new, old, false))
        .build()
}
