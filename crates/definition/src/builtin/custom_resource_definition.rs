//! apiextensions.k8s.io/v1 CustomResourceDefinition. What one means is in [`crate::crd`].

use serde_json::Value;
use setpoint_meta::field::FieldError;

use super::draft::Draft;
use crate::crd;
use crate::resource::{Origin, ResourceDefinition};

pub(super) fn definition() -> ResourceDefinition {
    const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    Draft::new("apiextensions.k8s.io", "v1", SCHEMA, "customresourcedefinitions")
        .cluster()
        .short_names(&["crd", "crds"])
        .categories(&["api-extensions"])
        .status()
        .conditional_update()
        .generation()
        .defaulter(crd::defaults)
        .validator(validate)
        .build()
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    crd::validate(new, old, Origin::CustomResource)
}
