//! The API server: Kubernetes' wire protocol over a versioned store.
//!
//! # The path of a request
//! authentication → authorization → decode → default → mutate → validate → quota → commit → audit. Each step is one file; a handler
//! is reached only through [`ApiServer::handle`], so none can be skipped. Handlers never wait for a reconciler.
//!
//! # Guarantees
//! - A write answers when it is durable. What an answered write did, every later read without a resourceVersion shows.
//! - Everything a client can send ends in a `Status`, never in a panic or a stall: sizes, depths, and counts are bounded here.
//! - In-process clients ([`ApiServer::client_service`]) go down the same path as remote ones, less TLS and authentication.
//!
//! # Absent on purpose
//! No reconciler, no typed kind, no backend of the store: this crate knows schemas and JSON.

mod admission;
mod authenticate;
mod authorize;
mod body;
mod catalog;
mod commit;
mod context;
mod decode;
mod documents;
mod encode;
mod handlers;
mod kinds;
mod metrics;
mod negotiate;
mod options;
mod pipeline;
mod request;
mod respond;
mod serve;
mod server;
mod strategy;

pub use body::ResponseBody;
pub use catalog::{Catalog, Served};
pub use metrics::Metrics;
pub use pipeline::InProcess;
pub use request::{Query, RequestInfo, ResourcePath};
pub use serve::{ServeError, Shutdown, serve};
pub use server::{ApiServer, Builder, StartError};

use setpoint_meta::status::Status;

/// The outcome of a step of a request. The error is boxed since it is large and rare.
pub type Answer<T> = Result<T, Box<Status>>;

/// A response on its way out.
pub type Response = http::Response<ResponseBody>;
