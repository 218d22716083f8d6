//! Authorization: RBAC over an index that follows the store.
//!
//! The index takes each change on the task that applies it to the watch cache, before the cache announces it. The answer to the write
//! that made the change does not wait for that, so a revoked right can outlive the answer by the microseconds that the cache is behind.

use std::sync::Arc;

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
    /// The index.
    pub(crate) authorizer: Authorizer,
}

impl Authorization {
    /// Follows events of the resources in [`FOLLOWED`].
    pub(crate) fn follow(&self, events: &[Arc<Event>]) {
        for event in events {
            let tree = event.object.parse();
            if event.change == Change::Deleted {
                self.authorizer.remove(&tree)
            } else {
                self.authorizer.upsert(&tree)
            }
        }
    }

    /// Whether the user may do what the request asks; 403 in Kubernetes' words otherwise.
    pub(crate) fn check(&self, user: &UserInfo, info: &RequestInfo) -> Answer<setpoint_govern::Decision> {
        let attributes = attributes(user, info);
        let decision = self.authorizer.authorize(&attributes);
        if decision.is_allowed() {
            Ok(decision)
        } else {
            Err(attributes.forbidden(decision.reason()).into())
        }
    }
}

/// The request as authorization and audit see it.
pub(crate) fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    let Some(path) = &info.resource else {
        return Attributes::non_resource(user, info.verb, &info.path);
    };
    Attributes {
        api_version: &path.version,
        subresource: &path.subresource,
        namespace: &path.namespace,
        name: &path.name,
        path: &info.path,
        ..Attributes::resource(user, info.verb, &path.group, &path.resource)
    }
}
