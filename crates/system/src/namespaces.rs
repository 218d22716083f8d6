//! Namespace deletion: Terminating → content deleted → conditions say what remains and which finalizers → `finalize`.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::{Shutdown, kinds};

/// How often a namespace that is not empty yet is looked at again.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Empties terminating namespaces until shutdown.
pub async fn run(client: Client, shutdown: Shutdown) {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut events = Box::pin(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects(),
    );
    let mut working: BTreeMap<String, tokio::task::JoinHandle<()>> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.next() => event,
        };
        let Some(event) = event else { break };
        working.retain(|_, task| !task.is_finished());
        let Ok(namespace) = event else { continue };
        let name = namespace.name_any();
        if namespace.metadata.deletion_timestamp.is_some() && !working.contains_key(&name) {
            working.insert(name.clone(), tokio::spawn(empty(client.clone(), name)));
        }
    }
    working.into_values().for_each(|task| task.abort());
}

/// Works on one namespace until it is gone.
async fn empty(client: Client, name: String) {
    let mut pause = RETRY;
    loop {
        match step(&client, &name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, name, "a namespace could not be emptied; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// What is left of a namespace's content.
#[derive(Debug, Default)]
struct Remaining {
    /// `PLURAL.GROUP` and how many.
    kinds: BTreeMap<String, usize>,
    /// Finalizer and how many objects it keeps.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, and why.
    failures: Vec<String>,
}

/// Deletes what is there; whether the namespace is done with.
async fn step(client: &Client, name: &str) -> kube::Result<bool> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let Some(namespace) = namespaces.get_opt(name).await? else {
        return Ok(true);
    };
    if namespace.metadata.deletion_timestamp.is_none() {
        return Ok(true);
    }
    let remaining = delete_content(client, name).await?;
    if remaining.kinds.is_empty() && remaining.failures.is_empty() {
        finalize(client, &namespace).await?;
        return Ok(true);
    }
    report(&namespaces, &namespace, &remaining).await?;
    Ok(false)
}

async fn delete_content(client: &Client, name: &str) -> kube::Result<Remaining> {
    let mut remaining = Remaining::default();
    for kind in kinds::all(client).await?.into_iter().filter(|k| k.namespaced) {
        let api = kind.api(client, name);
        let shown = if kind.resource.group.is_empty() {
            kind.resource.plural.clone()
        } else {
            format!("{}.{}", kind.resource.plural, kind.resource.group)
        };
        let found = api.list_metadata(&ListParams::default()).await?.items;
        if found.is_empty() {
            continue;
        }
        if found.iter().any(|o| o.metadata.deletion_timestamp.is_none()) {
            let deleted = match kind.collections {
                true => api
                    .delete_collection(&DeleteParams::background(), &ListParams::default())
                    .await
                    .map(drop),
                false => delete_each(&api, &found).await,
            };
            if let Err(error) = deleted {
                remaining.failures.push(format!("{shown}: {error}"));
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?.items;
        if !left.is_empty() {
            remaining.kinds.insert(shown, left.len());
        }
        for finalizer in left.iter().flat_map(|o| o.metadata.finalizers.iter().flatten()) {
            *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
    Ok(remaining)
}

async fn delete_each(
    api: &Api<kube::api::DynamicObject>,
    found: &[kube::core::PartialObjectMeta<kube::api::DynamicObject>],
) -> kube::Result<()> {
    for object in found {
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Takes `kubernetes` out of `spec.finalizers`, which lets the namespace go.
async fn finalize(client: &Client, namespace: &Namespace) -> kube::Result<()> {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != "kubernetes");
    }
    let body = serde_json::to_vec(&namespace).map_err(kube::Error::SerdeError)?;
    let path = format!("/api/v1/namespaces/{}/finalize", namespace.name_any());
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    match client.request::<serde_json::Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Says in the namespace's conditions what keeps it.
async fn report(api: &Api<Namespace>, namespace: &Namespace, remaining: &Remaining) -> kube::Result<()> {
    let list = |map: &BTreeMap<String, usize>, what: &str| {
        map.iter()
            .map(|(k, n)| format!("{k} {what} {n} resource instances"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let wanted = [
        (
            "NamespaceDeletionContentFailure",
            !remaining.failures.is_empty(),
            "ContentDeletionFailed",
            "ContentDeleted",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                remaining.failures.len(),
                remaining.failures.join("; ")
            ),
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            !remaining.kinds.is_empty(),
            "SomeResourcesRemain",
            "ContentRemoved",
            format!("Some resources are remaining: {}", list(&remaining.kinds, "has")),
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            !remaining.finalizers.is_empty(),
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                list(&remaining.finalizers, "in")
            ),
            "All content-preserving finalizers finished",
        ),
    ];
    let before = namespace
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let conditions: Vec<NamespaceCondition> = wanted
        .into_iter()
        .map(|(type_, yes, bad, good, message, fine)| {
            let status = if yes { "True" } else { "False" };
            let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
            NamespaceCondition {
                type_: type_.into(),
                status: status.into(),
                reason: Some(if yes { bad } else { good }.into()),
                message: Some(if yes { message } else { fine.into() }),
                last_transition_time: same
                    .and_then(|c| c.last_transition_time.clone())
                    .or_else(|| Some(Time(Timestamp::now()))),
            }
        })
        .collect();
    if conditions == before {
        return Ok(());
    }
    let patch = json!({"status": {"conditions": conditions}});
    api.patch_status(&namespace.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}
