//! The commit: the one place that writes what plans want.
//!
//! # Guarantees
//! - Nothing is written that is so already: a child is compared with the live object field by field (see
//!   [`setpoint_reconcile::converged`]), and what a server normalised is recognised by what it answered last time.
//! - A part, a finalizer and a deletion carry the object as planned on as precondition; a child's apply is idempotent.
//! - Nothing begins when this process does not lead.
//! - Each write that succeeded is in the [`Ledger`], also when a later one failed or the run was cut.
//!
//! # How one could get it wrong
//! Writing the part before the children: a status that tells of what was then refused.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::{ApiResource, Status},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use setpoint_reconcile::{Child, Key, KindId, Target, converged::converged};

use crate::{
    cache::{Caches, Identity},
    expect::Expectation,
    leader::Leadership,
    metrics::{Metrics, Write},
};

/// Children of one plan that are written at the same time: enough for the store to group their commits.
const AT_ONCE: usize = 16;
/// Normalised writes that are remembered before those of gone objects are swept out.
const REMEMBERED: usize = 1024;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The object changed since it was seen.
    #[error("{what} changed meanwhile")]
    Conflict { what: String },
    /// The server refused it.
    #[error("{what} was refused: {}", status.message)]
    Refused { what: String, status: Box<Status> },
    /// The engine refuses it.
    #[error("{what} {why}")]
    Unlawful { what: String, why: String },
    /// The server did not answer, or not sensibly.
    #[error("{what} could not be written")]
    Unanswered { what: String, source: Box<kube::Error> },
    /// Another process leads.
    #[error("this process does not lead")]
    NotLeading,
}

impl CommitError {
    fn of(what: String, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict { what },
            kube::Error::Api(status) => Self::Refused { what, status },
            error => Self::Unanswered {
                what,
                source: Box::new(error),
            },
        }
    }

    /// Whether to plan again on a newer view rather than to count a failure.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// What has been written so far, and what the view therefore has to reach.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<(usize, Vec<Expectation>)>);

impl Ledger {
    fn enter(&self, expectation: Option<Expectation>) {
        let mut ledger = self.0.lock();
        ledger.0 += 1;
        ledger.1.extend(expectation);
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().0 == 0
    }

    /// The number of writes and what to expect of them.
    pub(crate) fn close(&self) -> (usize, Vec<Expectation>) {
        std::mem::take(&mut *self.0.lock())
    }
}

/// The object that was planned, as seen.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) target: Target,
    pub(crate) finalizers: Vec<String>,
}

