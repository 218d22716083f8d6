//! Which kinds there are, by discovery.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    discovery::{Discovery, Scope, verbs},
};

/// A kind that can be listed and deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    /// Whether a whole collection can be deleted in one request.
    pub(crate) collections: bool,
}

/// Every kind, each once, in its preferred version. `events.k8s.io` is left out: its events are core's in other words.
pub(crate) async fn all(client: &Client) -> kube::Result<Vec<Kind>> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
    let usable = kinds.filter(|(r, c)| {
        c.supports_operation(verbs::LIST) && c.supports_operation(verbs::DELETE) && r.group != "events.k8s.io"
    });
    Ok(usable
        .map(|(resource, capabilities)| Kind {
            namespaced: capabilities.scope == Scope::Namespaced,
            collections: capabilities.supports_operation(verbs::DELETE_COLLECTION),
            resource,
        })
        .collect())
}

impl Kind {
    /// The API of the kind in a namespace (ignored for cluster-scoped kinds).
    pub(crate) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        match (self.namespaced, namespace) {
            (true, namespace) if !namespace.is_empty() => {
                Api::namespaced_with(client.clone(), namespace, &self.resource)
            }
            _ => Api::all_with(client.clone(), &self.resource),
        }
    }
}
