//! The watch cache: every object of the store as its encoded bytes at a revision, and a bounded window of what happened to it,
//! fanned out in order to any number of watchers.
//!
//! # Guarantees
//! - One store watch feeds everything, so [`Cache::revision`] is a statement about the whole store: each commit at or below it is visible.
//! - A [`Snapshot`] of a resource is consistent: a watch that starts at its revision sees each later event once, and none that it holds.
//! - A watcher gets every event of its resource in order, or [`Lagged`]; never a gap.
//! - Bytes are shared with the store (embedded) and between all readers; nothing here copies an object but [`Object::write_json`].
//!
//! # Assumes
//! - Values are canonical objects: `{"apiVersion":…,"kind":…,"metadata":{…` without a resourceVersion (see [`Object`]).
//! - Keys are `/registry/GROUP/PLURAL/…`.
//!
//! # How one could get it wrong
//! - Announcing a revision before all resources have applied its commit: a list would then miss an acknowledged write.
//! - Splitting the events of one commit between two batches: a watcher that resumes at the first would skip the second.

mod feed;
mod object;
mod resource;

pub use feed::{Cache, CacheError, Hook};
pub use object::Object;
pub use resource::{Change, Event, Lagged, ResourceCache, Snapshot, Subscription};
