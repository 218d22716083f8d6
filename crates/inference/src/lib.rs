//! The inference domain: its kinds, and the pure decisions about them.
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

pub mod kinds;
pub mod placement;
