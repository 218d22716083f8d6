//! OpenAPI documents.
use std::sync::Arc;

use serde_json::Value;

use crate::resource::ResourceDefinition;

/// `/openapi/v3`: the paths of all documents with their hashes.
pub fn v3_index(_defs: &[Arc<ResourceDefinition>]) -> Value {
    Value::Null
}
/// The hash in the index of one document.
pub fn v3_hash(_group: &str, _version: &str, _defs: &[Arc<ResourceDefinition>]) -> Option<String> {
    None
}
/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`; `None` if nothing is served in it.
pub fn v3_document(_group: &str, _version: &str, _defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    None
}
/// `/openapi/v2` (Swagger 2.0) of everything.
pub fn v2_document(_defs: &[Arc<ResourceDefinition>]) -> Value {
    Value::Null
}
