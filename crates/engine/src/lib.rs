//! Drives reconcilers: watches what they declare, plans, commits, and keeps their failures apart.
//!
//! The loop is kube-runtime's (watcher, reflector, applier with its scheduler); this crate adds what it lacks.
//!
//! # Guarantees
//! - **Isolation.** A plan runs on a thread of its own, within a deadline. A panic, a spin or a refused write concerns one key: it backs off
//!   exponentially with full jitter, says why in a condition and an event, and is quarantined when it goes on. Nobody else waits.
//! - **Read-your-writes.** A key is not planned before the view shows the engine's last commit for it.
//! - **Quiescence.** What is so already is not written: a converged system makes no writes.
//! - **One watch for each kind**, shared by all reconcilers. A plan is woken by what it looked at: its reads are recorded.
//! - **Leadership.** With [`Builder::elect`], commits happen only while this process holds the Lease.
//! - **Shutdown** begins nothing more and ends what has begun.
//!
//! # Assumes
//! A Kubernetes API that compares resourceVersions as numbers, orders watch events of a kind by them, and implements server-side apply on
//! subresources. Setpoint does; so does Kubernetes.
//!
//! # How one could get it wrong
//! Giving a client with more rights than the reconciler declares: the types hold the author, RBAC holds the program.

mod backoff;
mod cache;
mod commit;
mod engine;
mod events;
mod expect;
mod leader;
mod metrics;
mod objects;
mod pass;
mod queue;
mod shared;
mod wake;

pub use backoff::{Backoff, jittered};
pub use engine::{Builder, ENGINE_IDENTITY, Engine, reconciler_identity};
pub use leader::{Election, Leadership};
pub use metrics::Metrics;
pub use shared::{Clock, Limits};
