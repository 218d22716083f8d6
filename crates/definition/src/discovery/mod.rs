//! Discovery documents.
use std::sync::Arc;

use serde_json::Value;

use crate::resource::ResourceDefinition;

/// `/api`: APIVersions. `server_address` is `host:port`, as clients outside should reach it.
pub fn api_versions(_defs: &[Arc<ResourceDefinition>], _server_address: &str) -> Value {
    Value::Null
}
/// `/apis`: APIGroupList.
pub fn api_group_list(_defs: &[Arc<ResourceDefinition>]) -> Value {
    Value::Null
}
/// `/apis/GROUP`: APIGroup; `None` if nothing is served in it.
pub fn api_group(_group: &str, _defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    None
}
/// `/api/v1` and `/apis/GROUP/VERSION`: APIResourceList; `None` if nothing is served in it.
pub fn api_resource_list(_group: &str, _version: &str, _defs: &[Arc<ResourceDefinition>]) -> Option<Value> {
    None
}
/// `/api` as apidiscovery.k8s.io/v2 APIGroupDiscoveryList.
pub fn aggregated_api(_defs: &[Arc<ResourceDefinition>]) -> Value {
    Value::Null
}
/// `/apis` as apidiscovery.k8s.io/v2 APIGroupDiscoveryList.
pub fn aggregated_apis(_defs: &[Arc<ResourceDefinition>]) -> Value {
    Value::Null
}
/// The ETag of an encoded document, quotes included.
pub fn etag(_encoded: &[u8]) -> String {
    String::new()
}
