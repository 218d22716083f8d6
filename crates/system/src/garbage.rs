//! The garbage collector: what its owners have left behind is deleted (Kubernetes' background, foreground and orphan policies).
//!
//! # Guarantees
//! - An object is deleted only when *every* owner has been found absent (or of another uid) by a live read, and only if it is still the
//!   object that was judged (uid precondition). A graph that is behind can delay a deletion, never cause one.
//! - A circle of owners does not keep itself alive once something outside has let go of one of them.
//!
//! # How one could get it wrong
//! Believing the graph about an *absence*: a kind whose watch has not been filled yet looks empty.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::SelectAll};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::{GroupVersionKind, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use serde_json::json;

use crate::{
    Shutdown,
    graph::{FOREGROUND, Graph, ORPHAN, Verdict},
    kinds::{self, Kind},
};

/// How often it is asked whether kinds have come or gone.
const DISCOVER: Duration = Duration::from_secs(5);
/// How long something that could not be done waits.
const RETRY: Duration = Duration::from_secs(1);

enum Seen {
    Applied(String, Box<ObjectMeta>),
    Listed(String, Box<ObjectMeta>),
    ListEnds(String),
    Deleted(Box<ObjectMeta>),
}

type Events = SelectAll<std::pin::Pin<Box<dyn Stream<Item = Seen> + Send>>>;

