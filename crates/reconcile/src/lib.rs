//! The contract between a reconciler's author and the engine: decide purely, from a declared view, and return a plan as data.
//!
//! # Guarantees
//! - [`Reconciler::plan`] and [`Pass::plan`] are given everything that they may look at (object, [`View`], [`Now`]) and return everything
//!   that they want done ([`Plan`], [`PassPlan`]). The same code runs in the engine, in [`check`](check()) tests and in a simulator.
//! - What a reconciler has not declared with [`declare!`] it cannot read, own or write: the program does not compile, and the compiler's
//!   message names the list to extend.
//! - A reconciler writes one *part* of one kind (its status, say) and the children that it declares; nothing else.
//!
//! # Assumes
//! - An object has one controller owner at most, and children carry an owner reference to it (the engine sets it).
//! - A plan is a function of its arguments. An author who keeps state between runs, reads a clock or draws a random number breaks
//!   replay, tests and read-your-writes; nothing here can stop him.
//!
//! # How one could get it wrong
//! - Returning an empty plan where the inputs are not there yet: that prunes every child. Return [`Blocked`], which never prunes.
//! - Naming children at random: a plan that is computed twice then makes two of them. [`name`] has deterministic ways.
//! - Writing a timestamp of "now" into a part on each run: the plan never converges. Move a time only when what it dates changes.

mod blocked;
pub mod check;
pub mod condition;
pub mod converged;
mod declare;
pub mod name;
mod object;
mod part;
mod plan;
mod reconciler;
mod view;
mod world;

pub use blocked::{Blocked, Reason};
pub use check::{check, check_pass};
pub use declare::{Declaration, Declared, KindVisitor, Owns, Reads};
pub use object::{Key, KindId, Object, Scoped};
pub use part::{NoPart, PartOf};
pub use plan::{Child, Deletion, EventDraft, EventType, FinalizerChange, PassEvent, PassPlan, PassWrite, Plan, Target};
pub use reconciler::{Now, Pass, Reconciler};
pub use view::{AnyObject, Query, Snapshot, View};
pub use world::World;

/// What the macros of this crate name in the code that they write. Not for direct use.
#[doc(hidden)]
pub mod macro_support {
    pub use crate::object::support::{Tag, Text, split_api_version};
    pub use k8s_openapi;
    pub use kube_core;
    pub use serde;
}
