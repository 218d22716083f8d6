//! Deleting a CustomResourceDefinition deletes its objects, with their finalizers, before it goes.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::Shutdown;

/// Set by the API server on every CustomResourceDefinition.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const RETRY: Duration = Duration::from_millis(500);

/// Cleans up until shutdown.
pub async fn run(client: Client, shutdown: Shutdown) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut events = Box::pin(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    let mut pending: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(definition)) if waits(&definition) => pending.push(definition.name_any()),
                Some(_) => {}
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !pending.is_empty() => {}
        }
        let mut left = Vec::new();
        pending.sort();
        pending.dedup();
        for name in std::mem::take(&mut pending) {
            match clean(&client, &name).await {
                Ok(true) => {}
                Ok(false) => left.push(name),
                Err(error) => {
                    tracing::debug!(%error, name, "the objects of a definition could not be deleted; trying again");
                    left.push(name);
                }
            }
        }
        pending = left;
    }
}

fn waits(definition: &CustomResourceDefinition) -> bool {
    definition.metadata.deletion_timestamp.is_some() && definition.finalizers().iter().any(|f| f == CLEANUP)
}

/// Deletes the objects; whether the definition has been let go.
async fn clean(client: &Client, name: &str) -> kube::Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let Some(definition) = api.get_opt(name).await?.filter(waits) else {
        return Ok(true);
    };
    let Some(version) = definition.spec.versions.iter().find(|v| v.served) else {
        return release(&api, &definition).await;
    };
    let gvk = GroupVersionKind::gvk(&definition.spec.group, &version.name, &definition.spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &definition.spec.names.plural);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let found = all.list_metadata(&ListParams::default()).await?.items;
    for object in found.iter().filter(|o| o.metadata.deletion_timestamp.is_none()) {
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => all.clone(),
        };
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    if found.is_empty() {
        release(&api, &definition).await
    } else {
        Ok(false)
    }
}

async fn release(api: &Api<CustomResourceDefinition>, definition: &CustomResourceDefinition) -> kube::Result<bool> {
    let left: Vec<&String> = definition.finalizers().iter().filter(|f| *f != CLEANUP).collect();
    let patch = json!({"metadata": {"finalizers": left, "resourceVersion": definition.metadata.resource_version}});
    match api
        .patch(&definition.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(error) => Err(error),
    }
}
