//! Audit: who did what, when, and what came of it, as Kubernetes' `audit.k8s.io/v1` events in JSON lines.
//!
//! [`AuditLog::record`] is called once, at the end of each request, with its [`Facts`]. The [`Policy`] says how much of it is kept,
//! an [`Event`] is made, and a thread writes it to a file that is rotated by size.
//!
//! # Guarantees
//! - A request that was refused (401, 403, 429) has exactly one record, whatever the policy's rules say, unless `refusals` turns
//!   that off by name.
//! - When the queue is full, a request that changes something waits: nothing is changed without a record. A read does not wait: its
//!   record is dropped and counted.
//! - Memory is bounded by bytes, not by records, however large the recorded bodies are.
//! - The values of Secrets and tokens never get in.
//!
//! # Assumptions
//! A record is safe from a crash of this process once it is written, which an idle disk does within a millisecond; it is not synced
//! to the medium. What is still queued at a `kill -9` is lost: at most [`Options::queue_bytes`].
//!
//! # How to get it wrong
//! Recording before the outcome is known, or from two places: there would be two records, or one that is not true.

mod event;
mod log;
mod policy;

pub use event::{
    DECISION, Event, Facts, Level, MAX_TEXT_BYTES, ObjectRef, ObjectVersion, QUOTA_EXCEEDED, REASON, Stage,
};
pub use log::{AuditLog, Counts, Options};
pub use policy::{GroupResources, Policy, Rule};
