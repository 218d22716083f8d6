//! The reconcilers of the domain, one file each. [`super::registry`] lists them.

pub mod autoscaler;
pub mod deployment;
pub mod model;
pub mod pool;
pub mod scheduler;
pub mod worker_lifecycle;

#[cfg(test)]
pub(crate) mod fixtures;
