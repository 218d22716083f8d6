//! What the agent needs of the control plane, and nothing more: which replicas are bound here, a place for their status, and the release
//! of their finalizer. Tests put a table of their own in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use setpoint_inference::kinds::{Replica, ReplicaStatus};
use tokio::sync::watch;

/// The replicas that are bound to this worker, by uid.
#[derive(Clone, Debug, Default)]
pub enum Bound {
    /// No complete list has been seen yet: nothing may be concluded from a replica's absence.
    #[default]
    Unknown,
    /// All of them.
    Known(BTreeMap<String, Arc<Replica>>),
}

/// One replica: the uid keeps a later object of the same name apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl ReplicaRef {
    /// The reference to an object.
    pub fn of(replica: &Replica) -> Self {
        let meta = &replica.metadata;
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }
}

/// `namespace/name`.
impl std::fmt::Display for ReplicaRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why the control plane did not take something.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The object is not there any more: there is nothing left to write.
    #[error("the object is gone")]
    Gone,
    /// It cannot be reached, or is busy. Try again.
    #[error("the control plane cannot be reached: {0}")]
    Unavailable(String),
    /// It refuses. Try again, seldom: somebody may give the right.
    #[error("the control plane refuses: {0}")]
    Refused(String),
}

/// The control plane, as an agent sees it.
pub trait ControlPlane: Send + Sync + 'static {
    /// The replicas bound to this worker, kept current.
    fn bound(&self) -> watch::Receiver<Bound>;

    /// Replaces a replica's status. One attempt.
    fn write_status<'a>(
        &'a self,
        replica: &'a ReplicaRef,
        status: &'a ReplicaStatus,
    ) -> BoxFuture<'a, Result<(), ControlError>>;

    /// Removes the agent's finalizer, if it is there. One attempt.
    fn release<'a>(&'a self, replica: &'a ReplicaRef) -> BoxFuture<'a, Result<(), ControlError>>;
}
