//! The few loops that need a wide handle: they work on any kind, so they cannot declare what they touch as reconcilers do. This is the
//! only place with such a handle; everything else that acts is a reconciler.
//!
//! | loop | does |
//! |---|---|
//! | [`garbage`] | deletes what its owners have left behind; foreground and orphan deletion |
//! | [`namespaces`] | empties a namespace that is being deleted, says what keeps it, and lets it go |
//! | [`definitions`] | deletes the objects of a CustomResourceDefinition that is being deleted |
//! | [`accounts`] | a `default` ServiceAccount and the root CA in each namespace |
//! | [`quota`] | the status of ResourceQuotas |
//!
//! Each is level-triggered: it looks at what is there, at every wake and at least every few seconds, and keeps nothing that a restart
//! would lose.

pub mod accounts;
pub mod definitions;
pub mod garbage;
mod graph;
mod kinds;
pub mod namespaces;
pub mod quota;

pub use tokio_util::sync::CancellationToken as Shutdown;
