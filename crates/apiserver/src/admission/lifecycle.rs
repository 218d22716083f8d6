//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away, and the namespaces that the system
//! lives in stay.

use setpoint_definition::Scope;
use setpoint_meta::{
    GroupResource, object,
    status::{Cause, Status},
};

use super::{Attributes, Operation};
use crate::Answer;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn admit(attributes: &Attributes<'_>) -> Answer<()> {
    let cx = attributes.cx;
    let definition = cx.definition();
    let is_namespace = definition.group.is_empty() && &*definition.plural == "namespaces";
    if is_namespace && attributes.operation == Operation::Delete {
        let name = attributes.old.map(object::name).unwrap_or_default();
        if IMMORTAL.contains(&name) {
            return Err(Status::forbidden(&cx.group_resource(), name, "this namespace may not be deleted").into());
        }
    }
    if definition.scope != Scope::Namespaced || attributes.operation != Operation::Create {
        return Ok(());
    }
    let namespace = cx.namespace();
    let namespaces = cx.server.cache.resource("/registry/core/namespaces/");
    let key = format!("/registry/core/namespaces/{namespace}");
    let found = match namespaces.get(&key) {
        Some(found) => Some(found),
        None => {
            // a namespace that was created a moment ago on another server
            cx.server
                .cache
                .fresh()
                .await
                .map_err(|e| crate::handlers::list::cache_status(&e))?;
            namespaces.get(&key)
        }
    };
    let Some(found) = found else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), namespace).into());
    };
    if object::deletion_timestamp(&found.parse()).is_some() {
        let name = attributes.new.map(object::name).unwrap_or_default();
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&cx.group_resource(), name, why);
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        status.details.get_or_insert_default().causes.push(cause);
        return Err(status.into());
    }
    Ok(())
}
