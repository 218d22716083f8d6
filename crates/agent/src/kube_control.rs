//! The control plane by the Kubernetes API.
//!
//! # How to get it wrong
//! - A status written to a later object of the same name: every write carries the uid that it is meant for.
//! - kube's default back-off of a watch (up to 30 s): an agent that was cut off must learn within two seconds of its return what was
//!   replaced meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Patch, PatchParams};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_objects};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use setpoint_inference::kinds::{AGENT_FINALIZER, Replica, ReplicaStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::{Bound, ControlError, ControlPlane, ReplicaRef};

/// The field manager of everything that agents write.
pub(crate) const MANAGER: &str = "agent";
/// The waits of a watch that fails: they double from the first to the last.
const WATCH_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1500));
/// How long one request may take. The API answers in milliseconds; a connection that is cut says nothing.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The next wait of a watch that fails.
struct WatchRetry(Duration);

impl Iterator for WatchRetry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(WATCH_RETRY.1);
        Some(wait)
    }
}

impl Backoff for WatchRetry {
    fn reset(&mut self) {
        self.0 = WATCH_RETRY.0;
    }
}

/// The control plane of one worker.
#[derive(Clone)]
pub(crate) struct KubeControl {
    client: Client,
    worker: String,
    bound: watch::Sender<Bound>,
    gate: CancellationToken,
}

impl KubeControl {
    pub(crate) fn new(client: Client, worker: &str) -> Arc<Self> {
        Arc::new(Self {
            client,
            worker: worker.to_owned(),
            bound: watch::Sender::new(Bound::Unknown),
            gate: CancellationToken::new(),
        })
    }

    /// Cancelled (that is: opened) once this agent holds the worker's Lease. Nothing that is bound is taken up before.
    pub(crate) fn gate(&self) -> CancellationToken {
        self.gate.clone()
    }

    /// Keeps the list of bound replicas current until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.gate.cancelled() => {}
        }
        let replicas: Api<Replica> = Api::all(self.client.clone());
        let mut events = watch_objects(replicas, watcher::Config::default())
            .backoff(WatchRetry(WATCH_RETRY.0))
            .boxed();
        let mut listed = BTreeMap::new();
        let mut failing = false;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(event)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("replicas are watched again");
                    }
                    self.note(event, &mut listed);
                }
                Ok(None) => return,
                Err(error) => {
                    // once for each outage
                    if !failing {
                        tracing::warn!(error = %error, "replicas cannot be watched; what runs is kept, and it is tried again");
                    }
                    failing = true;
                }
            }
        }
    }

    fn note(&self, event: Event<Replica>, listed: &mut BTreeMap<String, Arc<Replica>>) {
        let uid = |replica: &Replica| replica.meta().uid.clone().unwrap_or_default();
        let mine = |replica: &Replica| replica.worker() == Some(self.worker.as_str());
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(replica) => {
                if mine(&replica) {
                    listed.insert(uid(&replica), Arc::new(replica));
                }
            }
            Event::InitDone => {
                self.bound.send_replace(Bound::Known(std::mem::take(listed)));
            }
            Event::Apply(replica) => {
                let (uid, mine) = (uid(&replica), mine(&replica));
                self.change(|known| match mine {
                    true => {
                        known.insert(uid, Arc::new(replica));
                        true
                    }
                    false => known.remove(&uid).is_some(),
                });
            }
            Event::Delete(replica) => self.change(|known| known.remove(&uid(&replica)).is_some()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Replica>>) -> bool) {
        self.bound.send_if_modified(|bound| match bound {
            Bound::Known(known) => change(known),
            // an event before the first list would be the watcher's error
            Bound::Unknown => false,
        });
    }

    fn api(&self, replica: &ReplicaRef) -> Api<Replica> {
        Api::namespaced(self.client.clone(), &replica.namespace)
    }

    async fn remove_finalizer(&self, key: &ReplicaRef) -> Result<(), ControlError> {
        let api = self.api(key);
        let Some(replica) = bounded(api.get_metadata_opt(&key.name)).await? else {
            return Err(ControlError::Gone);
        };
        let meta = replica.metadata;
        if meta.uid.as_deref() != Some(&key.uid) {
            return Err(ControlError::Gone);
        }
        let before = meta.finalizers.unwrap_or_default();
        let after: Vec<&String> = before
            .iter()
            .filter(|finalizer| *finalizer != AGENT_FINALIZER)
            .collect();
        if after.len() == before.len() {
            return Ok(());
        }
        // the revision makes it a comparison and a swap: another's finalizer that came meanwhile is not lost
        let patch =
            json!({"metadata": {"resourceVersion": meta.resource_version, "uid": key.uid, "finalizers": after}});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        bounded(api.patch(&key.name, &params, &Patch::Merge(patch))).await?;
        Ok(())
    }
}

impl ControlPlane for KubeControl {
    fn bound(&self) -> watch::Receiver<Bound> {
        self.bound.subscribe()
    }

    fn write_status<'a>(
        &'a self,
        replica: &'a ReplicaRef,
        status: &'a ReplicaStatus,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            let patch = applied::<Replica>(
                json!({"name": replica.name, "namespace": replica.namespace, "uid": replica.uid}),
                "status",
                json!(status),
            );
            let params = PatchParams::apply(MANAGER).force();
            let api = self.api(replica);
            bounded(api.patch_status(&replica.name, &params, &Patch::Apply(patch))).await?;
            Ok(())
        })
    }

    fn release<'a>(&'a self, replica: &'a ReplicaRef) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(self.remove_finalizer(replica))
    }
}

/// The body of a server-side apply.
pub(crate) fn applied<K: kube::Resource<DynamicType = ()>>(metadata: Value, part: &str, value: Value) -> Value {
    let mut body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata});
    body[part] = value;
    body
}

/// Runs a request with a bound on its time, and sorts its errors.
pub(crate) async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ControlError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(sort(status.code, &status.message)),
        Ok(Err(error)) => Err(ControlError::Unavailable(error.to_string())),
        Err(_) => Err(ControlError::Unavailable(format!(
            "no answer within {REQUEST_TIMEOUT:?}"
        ))),
    }
}

fn sort(code: u16, message: &str) -> ControlError {
    match code {
        404 => ControlError::Gone,
        // somebody else was quicker, or the server is busy
        409 | 429 | 500..=599 => ControlError::Unavailable(message.to_owned()),
        _ => ControlError::Refused(message.to_owned()),
    }
}
