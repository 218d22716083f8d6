//! Defaults, and nulls that mean "absent" (Kubernetes, "CustomResourceDefinition: defaulting and nullable").
//!
//! | the value is | nullable | has a default | becomes |
//! |---|---|---|---|
//! | absent | | yes | the default |
//! | null | yes | | null |
//! | null | no | yes | the default |
//! | null, a field | no | no | absent |
//! | null, an item of a list | no | no | null, which validation refuses |

use crate::schema::Schema;
use serde_json::{Map, Value};

/// Fills in defaults and drops nulls that cannot be; defaults apply within defaults. Doing it twice is doing it once.
pub fn default(schema: &Schema, value: &mut Value) {
    let schema = schema.target();
    match value {
        Value::Object(map) => {
            if schema.properties.is_empty() && schema.additional.is_none() {
                return;
            }
            for (name, field) in &schema.properties {
                if let Some(default) = &field.default {
                    fill(map, name, default);
                }
            }
            drop_fields(schema, map);
            for (name, value) in map.iter_mut() {
                let Some(field) = schema.properties.get(name).or(schema.additional.as_ref()) else {
                    continue;
                };
                item(field, value);
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|value| item(schema, value));
            }
        }
        _ => {}
    }
}

/// The default, if the value is a null that may not be; then what is below it.
fn item(schema: &Schema, value: &mut Value) {
    if let (Value::Null, false, Some(default)) = (&*value, schema.nullable, &schema.default) {
        value.clone_from(default);
    }
    default(schema, value);
}

fn fill(map: &mut Map<String, Value>, name: &str, default: &Value) {
    // A null that may be stays; one that may not is replaced with the rest, in `item`.
    if !map.contains_key(name) {
        map.insert(name.to_owned(), default.clone());
    }
}

/// Drops the nulls of fields that are neither nullable nor have a default, at any depth: the step after pruning when a request is
/// decoded, so that `field: null` in a manifest means the same as leaving it out. ([`default`] does it too.)
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    let schema = schema.target();
    match value {
        Value::Object(map) => {
            drop_fields(schema, map);
            for (name, value) in map.iter_mut() {
                if let Some(field) = schema.properties.get(name).or(schema.additional.as_ref()) {
                    drop_nulls(field, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(schema, item));
            }
        }
        _ => {}
    }
}

fn drop_fields(schema: &Schema, map: &mut Map<String, Value>) {
    if !map.values().any(Value::is_null) {
        return;
    }
    map.retain(|name, value| {
        let field = schema
            .properties
            .get(name)
            .or(schema.additional.as_ref())
            .map(|field| field.target());
        // Where the schema says nothing, nothing is dropped; a field of any type may well be null.
        !value.is_null() || field.is_none_or(|f| f.nullable || f.default.is_some())
    });
}

#[cfg(test)]
mod tests;
