//! Authorization: may this user do that?
//!
//! [`Authorizer`] answers from an index that is kept up to date with the stored Roles, ClusterRoles and their bindings; it never
//! scans them. It holds no handle to the store: the API server loads it once and then feeds it each change.
//!
//! # Guarantees
//! - RBAC is additive: more objects never take a permission away. What nothing allows is not allowed.
//! - An answer reflects every change that was applied before the question was asked.
//! - The cost of an answer grows with the number of *distinct roles* bound to the user and the user's groups, at cluster scope and
//!   in the request's namespace; not with the number of bindings, users or namespaces.
//!
//! # How to get it wrong
//! - Asking about the authenticated user when the request impersonates another: [`crate::Attributes::user`] is the effective one.
//! - Writing a Role or binding without [`Authorizer::check_role`] or [`Authorizer::check_binding`]: whoever may write roles would
//!   be an administrator.

mod aggregate;
mod escalation;
mod index;
mod rule;

pub use aggregate::aggregated_rules;
pub use escalation::{covers, uncovered};
pub use index::{Authorizer, RbacKind, RulesReview};
pub use rule::{ALL, PolicyRule};

/// The API group of RBAC's own objects.
pub const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
