//! The inference domain: its kinds, and the pure decisions about them. Knows no client, no HTTP, no clock.
//!
//! Who writes what (one writer for each part):
//!
//! | part | written by |
//! |---|---|
//! | `Model.spec`, `ModelDeployment.spec`, `ModelRoute.spec` | users |
//! | `GpuFlavor.spec`, `GpuPool.spec` | admins |
//! | `Model.status`, `GpuPool.status` | the model and the pool reconciler |
//! | `ModelDeployment.status`, `Autoscaler.spec`, `Replica.spec` | the deployment reconciler |
//! | `Autoscaler.signals` | gateways, one entry each |
//! | `Autoscaler.status` | the autoscaler reconciler |
//! | `Replica.binding` | the scheduler |
//! | `Replica.status`, `Worker.spec`, `Worker.status` | the worker's agent |
//! | `Worker.lifecycle` | the worker-lifecycle reconciler |
//!
//! Laws that are more than a line ([`placement`], [`autoscale`], [`rollout`]) are functions of plain values; the files in
//! [`reconcilers`] only fetch what a law needs from the view, and turn its answer into a plan.

pub mod autoscale;
pub mod kinds;
pub mod measures;
pub mod placement;
pub mod reconcilers;
pub mod registry;
pub mod rollout;
