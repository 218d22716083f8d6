//! Structural schemas: what an object of a kind may look like. Conversion from OpenAPI and from CRDs, pruning, defaulting, validation,
//! and strict decoding. Pure: no I/O, no clock, no configuration.
//!
//! Guarantees: [`prune`], [`default`], [`validate`] and [`strict::decode_json`] are linear in the value (lists with keys: n log n) and
//! build a path as text only for what is wrong; regular expressions are compiled at most once in the life of a schema, on first use.
//! Equal subtrees of any two schemas are one allocation ([`Schema`] nodes are interned), so that a thousand CRDs that each embed a pod
//! template cost little more than one. Message texts are those of Kubernetes' apiextensions and kube-openapi.
//!
//! Assumes values nest no deeper than [`strict::MAX_DEPTH`]: the walks recurse.
//!
//! Order matters, and is Kubernetes': decode → [`prune`] → [`drop_nulls`] → … → [`default`] → [`validate`]. How to get it wrong: to
//! validate before defaulting (a required field with a default is then missing), or to default a patch instead of what it results in.

mod crd;
mod default;
mod format;
mod intern;
mod openapi;
mod pattern;
mod prune;
mod read;
mod schema;
pub mod strict;
mod validate;

pub use default::{default, drop_nulls};
pub use format::Format;
pub use openapi::SchemaError;
pub use pattern::Pattern;
pub use prune::{PruneOptions, prune};
pub use schema::{Bound, ListType, MapType, Recursion, Rule, Schema, Type, ValueValidations};
pub use validate::{MAX_ERRORS, validate};
