//! Validation against a schema, with the texts of Kubernetes' apiextensions (which come from go-openapi).
//!
//! Guarantees: at most [`MAX_ERRORS`] errors (a body of 3 MiB could hold a million wrong items); no text is made where nothing is wrong.
//!
//! Ratcheting (KEP-4008): with an old value, an error at a place whose value has not changed since is no error. Places correspond by
//! field name and, in lists of type map, by key; items of other lists do not correspond. Without errors the old value is not looked at.
//!
//! How to get it wrong: an absent field with a default is absent here; default first. A null passes only where `nullable` says so.

mod limits;
mod lists;

use crate::schema::{ListType, Schema, Type, ValueValidations};
use serde_json::{Map, Value};
use setpoint_meta::{
    field::{FieldError, Path, Trail},
    quote::quoted,
};

/// Most errors reported of one object. Each is a line that somebody must read.
pub const MAX_ERRORS: usize = 128;

/// Everything wrong with the value (up to [`MAX_ERRORS`]), in the order of the schema; repeated items of sets and maps come last.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk::default();
    walk.value(schema, value, None, &Trail::root());
    if !walk.errors.is_empty() && old.is_some() {
        walk.errors.clear();
        walk.value(schema, value, old, &Trail::root());
    }
    let mut repeats = Vec::new();
    lists::repeats(schema, value, &Trail::root(), &mut repeats);
    // Kubernetes lets repeats be, wherever they are, once some are stored.
    if !repeats.is_empty() && old.is_none_or(|old| !lists::has_repeats(schema, old)) {
        walk.errors.append(&mut repeats);
    }
    walk.errors.truncate(MAX_ERRORS);
    walk.errors
}

#[derive(Default)]
struct Walk {
    errors: Vec<FieldError>,
}

/// The type that a value has, as messages name it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Largest whole number that a float surely means (RFC 8259, "Numbers").
const MAX_FLOAT_WHOLE: f64 = 9_007_199_254_740_991.0;

/// Whole numbers have 64 bits with a sign; a float without a fraction counts as one while it is exact.
fn is_whole(n: &serde_json::Number) -> bool {
    n.is_i64()
        || n.as_f64()
            .is_some_and(|f| f.fract() == 0.0 && f.abs() <= MAX_FLOAT_WHOLE)
}

