//! What RBAC cannot say: a worker and a gateway write only what is *theirs*.
//!
//! RBAC gives the group `system:workers` the right to write any Worker, any heartbeat Lease and the status of any Replica. Here the
//! name in the user (`system:worker:NAME`) is compared with the object: a stolen worker's credential harms that worker and the
//! replicas that are bound to it, nothing else. It is the counterpart of Kubernetes' NodeRestriction admission plugin.
//!
//! # How to get it wrong
//! Calling it before the object is known: on an update it judges by the *stored* object, so that a worker cannot bind a replica to
//! itself in the same write in which it needs to be bound.

use serde_json::Value;
use setpoint_meta::Status;

use crate::{
    Attributes,
    bootstrap::LEASE_NAMESPACE,
    user::{GATEWAYS, WORKERS},
};

const INFERENCE: &str = "inference.setpoint.dev";

/// May the user of this write make it? `stored` is the object before the write, `new` the one after it; `None` where there is none.
/// Users that are neither workers nor gateways, and reads, always may.
///
/// # Errors
/// 403 that says whose the object is.
pub fn check(attributes: &Attributes<'_>, stored: Option<&Value>, new: Option<&Value>) -> Result<(), Status> {
    if attributes.is_read_only() {
        return Ok(());
    }
    let user = attributes.user;
    if user.is_in(WORKERS) {
        let why = match user.name.strip_prefix("system:worker:").filter(|name| !name.is_empty()) {
            Some(worker) => worker_problem(worker, attributes, stored, new),
            None => Some(format!("members of {WORKERS} must be named system:worker:NAME")),
        };
        return why.map_or(Ok(()), |why| refuse(attributes, &why));
    }
    if user.is_in(GATEWAYS) {
        let named = user
            .name
            .strip_prefix("system:gateway:")
            .is_some_and(|name| !name.is_empty());
        if !named {
            return refuse(
                attributes,
                &format!("members of {GATEWAYS} must be named system:gateway:NAME"),
            );
        }
    }
    Ok(())
}

fn refuse(attributes: &Attributes<'_>, why: &str) -> Result<(), Status> {
    Err(attributes.forbidden(why))
}

fn worker_problem(
    worker: &str,
    attributes: &Attributes<'_>,
    stored: Option<&Value>,
    new: Option<&Value>,
) -> Option<String> {
    // A create carries its name in the object.
    let name = match attributes.name {
        "" => new.map_or("", setpoint_meta::object::name),
        name => name,
    };
    match (attributes.api_group, attributes.resource) {
        (INFERENCE, "workers") if name != worker => {
            Some(format!("worker {worker:?} may write only the Worker of its own name"))
        }
        ("coordination.k8s.io", "leases") if name != worker || attributes.namespace != LEASE_NAMESPACE => Some(
            format!("worker {worker:?} may write only the Lease of its own name in {LEASE_NAMESPACE}"),
        ),
        (INFERENCE, "replicas") => {
            let bound_to = |replica: &Value| {
                replica
                    .pointer("/binding/worker")
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            let owner = stored.and_then(bound_to);
            (owner.as_deref() != Some(worker))
                .then(|| format!("worker {worker:?} may write only Replicas that are bound to it"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::UserInfo;

    #[test]
    fn a_worker_writes_only_what_is_its_own() {
        let w1 = UserInfo::new("system:worker:w1", [WORKERS]);
        let mine = json!({"metadata": {"name": "r"}, "binding": {"worker": "w1"}});
        let theirs = json!({"metadata": {"name": "r"}, "binding": {"worker": "w2"}});
        let free = json!({"metadata": {"name": "r"}});
        let named = |name: &str| json!({"metadata": {"name": name}});
        let on = |verb, resource| Attributes::resource(&w1, verb, INFERENCE, resource);
        let replica = on("patch", "replicas")
            .in_namespace("a")
            .named("r")
            .subresource("status");
        let lease =
            |verb, namespace| Attributes::resource(&w1, verb, "coordination.k8s.io", "leases").in_namespace(namespace);
        for (attributes, stored, new, allowed) in [
            (on("create", "workers"), None, Some(&named("w1")), true),
            (on("create", "workers"), None, Some(&named("w2")), false),
            (
                on("patch", "workers").named("w1").subresource("status"),
                None,
                None,
                true,
            ),
            (
                on("patch", "workers").named("w2").subresource("status"),
                None,
                None,
                false,
            ),
            (on("get", "workers").named("w2"), None, None, true),
            (lease("update", LEASE_NAMESPACE).named("w1"), None, None, true),
            (lease("update", LEASE_NAMESPACE).named("w2"), None, None, false),
            (lease("create", LEASE_NAMESPACE), None, Some(&named("w2")), false),
            (lease("update", "a").named("w1"), None, None, false),
            (replica, Some(&mine), Some(&mine), true),
            (replica, Some(&theirs), Some(&theirs), false),
            (replica, Some(&free), Some(&mine), false),
            (replica, Some(&theirs), Some(&mine), false),
            (
                Attributes::resource(&w1, "create", "", "events").in_namespace("a"),
                None,
                None,
                true,
            ),
        ] {
            let answer = check(&attributes, stored, new);
            assert_eq!(answer.is_ok(), allowed, "{attributes:?}: {answer:?}");
        }
        let nameless = UserInfo::new("mallory", [WORKERS]);
        check(
            &Attributes::resource(&nameless, "create", INFERENCE, "workers"),
            None,
            None,
        )
        .expect_err("no name");
        let gateway = UserInfo::new("mallory", [GATEWAYS]);
        check(
            &Attributes::resource(&gateway, "patch", INFERENCE, "autoscalers"),
            None,
            None,
        )
        .expect_err("no name");
        let jane = UserInfo::new("jane", ["devs"]);
        check(
            &Attributes::resource(&jane, "patch", INFERENCE, "replicas"),
            Some(&theirs),
            None,
        )
        .expect("not a worker");
    }
}
