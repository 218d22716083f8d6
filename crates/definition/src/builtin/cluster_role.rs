//! rbac.authorization.k8s.io/v1 ClusterRole.

use super::rbac;
use crate::resource::ResourceDefinition;

pub(super) fn definition() -> ResourceDefinition {
    rbac::draft("io.k8s.api.rbac.v1.ClusterRole", "clusterroles")
        .cluster()
        .validator(|new, _| rbac::validate_rules(new, false))
        .build()
}