impl Walk {
    fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    fn push(&mut self, error: FieldError) {
        // go-openapi says each thing once.
        if !self.is_full() && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// An error whose detail starts with the dotted path: `spec.x in body should be …`.
    fn invalid(&mut self, at: &Trail<'_>, value: impl Into<Value>, detail: &str) {
        let path = dotted(at);
        let detail = format!("{} in body {detail}", path.as_str());
        self.push(FieldError::invalid(path, value, detail));
    }

    fn type_invalid(&mut self, at: &Trail<'_>, wanted: &str, found: &str) {
        let path = dotted(at);
        let detail = format!("{} in body must be of type {wanted}: {}", path.as_str(), quoted(found));
        self.push(FieldError::type_invalid(path, found, detail));
    }

    /// An error that Kubernetes reports at no field: only the text says where.
    fn unplaced(&mut self, detail: String) {
        self.push(FieldError::invalid(Path::root(), "", detail));
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, at: &Trail<'_>) {
        if old == Some(value) || self.is_full() {
            return;
        }
        let schema = schema.target();
        if value.is_null() {
            self.null(schema, at);
            return;
        }
        if let Some(limits) = schema.value.as_deref() {
            self.typed(schema, Some(limits), value, at);
            self.junctors(limits, value, old, at);
            self.limits(schema, limits, value, at);
        } else {
            self.typed(schema, None, value, at);
        }
        if let Value::Array(items) = value {
            self.items(schema, items, old, at);
        }
        if !schema.enum_values.is_empty() {
            self.enumerated(schema, value, at);
        }
        if let Value::Object(map) = value {
            self.object(schema, map, old, at);
        }
    }

    fn null(&mut self, schema: &Schema, at: &Trail<'_>) {
        if !schema.nullable && (schema.ty != Type::Any || schema.int_or_string) {
            self.type_invalid(at, wanted_type(schema), "null");
        }
        if !schema.enum_values.is_empty() && !schema.enum_values.contains(&Value::Null) {
            self.enumerated(schema, &Value::Null, at);
        }
    }

    fn typed(&mut self, schema: &Schema, limits: Option<&ValueValidations>, value: &Value, at: &Trail<'_>) {
        let fits = match (schema.ty, value) {
            (Type::Any, _) if !schema.int_or_string => true,
            (Type::Any, Value::String(_)) | (Type::Object, Value::Object(_)) | (Type::Array, Value::Array(_)) => true,
            (Type::String, Value::String(_)) | (Type::Boolean, Value::Bool(_)) | (Type::Number, Value::Number(_)) => {
                true
            }
            (Type::Integer | Type::Any, Value::Number(n)) => is_whole(n),
            _ => false,
        };
        if fits {
            return;
        }
        let format = limits.filter(|l| l.format.is_some()).and(schema.format.as_deref());
        match (format, value) {
            // With a format, go-openapi names the format on both sides, and knows one for numbers only.
            (Some(format), Value::Number(n)) => {
                self.type_invalid(at, format, if n.is_i64() { "int64" } else { "float64" })
            }
            (Some(format), Value::Bool(_) | Value::Object(_)) => self.type_invalid(at, format, ""),
            // A string format says nothing of lists there.
            (Some(_), Value::Array(_)) if schema.ty == Type::String => {
                self.type_invalid(at, schema.ty.as_str(), type_name(value));
            }
            _ => self.type_invalid(at, wanted_type(schema), type_name(value)),
        }
    }

    fn enumerated(&mut self, schema: &Schema, value: &Value, at: &Trail<'_>) {
        if schema.enum_values.iter().any(|one| limits::same(one, value)) {
            return;
        }
        let texts: Vec<String> = schema
            .enum_values
            .iter()
            .map(|one| {
                one.as_str()
                    .map_or_else(|| setpoint_meta::quote::json(one), str::to_owned)
            })
            .collect();
        self.push(FieldError::not_supported(
            dotted(at),
            value.clone(),
            texts.iter().map(String::as_str),
        ));
    }

    fn items(&mut self, schema: &Schema, items: &[Value], old: Option<&Value>, at: &Trail<'_>) {
        let Some(item_schema) = schema.items.as_deref() else {
            return;
        };
        let old = old
            .and_then(Value::as_array)
            .filter(|_| schema.list_type == ListType::Map);
        for (i, item) in items.iter().enumerate() {
            let old = old.and_then(|old| {
                old.iter()
                    .find(|other| lists::same_key(&schema.list_map_keys, item, other))
            });
            self.value(item_schema, item, old, &at.index(i));
            if self.is_full() {
                return;
            }
        }
    }

    fn object(&mut self, schema: &Schema, map: &Map<String, Value>, old: Option<&Value>, at: &Trail<'_>) {
        let old = old.and_then(Value::as_object);
        for (name, value) in map {
            match schema.properties.get(name) {
                Some(field) => self.value(field, value, old.and_then(|o| o.get(name)), &at.child(name)),
                None => match &schema.additional {
                    Some(field) => self.value(field, value, old.and_then(|o| o.get(name)), &at.key(name)),
                    None if schema.closed => {
                        let path = dotted(at);
                        let detail = format!("{}.{name} in body is a forbidden property", path.as_str());
                        self.push(FieldError::invalid(path, name.as_str(), detail));
                    }
                    None => {}
                },
            }
        }
        for name in &schema.required {
            if !map.contains_key(name) {
                self.push(FieldError::required(dotted(&at.child(name)), ""));
            }
        }
    }

    /// Whether the value satisfies the schema; and if not, why.
    fn attempt(&self, schema: &Schema, value: &Value, old: Option<&Value>, at: &Trail<'_>) -> Vec<FieldError> {
        let mut walk = Self::default();
        walk.value(schema, value, old, at);
        walk.errors
    }

    fn junctors(&mut self, limits: &ValueValidations, value: &Value, old: Option<&Value>, at: &Trail<'_>) {
        if !limits.any_of.is_empty() {
            let mut first_failure = None;
            let passed = limits.any_of.iter().any(|one| {
                let errors = self.attempt(one, value, old, at);
                let passed = errors.is_empty();
                first_failure.get_or_insert(errors);
                passed
            });
            if !passed {
                self.unplaced(format!(
                    "{} must validate at least one schema (anyOf)",
                    quoted(dotted(at).as_str())
                ));
                first_failure.into_iter().flatten().for_each(|error| self.push(error));
            }
        }
        if !limits.one_of.is_empty() {
            let attempts: Vec<_> = limits
                .one_of
                .iter()
                .map(|one| self.attempt(one, value, old, at))
                .collect();
            let passed = attempts.iter().filter(|errors| errors.is_empty()).count();
            if passed != 1 {
                let found = if passed == 0 {
                    "Found none valid".to_owned()
                } else {
                    format!("Found {passed} valid alternatives")
                };
                let path = quoted(dotted(at).as_str());
                self.unplaced(format!("{path} must validate one and only one schema (oneOf). {found}"));
                if passed == 0 {
                    attempts
                        .into_iter()
                        .next()
                        .into_iter()
                        .flatten()
                        .for_each(|error| self.push(error));
                }
            }
        }
        if !limits.all_of.is_empty() {
            let mut passed = 0;
            for one in &limits.all_of {
                let errors = self.attempt(one, value, old, at);
                passed += usize::from(errors.is_empty());
                errors.into_iter().for_each(|error| self.push(error));
            }
            if passed != limits.all_of.len() {
                let none = if passed == 0 { ". None validated" } else { "" };
                self.unplaced(format!(
                    "{} must validate all the schemas (allOf){none}",
                    quoted(dotted(at).as_str())
                ));
            }
        }
        if limits
            .not
            .as_ref()
            .is_some_and(|not| self.attempt(not, value, old, at).is_empty())
        {
            self.unplaced(format!(
                "{} must not validate the schema (not)",
                quoted(dotted(at).as_str())
            ));
        }
    }
}

/// The types that a schema takes, as messages name them.
fn wanted_type(schema: &Schema) -> &'static str {
    if schema.int_or_string {
        "integer,string"
    } else {
        schema.ty.as_str()
    }
}

/// The path as go-openapi writes it: keys of maps with dots too.
fn dotted(at: &Trail<'_>) -> Path {
    Path::from(at.to_dotted())
}

#[cfg(test)]
mod tests;
