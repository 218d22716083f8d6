//! Whoever may write roles and bindings may not thereby get more than he has (RBAC escalation prevention).

use setpoint_govern::authz::RbacKind;

use super::{Attributes, Operation};
use crate::Answer;

pub(super) fn admit(attributes: &Attributes<'_>) -> Answer<()> {
    let cx = attributes.cx;
    let Some(new) = attributes.new.filter(|_| attributes.operation != Operation::Delete) else {
        return Ok(());
    };
    if &*cx.definition().group != setpoint_govern::authz::GROUP {
        return Ok(());
    }
    let Some(kind) = RbacKind::parse(&cx.definition().kind) else {
        return Ok(());
    };
    let authorizer = &cx.server.authorization.authorizer;
    match kind {
        RbacKind::Role | RbacKind::ClusterRole => authorizer.check_role(&cx.user, kind, attributes.old, new)?,
        RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
            authorizer.check_binding(&cx.user, kind, attributes.old, new)?;
        }
    }
    Ok(())
}
