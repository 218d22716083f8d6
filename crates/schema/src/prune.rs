//! Pruning: removes the fields that the schema does not know (Kubernetes, "CustomResourceDefinition: field pruning").

use crate::schema::Schema;
use serde_json::{Map, Value};
use setpoint_meta::field::Trail;

/// How to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Whether the value is a whole object, whose `apiVersion`, `kind` and `metadata` stay even if the schema does not name them.
    pub whole_object: bool,
    /// Whether to say what was removed. Saying nothing costs nothing.
    pub report: bool,
}

impl Default for PruneOptions {
    /// A whole object, with a report.
    fn default() -> Self {
        Self {
            whole_object: true,
            report: true,
        }
    }
}

/// Removes unknown fields. Returns their paths, as `spec.containers[0].imagge`, sorted; Kubernetes prints each as
/// `unknown field "PATH"`. The fields of a removed field are not listed.
///
/// Within `x-kubernetes-preserve-unknown-fields` unknown fields stay, but known fields below are pruned again. The `apiVersion`,
/// `kind` and `metadata` of an `x-kubernetes-embedded-resource` stay as they are.
pub fn prune(schema: &Schema, value: &mut Value, options: &PruneOptions) -> Vec<String> {
    let mut pruner = Pruner {
        report: options.report,
        removed: Vec::new(),
    };
    let schema = schema.target();
    pruner.value(
        schema,
        value,
        &Trail::root(),
        schema.preserve_unknown_fields,
        options.whole_object,
    );
    pruner.removed.sort_unstable();
    pruner.removed
}

struct Pruner {
    report: bool,
    removed: Vec<String>,
}

fn is_meta(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "metadata")
}

impl Pruner {
    /// `keep`: unknown fields stay.
    fn value(&mut self, schema: &Schema, value: &mut Value, at: &Trail<'_>, keep: bool, root: bool) {
        match value {
            Value::Object(map) => self.object(schema, map, at, keep, root),
            Value::Array(items) => {
                let Some(schema) = schema.items.as_deref().map(Schema::target) else {
                    if !keep {
                        items
                            .iter_mut()
                            .enumerate()
                            .for_each(|(i, item)| self.unknown(item, &at.index(i)));
                    }
                    return;
                };
                // What is kept here is kept in the items too: the items' own known fields decide below.
                let keep = keep || schema.preserve_unknown_fields;
                for (i, item) in items.iter_mut().enumerate() {
                    self.value(schema, item, &at.index(i), keep, false);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &Schema, map: &mut Map<String, Value>, at: &Trail<'_>, keep: bool, root: bool) {
        let mut any_unknown = false;
        for (name, value) in map.iter_mut() {
            if schema.embedded_resource && is_meta(name) {
                continue;
            }
            match schema.properties.get(name).or(schema.additional.as_ref()) {
                Some(field) => {
                    let field = field.target();
                    self.value(field, value, &at.child(name), field.preserve_unknown_fields, false);
                }
                // `additionalProperties: false` is for validation to complain about.
                None => any_unknown |= !(keep || schema.closed || (root && is_meta(name))),
            }
        }
        if any_unknown {
            map.retain(|name, _| {
                let known = schema.additional.is_some()
                    || schema.properties.contains_key(name)
                    || ((root || schema.embedded_resource) && is_meta(name));
                if !known {
                    self.say(&at.child(name));
                }
                known
            });
        }
    }

    /// A value below a list of whose items nothing is known: objects in it lose all their fields.
    fn unknown(&mut self, value: &mut Value, at: &Trail<'_>) {
        match value {
            Value::Object(map) => {
                map.keys().for_each(|name| self.say(&at.child(name)));
                map.clear();
            }
            Value::Array(items) => items
                .iter_mut()
                .enumerate()
                .for_each(|(i, item)| self.unknown(item, &at.index(i))),
            _ => {}
        }
    }

    fn say(&mut self, at: &Trail<'_>) {
        if self.report {
            self.removed.push(at.to_path().as_str().to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
