//! Authorization: RBAC over an index that follows the store.
//!
//! The index is rebuilt when roles or bindings change, on the thread that applies the change to the watch cache, so a revoked right is
//! gone for every request that starts after the revocation was acknowledged.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use setpoint_cache::{Change, Event};
use setpoint_govern::{Attributes, UserInfo, authz::Authorizer};

use crate::{Answer, request::RequestInfo};

/// The prefixes that the index follows.
pub(crate) const FOLLOWED: [&str; 4] = [
    "/registry/rbac.authorization.k8s.io/roles/",
    "/registry/rbac.authorization.k8s.io/rolebindings/",
    "/registry/rbac.authorization.k8s.io/clusterroles/",
    "/registry/rbac.authorization.k8s.io/clusterrolebindings/",
];

/// The live authorizer.
#[derive(Default)]
pub(crate) struct Authorization {
    building: Mutex<Authorizer>,
    current: ArcSwap<Authorizer>,
}

impl Authorization {
    /// The index now.
    pub(crate) fn current(&self) -> Arc<Authorizer> {
        self.current.load_full()
    }

    /// Follows events of the resources in [`FOLLOWED`].
    pub(crate) fn follow(&self, events: &[Arc<Event>]) {
        let mut building = self.building.lock();
        for event in events {
            let tree = event.object.parse();
            if event.change == Change::Deleted { building.remove(&tree) } else { building.upsert(&tree) }
        }
        self.current.store(Arc::new(building.clone()));
    }

    /// Whether the user may do what the request asks; 403 in Kubernetes' words otherwise.
    pub(crate) fn check(&self, user: &UserInfo, info: &RequestInfo) -> Answer<setpoint_govern::Decision> {
        let attributes = attributes(user, info);
        let decision = self.current.load().authorize(&attributes);
        if decision.is_allowed() { Ok(decision) } else { Err(attributes.forbidden(decision.reason()).into()) }
    }
}

/// The request as authorization and audit see it.
pub(crate) fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    let Some(path) = &info.resource else { return Attributes::non_resource(user, info.verb, &info.path) };
    Attributes {
        api_version: &path.version,
        subresource: &path.subresource,
        namespace: &path.namespace,
        name: &path.name,
        path: &info.path,
        ..Attributes::resource(user, info.verb, &path.group, &path.resource)
    }
}
