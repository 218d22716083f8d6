//! Whether an applied configuration has the types that the schema says. Only types and unknown fields: the values are checked later, on
//! the merged object.

use std::collections::BTreeSet;

use serde_json::Value;
use setpoint_schema::{Schema, Type};

use super::{Node, Shape, TypeError};
use crate::path::PathElement;

/// Most errors in one answer; the first are what a user reads.
const MAX_ERRORS: usize = 32;

/// Checks `value`: types, undeclared fields, items of a list twice or without keys.
pub(crate) fn validate(node: Node<'_>, value: &Value) -> Result<(), TypeError> {
    let mut walk = Walk::default();
    walk.value(node, value, false);
    match walk.errors.as_slice() {
        [] => Ok(()),
        [one] => Err(TypeError(one.clone())),
        many => Err(TypeError(format!("errors:\n  {}", many.join("\n  ")))),
    }
}

#[derive(Default)]
struct Walk<'a> {
    path: Vec<Step<'a>>,
    errors: Vec<String>,
}

/// A step, with the name not copied: most walks have nothing to report.
enum Step<'a> {
    Field(&'a str),
    Item(PathElement),
}

impl Step<'_> {
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Item(element) => element.to_string(),
        }
    }
}

impl<'a> Walk<'a> {
    fn error(&mut self, text: &str) {
        if self.errors.len() < MAX_ERRORS {
            let path: String = self.path.iter().map(Step::text).collect();
            self.errors.push(if path.is_empty() {
                text.to_owned()
            } else {
                format!("{path}: {text}")
            });
        }
    }

    /// `open`: some object above lets unknown fields be, and so do all that it holds.
    fn value(&mut self, node: Node<'_>, value: &'a Value, open: bool) {
        let Some(schema) = node.schema() else { return };
        let open = open || schema.preserve_unknown_fields;
        if let Some(expected) = mismatch(schema, value) {
            self.error(&format!("expected {expected}, got {value}"));
            return;
        }
        match value {
            Value::Object(object) => {
                let closed = !open && schema.additional.is_none() && !schema.properties.is_empty();
                for (name, value) in object {
                    let (node, named) = node.field(name);
                    self.path.push(Step::Field(name));
                    if closed && !named {
                        self.error("field not declared in schema");
                    } else {
                        self.value(node, value, open);
                    }
                    self.path.pop();
                }
            }
            Value::Array(list) => self.list(node, list, open),
            _ => {}
        }
    }

    fn list(&mut self, node: Node<'_>, list: &'a [Value], open: bool) {
        let shape = node.schema().map_or(Shape::Leaf, super::list_shape);
        let mut seen = BTreeSet::new();
        for (index, item) in list.iter().enumerate() {
            let element = match shape {
                Shape::Leaf | Shape::Map => PathElement::Index(index),
                Shape::Set | Shape::Keyed(_) => match node.item(shape, item) {
                    Ok(element) => {
                        if !seen.insert(element.clone()) {
                            self.error(&format!("duplicate entries for key {element}"));
                        }
                        element
                    }
                    Err(error) => {
                        self.error(&format!("element {index}: {error}"));
                        return;
                    }
                },
            };
            self.path.push(Step::Item(element));
            self.value(node.items(), item, open);
            self.path.pop();
        }
    }
}

/// What the schema wants where `value` is something else. Null is let through: whether it may stand is for validation to say.
fn mismatch(schema: &Schema, value: &Value) -> Option<&'static str> {
    let scalar = !value.is_object() && !value.is_array();
    let (fits, expected) = match schema.ty {
        Type::Any if schema.int_or_string => (scalar, "any scalar"),
        Type::Any => (true, ""),
        Type::Object => (value.is_object(), "map"),
        Type::Array => (value.is_array(), "list"),
        Type::Integer | Type::Number => (value.is_number(), "numeric (int or float)"),
        Type::Boolean => (value.is_boolean(), "boolean"),
        // A quantity is a string that may be written as a number.
        Type::String if schema.int_or_string || schema.format.as_deref() == Some("quantity") => (scalar, "any scalar"),
        Type::String => (value.is_string(), "string"),
    };
    (!fits && !value.is_null()).then_some(expected)
}
