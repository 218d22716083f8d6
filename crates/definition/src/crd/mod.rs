//! CustomResourceDefinition objects.
use serde_json::Value;
use setpoint_meta::field::FieldError;

use crate::resource::{Origin, ResourceDefinition};

/// Fills in what Kubernetes defaults on a CustomResourceDefinition: singular, list kind, conversion strategy.
pub fn defaults(_crd: &mut Value) {}

/// Everything that is wrong with a CustomResourceDefinition, metadata apart; `old` on updates.
pub fn validate(_crd: &Value, _old: Option<&Value>, _origin: Origin) -> Vec<FieldError> {
    Vec::new()
}

impl ResourceDefinition {
    /// The definition that a CustomResourceDefinition describes.
    pub fn from_crd(_crd: &Value, _origin: Origin) -> Result<Self, Vec<FieldError>> {
        Err(Vec::new())
    }
}
