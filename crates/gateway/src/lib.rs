//! The gateway: OpenAI-compatible requests to ready replicas.
//!
//! # Guarantees
//! - It reads routes and replicas by watch and writes nothing but its measurements (`Autoscaler.signals`, its own entry).
//! - With every API server gone it keeps routing by what it last saw.
//! - A response is passed through as it comes, byte for byte. When the client goes, the request to the replica ends.
//! - A request is tried on another replica only before the first byte of an answer.
//! - Requests that wait are bounded in number and time by the route's limits.
//!
//! # How one could get it wrong
//! - Counting a request as finished when its headers have come: a stream is load until its last byte.
//! - Reporting nothing where there is nothing to do: silence is not zero, and the autoscaler must not take it for zero.

mod load;
mod metrics;
mod proxy;
mod routes;
mod server;
mod signals;

pub use metrics::Metrics;
pub use server::{Gateway, GatewayError, Options};