impl Owner {
    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.target.kind.api_version(),
            kind: self.target.kind.kind.to_string(),
            name: self.target.key.name.clone(),
            uid: self.target.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

type Place = (KindId, Key, &'static str);

/// Digest of what was sent, and the resourceVersion that came of it.
struct Memory {
    sent: HashMap<Place, (u64, String)>,
    sweep_at: usize,
}

/// Writes as one reconciler.
pub(crate) struct Committer {
    name: &'static str,
    client: Client,
    caches: Arc<Caches>,
    metrics: Metrics,
    memory: Mutex<Memory>,
}

impl Committer {
    pub(crate) fn new(name: &'static str, client: Client, caches: Arc<Caches>, metrics: Metrics) -> Self {
        let memory = Mutex::new(Memory {
            sent: HashMap::new(),
            sweep_at: REMEMBERED,
        });
        Self {
            name,
            client,
            caches,
            metrics,
            memory,
        }
    }

    /// Applies children, then deletes: all are tried, and the first error is returned.
    pub(crate) async fn children(
        &self,
        owner: &Owner,
        children: Vec<Child>,
        gone: Vec<(Target, &'static str)>,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let applied: Vec<_> = children
            .into_iter()
            .map(|child| self.apply_child(owner, child, leadership, ledger).boxed())
            .collect();
        let applied = some_at_once(applied).await;
        let deleted: Vec<_> = gone
            .into_iter()
            .map(|(target, what)| self.delete(target, what, leadership, ledger).boxed())
            .collect();
        let deleted = some_at_once(deleted).await;
        applied.into_iter().chain(deleted).collect()
    }

    async fn apply_child(
        &self,
        owner: &Owner,
        mut child: Child,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        adopt(owner, &mut child)?;
        let live = self.identity(&child.kind, &child.key);
        if let Some(live) = &live {
            if live.terminating {
                // It cannot be kept; once it is gone, the next plan makes it anew.
                return Ok(());
            }
            if live.controller_uid.as_ref().is_some_and(|uid| *uid != owner.target.uid) {
                let why = "has another controller: two owners name the same child".to_owned();
                return Err(CommitError::Unlawful {
                    what: describe(&child.kind, &child.key),
                    why,
                });
            }
        }
        let place = (child.kind.clone(), child.key.clone(), "");
        let digest = digest(&child.object);
        if live
            .as_ref()
            .is_some_and(|live| self.was_sent(&place, digest, &live.resource_version))
            || self
                .value(&child.kind, &child.key)
                .is_some_and(|live| converged(&child.object, &live, self.name, None))
        {
            return Ok(());
        }
        self.lead(leadership)?;
        let params = PatchParams::apply(self.name).force();
        let written = self
            .api(&child.kind, &child.key)
            .patch(&child.key.name, &params, &Patch::Apply(&child.object))
            .await;
        let written = written.map_err(|error| CommitError::of(describe(&child.kind, &child.key), error))?;
        self.written(
            place,
            digest,
            live.as_ref().map(|live| live.resource_version.as_str()),
            &written,
            "apply",
            ledger,
        );
        Ok(())
    }

    async fn delete(
        &self,
        target: Target,
        what: &'static str,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let live = self.identity(&target.kind, &target.key);
        if live.is_none_or(|live| live.terminating || live.uid != target.uid) {
            return Ok(());
        }
        self.lead(leadership)?;
        let preconditions = Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self
            .api(&target.kind, &target.key)
            .delete(&target.key.name, &params)
            .await
        {
            Ok(_) => {
                self.memory
                    .lock()
                    .sent
                    .remove(&(target.kind.clone(), target.key.clone(), ""));
                let expectation = self.caches.of_kind(&target.kind).map(|(kind, _)| Expectation::Gone {
                    kind,
                    key: target.key.clone(),
                    uid: target.uid.clone(),
                });
                self.count(what);
                ledger.enter(expectation);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(CommitError::of(describe(&target.kind, &target.key), error)),
        }
    }

    /// Writes a part of `target` at the state in which it was seen, and moves `target` to the state that came of it.
    pub(crate) async fn part(
        &self,
        target: &mut Target,
        part: &'static str,
        value: Value,
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        let place = (target.kind.clone(), target.key.clone(), part);
        let digest = digest(&value);
        if self.was_sent(&place, digest, &target.resource_version) {
            return Ok(());
        }
        self.lead(leadership)?;
        let body = json!({
            "apiVersion": target.kind.api_version(),
            "kind": target.kind.kind,
            "metadata": address(target),
            (part): value,
        });
        let api = self.api(&target.kind, &target.key);
        let params = PatchParams::apply(self.name).force();
        let written = api
            .patch_subresource(part, &target.key.name, &params, &Patch::Apply(&body))
            .await;
        let what = || format!("{part} of {}", describe(&target.kind, &target.key));
        let written = written.map_err(|error| CommitError::of(what(), error))?;
        let before = std::mem::take(&mut target.resource_version);
        target.resource_version = written.metadata.resource_version.clone().unwrap_or_default();
        self.written(place, digest, Some(&before), &written, "part", ledger);
        Ok(())
    }

    /// Sets the finalizers of `target` at the state in which it was seen, and moves `target` to the state that came of it.
    pub(crate) async fn finalizers(
        &self,
        target: &mut Target,
        finalizers: &[String],
        leadership: &Leadership,
        ledger: &Ledger,
    ) -> Result<(), CommitError> {
        self.lead(leadership)?;
        let body = json!({
            "metadata": { "resourceVersion": target.resource_version, "finalizers": finalizers },
        });
        let api = self.api(&target.kind, &target.key);
        let params = PatchParams {
            field_manager: Some(self.name.to_owned()),
            ..PatchParams::default()
        };
        let written = match api.patch(&target.key.name, &params, &Patch::Merge(&body)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            written => {
                let what = || format!("finalizers of {}", describe(&target.kind, &target.key));
                written.map_err(|error| CommitError::of(what(), error))?
            }
        };
        self.count("finalizer");
        target.resource_version = written.metadata.resource_version.clone().unwrap_or_default();
        let terminating = written.metadata.deletion_timestamp.is_some();
        ledger.enter(self.caches.of_kind(&target.kind).map(|(kind, cache)| {
            if terminating && finalizers.is_empty() {
                // The last finalizer went, and the object with it: no revision of it is still to come.
                Expectation::Gone {
                    kind,
                    key: target.key.clone(),
                    uid: target.uid.clone(),
                }
            } else {
                let revision = revision_of(&written);
                cache.wrote(revision);
                Expectation::Revision { kind, revision }
            }
        }));
        Ok(())
    }

    /// Whether exactly this was sent, and the object has not changed since.
    fn was_sent(&self, place: &Place, digest: u64, resource_version: &str) -> bool {
        self.memory
            .lock()
            .sent
            .get(place)
            .is_some_and(|(sent, version)| *sent == digest && version == resource_version)
    }

    fn written(
        &self,
        place: Place,
        digest: u64,
        before: Option<&str>,
        written: &DynamicObject,
        what: &'static str,
        ledger: &Ledger,
    ) {
        let version = written.metadata.resource_version.clone().unwrap_or_default();
        let changed = before != Some(version.as_str());
        let kind = place.0.clone();
        let mut memory = self.memory.lock();
        memory.sent.insert(place, (digest, version));
        if memory.sent.len() >= memory.sweep_at {
            memory
                .sent
                .retain(|(kind, key, _), _| self.identity(kind, key).is_some());
            memory.sweep_at = REMEMBERED.max(memory.sent.len() * 2);
        }
        drop(memory);
        if !changed {
            return;
        }
        self.count(what);
        let revision = revision_of(written);
        ledger.enter(self.caches.of_kind(&kind).map(|(kind, cache)| {
            cache.wrote(revision);
            Expectation::Revision { kind, revision }
        }));
    }

    fn identity(&self, kind: &KindId, key: &Key) -> Option<Identity> {
        self.caches
            .of_kind(kind)?
            .1
            .identity(key.namespace.as_deref().unwrap_or_default(), &key.name)
    }

    fn value(&self, kind: &KindId, key: &Key) -> Option<Value> {
        self.caches
            .of_kind(kind)?
            .1
            .value(key.namespace.as_deref().unwrap_or_default(), &key.name)
    }

    fn api(&self, kind: &KindId, key: &Key) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            api_version: kind.api_version(),
            kind: kind.kind.to_string(),
            plural: kind.plural.to_string(),
        };
        match &key.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn count(&self, what: &'static str) {
        self.metrics
            .writes
            .get_or_create(&Write {
                reconciler: self.name,
                what,
            })
            .inc();
    }

    fn lead(&self, leadership: &Leadership) -> Result<(), CommitError> {
        if leadership.may_commit() {
            Ok(())
        } else {
            Err(CommitError::NotLeading)
        }
    }
}

/// Runs all of them, [`AT_ONCE`] at a time.
pub(crate) async fn some_at_once<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    futures::stream::iter(futures).buffer_unordered(AT_ONCE).collect().await
}

/// Gives the child its namespace and its owner reference.
fn adopt(owner: &Owner, child: &mut Child) -> Result<(), CommitError> {
    let unlawful = |child: &Child, why: String| CommitError::Unlawful {
        what: describe(&child.kind, &child.key),
        why,
    };
    let home = &owner.target.key.namespace;
    if child.kind.namespaced {
        if child.key.namespace.is_none() {
            child.key.namespace.clone_from(home);
        }
        if child.key.namespace.is_none() {
            return Err(unlawful(
                child,
                "has no namespace, and neither has its owner".to_owned(),
            ));
        }
        if home.is_some() && child.key.namespace != *home {
            return Err(unlawful(child, "is in another namespace than its owner".to_owned()));
        }
    } else {
        child.key.namespace = None;
        if home.is_some() {
            return Err(unlawful(
                child,
                "is cluster-scoped, but its owner is namespaced".to_owned(),
            ));
        }
    }
    if child.key.name.is_empty() {
        return Err(unlawful(child, "has no name".to_owned()));
    }
    let reference = json!([owner.reference()]);
    let metadata = child
        .object
        .as_object_mut()
        .map(|fields| fields.entry("metadata").or_insert_with(|| json!({})));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        if let Some(namespace) = &child.key.namespace {
            metadata.insert("namespace".to_owned(), namespace.as_str().into());
        }
        metadata.insert("ownerReferences".to_owned(), reference);
        // What only a server sets cannot be applied; authors who copy an object from the view leave it in.
        for field in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
        ] {
            metadata.remove(field);
        }
    }
    Ok(())
}

fn address(target: &Target) -> Value {
    let mut address = json!({ "name": target.key.name, "resourceVersion": target.resource_version });
    if let Some(namespace) = &target.key.namespace {
        address["namespace"] = namespace.as_str().into();
    }
    address
}

fn describe(kind: &KindId, key: &Key) -> String {
    format!("{kind} {key}")
}

fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    // serde_json::Value: Hash, with map order; plans are deterministic, so is their order.
    value.hash(&mut hasher);
    hasher.finish()
}

fn revision_of(object: &DynamicObject) -> u64 {
    object
        .metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