/// Collects until shutdown.
pub async fn run(client: Client, shutdown: Shutdown) {
    let mut collector = Collector {
        client,
        kinds: BTreeMap::new(),
        graph: Graph::default(),
        listing: BTreeMap::new(),
        listed: HashSet::new(),
        queue: VecDeque::new(),
        queued: HashSet::new(),
    };
    let mut events: Events = SelectAll::new();
    let mut discover = tokio::time::interval(DISCOVER);
    let mut retries: Vec<(tokio::time::Instant, String)> = Vec::new();
    loop {
        let retry_at = retries.iter().map(|(at, _)| *at).min();
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = discover.tick() => collector.discover(&mut events).await,
            Some(seen) = events.next(), if !events.is_empty() => collector.take_in(seen),
            () = sleep_until(retry_at), if retry_at.is_some() => {
                let now = tokio::time::Instant::now();
                let due: Vec<String> = retries.extract_if(.., |(at, _)| *at <= now).map(|(_, uid)| uid).collect();
                collector.enqueue(due);
            }
        }
        while let Some(uid) = collector.next() {
            if let Err(error) = collector.settle(&uid).await {
                tracing::debug!(%error, uid, "garbage could not be collected; trying again");
                retries.push((tokio::time::Instant::now() + RETRY, uid));
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Collector {
    client: Client,
    kinds: BTreeMap<String, Kind>,
    graph: Graph,
    /// The uids of a list that is coming in, by kind.
    listing: BTreeMap<String, HashSet<String>>,
    /// Kinds of which a whole list has come in.
    listed: HashSet<String>,
    queue: VecDeque<String>,
    queued: HashSet<String>,
}

impl Collector {
    async fn discover(&mut self, events: &mut Events) {
        let found = match kinds::all(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "discovery failed; trying again");
                return;
            }
        };
        // events belong to nobody and end by themselves
        let found = found
            .into_iter()
            .filter(|k| !(k.resource.group.is_empty() && k.resource.plural == "events"));
        let found: BTreeMap<String, Kind> = found.map(|k| (key(&k.resource), k)).collect();
        for (name, kind) in &found {
            if !self.kinds.contains_key(name) {
                events.push(watch(&self.client, name.clone(), kind));
            }
        }
        let gone: Vec<String> = self.kinds.keys().filter(|k| !found.contains_key(*k)).cloned().collect();
        for kind in gone {
            let look = self.graph.retain(&kind, &HashSet::new());
            self.enqueue(look);
        }
        self.kinds = found;
    }

    fn take_in(&mut self, seen: Seen) {
        let look = match seen {
            Seen::Applied(kind, metadata) => self.graph.upsert(&kind, &metadata),
            Seen::Listed(kind, metadata) => {
                self.listing
                    .entry(kind.clone())
                    .or_default()
                    .extend(metadata.uid.clone());
                self.graph.upsert(&kind, &metadata)
            }
            Seen::ListEnds(kind) => {
                let uids = self.listing.remove(&kind).unwrap_or_default();
                self.listed.insert(kind.clone());
                self.graph.retain(&kind, &uids)
            }
            Seen::Deleted(metadata) => metadata
                .uid
                .as_deref()
                .map(|uid| self.graph.remove(uid))
                .unwrap_or_default(),
        };
        self.enqueue(look);
    }

    fn enqueue(&mut self, uids: Vec<String>) {
        for uid in uids {
            if self.queued.insert(uid.clone()) {
                self.queue.push_back(uid);
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        let uid = self.queue.pop_front()?;
        self.queued.remove(&uid);
        Some(uid)
    }

    fn api(&self, uid: &str) -> Option<(Api<DynamicObject>, String)> {
        let node = self.graph.node(uid)?;
        let kind = self.kinds.get(&node.kind)?;
        Some((kind.api(&self.client, &node.namespace), node.name.clone()))
    }

    async fn settle(&mut self, uid: &str) -> kube::Result<()> {
        match self.graph.judge(uid) {
            Verdict::Keep => Ok(()),
            Verdict::CheckOwners(owners) => {
                if self.all_absent(uid, &owners).await? {
                    self.delete(uid, PropagationPolicy::Background).await
                } else {
                    Ok(())
                }
            }
            Verdict::DeleteDependents { delete, free } => {
                for dependent in free {
                    self.disown(&dependent, uid).await?;
                }
                for dependent in delete {
                    // Foreground goes all the way down: what has dependents waits for them in its turn.
                    let deep = self.graph.has_dependents(&dependent);
                    let policy = if deep {
                        PropagationPolicy::Foreground
                    } else {
                        PropagationPolicy::Background
                    };
                    self.delete(&dependent, policy).await?;
                }
                Ok(())
            }
            // both believe an absence: that of dependents. Before every kind has been listed, absence means nothing
            Verdict::Release | Verdict::OrphanDependents(_) if self.kinds.keys().any(|k| !self.listed.contains(k)) => {
                Err(kube::Error::Service("not every kind has been listed yet".into()))
            }
            Verdict::Release => self.remove_finalizer(uid, FOREGROUND).await,
            Verdict::OrphanDependents(dependents) => {
                for dependent in dependents {
                    self.disown(&dependent, uid).await?;
                }
                self.remove_finalizer(uid, ORPHAN).await
            }
        }
    }

    /// Whether none of the owners exists, by live reads.
    async fn all_absent(&self, uid: &str, owners: &[OwnerReference]) -> kube::Result<bool> {
        let Some(node) = self.graph.node(uid) else {
            return Ok(false);
        };
        for owner in owners {
            let Some((group, version)) = owner.api_version.split_once('/').or(Some(("", &*owner.api_version))) else {
                continue;
            };
            let gvk = GroupVersionKind::gvk(group, version, &owner.kind);
            let Some(kind) = self
                .kinds
                .values()
                .find(|k| k.resource.group == gvk.group && k.resource.kind == gvk.kind)
            else {
                // a kind that is not served: whether its objects exist cannot be known
                return Ok(false);
            };
            if kind.namespaced && node.namespace.is_empty() {
                // a cluster-scoped object cannot be owned from inside a namespace: such an owner cannot be resolved, so it is not absent
                return Ok(false);
            }
            let found = kind
                .api(&self.client, &node.namespace)
                .get_metadata_opt(&owner.name)
                .await?;
            if found.is_some_and(|f| f.metadata.uid.as_ref() == Some(&owner.uid)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn delete(&self, uid: &str, policy: PropagationPolicy) -> kube::Result<()> {
        let Some((api, name)) = self.api(uid) else {
            return Ok(());
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        tracing::debug!(name, "deleting what its owners have left behind");
        gone_is_fine(api.delete(&name, &parameters).await.map(drop))
    }

    async fn remove_finalizer(&self, uid: &str, finalizer: &str) -> kube::Result<()> {
        let Some((api, name)) = self.api(uid) else {
            return Ok(());
        };
        let Some(live) = api
            .get_metadata_opt(&name)
            .await?
            .filter(|o| o.metadata.uid.as_deref() == Some(uid))
        else {
            return Ok(());
        };
        let left: Vec<&String> = live
            .metadata
            .finalizers
            .iter()
            .flatten()
            .filter(|f| *f != finalizer)
            .collect();
        let patch = json!({"metadata": {"finalizers": left, "resourceVersion": live.metadata.resource_version}});
        gone_is_fine(
            api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map(drop),
        )
    }

    /// Takes `owner` out of the owner references of `uid`.
    async fn disown(&self, uid: &str, owner: &str) -> kube::Result<()> {
        let Some((api, name)) = self.api(uid) else {
            return Ok(());
        };
        let Some(live) = api
            .get_metadata_opt(&name)
            .await?
            .filter(|o| o.metadata.uid.as_deref() == Some(uid))
        else {
            return Ok(());
        };
        let left: Vec<&OwnerReference> = live
            .metadata
            .owner_references
            .iter()
            .flatten()
            .filter(|o| o.uid != owner)
            .collect();
        let patch = json!({"metadata": {"ownerReferences": left, "resourceVersion": live.metadata.resource_version}});
        gone_is_fine(
            api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map(drop),
        )
    }
}

/// Somebody else was faster: it is gone, or it is another object by now.
fn gone_is_fine(outcome: kube::Result<()>) -> kube::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

fn key(resource: &ApiResource) -> String {
    format!("{}/{}", resource.group, resource.plural)
}

fn watch(client: &Client, name: String, kind: &Kind) -> std::pin::Pin<Box<dyn Stream<Item = Seen> + Send>> {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &kind.resource);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    Box::pin(events.filter_map(move |event| {
        let name = name.clone();
        std::future::ready(match event {
            Ok(watcher::Event::Apply(object)) => Some(Seen::Applied(name, Box::new(object.metadata))),
            Ok(watcher::Event::InitApply(object)) => Some(Seen::Listed(name, Box::new(object.metadata))),
            Ok(watcher::Event::InitDone) => Some(Seen::ListEnds(name)),
            Ok(watcher::Event::Delete(object)) => Some(Seen::Deleted(Box::new(object.metadata))),
            Ok(watcher::Event::Init) | Err(_) => None,
        })
    }))
}
