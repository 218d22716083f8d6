//! Who are you, may you, is there room, and who will know: the deciders that the API server asks before a byte is stored.
//!
//! - [`authn`]: from a connection and headers to a [`UserInfo`], or 401.
//! - [`authz`]: from a user and [`Attributes`] to a [`Decision`]; RBAC with Kubernetes' exact semantics.
//! - [`quota`]: ResourceQuota, charged on the worst case, exact under concurrency.
//! - [`audit`]: one record for each request that the policy selects, and for each that was refused.
//! - [`restriction`]: what RBAC cannot say: workers write only what is theirs.
//! - [`bootstrap`]: the roles that a fresh server starts with.
//!
//! # Guarantees
//! Deciding is pure but for the clock that the caller passes in: no decider holds a handle to the store, waits, or does I/O. (The
//! audit log does, on a thread of its own.)
//!
//! # Assumptions
//! The caller feeds each decider every change of the objects that it depends on, in order, before it answers the write.
//!
//! # How to get it wrong
//! Asking in the wrong order. It is: authenticate, impersonate, authorize, (admission), quota, commit, audit. Authorizing before
//! impersonation asks about the wrong user.

pub mod attributes;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod quota;
pub mod restriction;
pub mod user;

pub use attributes::{Attributes, Decision};
pub use user::UserInfo;
