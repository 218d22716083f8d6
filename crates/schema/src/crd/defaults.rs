//! Defaults are pruned and valid.

use crate::{
    prune::{PruneOptions, prune},
    schema::Schema,
    validate::validate,
};
use setpoint_meta::field::{FieldError, Trail};

/// Adds what is wrong with the defaults of a schema and those below. (Beneath `additionalProperties` Kubernetes does not look.)
pub(super) fn check(schema: &Schema, at: &Trail<'_>, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let at = at.child("default");
        let mut pruned = default.clone();
        prune(
            schema,
            &mut pruned,
            &PruneOptions {
                whole_object: schema.embedded_resource,
                report: false,
            },
        );
        if pruned != *default {
            errors.push(FieldError::invalid(
                &at,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let path = at.to_path();
        errors.extend(validate(schema, default, None).into_iter().map(|mut error| {
            error.path = path.join(&error.path);
            error
        }));
    }
    if let Some(items) = &schema.items {
        check(items, &at.child("items"), errors);
    }
    for (name, field) in &schema.properties {
        check(field, &at.child("properties").key(name), errors);
    }
}
