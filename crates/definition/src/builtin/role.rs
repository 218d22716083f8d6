//! rbac.authorization.k8s.io/v1 Role.

use super::rbac;
use crate::resource::ResourceDefinition;

pub(super) fn definition() -> ResourceDefinition {
    rbac::draft("io.k8s.api.rbac.v1.Role", "roles")
        .validator(|new, _| rbac::validate_rules(new, true))
        .build()
}
