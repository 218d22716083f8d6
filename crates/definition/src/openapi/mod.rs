//! OpenAPI documents: what `kubectl explain`, client-side validation, strategic merge and generators of typed clients read.
//!
//! [`v3_index`] lists one document for each group version (KEP-2896) with a hash; [`v3_document`] is one of them; [`v2_document`] is
//! everything in Swagger 2.0. All are pure functions of the definitions and cost milliseconds: the caller makes them when they are
//! asked for, and keeps them until a definition changes. The hashes are of what a document is made *from*, so that the index does
//! not need the documents.
//!
//! How to get it wrong: `$ref` beside other keys. OpenAPI 3.0 ignores what stands beside a `$ref`, so v3 documents wrap it in `allOf`, as
//! Kubernetes' do; v2 documents keep it bare.

mod operations;
mod schemas;
mod v2;
mod v3;

#[cfg(test)]
mod tests;

pub use self::v2::v2_document;
pub use self::v3::{v3_document, v3_hash, v3_index};

/// `info` of every document.
fn info() -> serde_json::Value {
    serde_json::json!({"title": "Setpoint", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}
