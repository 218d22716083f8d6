//! Limits on single values: numbers, lengths, counts, patterns, formats.

use super::{Walk, dotted};
use crate::{
    format::Format,
    schema::{Bound, Schema, Type, ValueValidations},
};
use serde_json::{Map, Number, Value};
use setpoint_meta::{
    field::{FieldError, Path, Trail},
    quote,
};
use std::{cmp::Ordering, collections::HashSet};

impl Walk {
    pub(super) fn limits(&mut self, schema: &Schema, limits: &ValueValidations, value: &Value, at: &Trail<'_>) {
        match value {
            Value::String(text) => self.text(schema, limits, text, at),
            Value::Number(n) => self.number(schema, limits, n, at),
            Value::Array(items) => self.list(limits, items, at),
            Value::Object(map) => self.map(limits, map, at),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn text(&mut self, schema: &Schema, limits: &ValueValidations, text: &str, at: &Trail<'_>) {
        // Characters are at most bytes, so that most texts need no counting.
        let chars = || text.chars().count() as u64;
        if let Some(max) = limits
            .max_length
            .filter(|max| text.len() as u64 > *max && chars() > *max)
        {
            // The number is of characters; Kubernetes says bytes.
            self.push(FieldError::too_long(
                dotted(at),
                usize::try_from(max).unwrap_or(usize::MAX),
            ));
        } else if let Some(min) = limits.min_length.filter(|min| chars() < *min) {
            self.invalid(at, text, &format!("should be at least {min} chars long"));
        } else if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(at, text, &format!("should match '{}'", pattern.as_str()));
        }
        if limits.format.is_some_and(|format| !format.is_match(text)) {
            self.type_invalid(at, schema.format.as_deref().unwrap_or_default(), text);
        }
    }

    fn number(&mut self, schema: &Schema, limits: &ValueValidations, n: &Number, at: &Trail<'_>) {
        self.range(schema, limits.format, n, at);
        let violated = |bound: &Bound, wrong: Ordering| {
            let order = compare(n, &bound.value);
            order == wrong || (bound.exclusive && order == Ordering::Equal)
        };
        if let Some(step) = &limits.multiple_of {
            self.multiple(n, step, at);
        }
        if let Some(bound) = limits.minimum.as_ref().filter(|bound| violated(bound, Ordering::Less)) {
            let or_equal = if bound.exclusive { "" } else { " or equal to" };
            self.invalid(
                at,
                n.clone(),
                &format!("should be greater than{or_equal} {}", shown(&bound.value, n)),
            );
        }
        if let Some(bound) = limits
            .maximum
            .as_ref()
            .filter(|bound| violated(bound, Ordering::Greater))
        {
            let or_equal = if bound.exclusive { "" } else { " or equal to" };
            self.invalid(
                at,
                n.clone(),
                &format!("should be less than{or_equal} {}", shown(&bound.value, n)),
            );
        }
    }

    /// What the format allows; 64 bits are a matter of the type.
    fn range(&mut self, schema: &Schema, format: Option<Format>, n: &Number, at: &Trail<'_>) {
        let whole = n
            .as_i64()
            .or_else(|| n.as_f64().filter(|f| f.abs() < 9.2e18).map(|f| f as i64));
        let fits = match (schema.ty, format) {
            (Type::Integer, Some(Format::Int32)) => whole.is_some_and(|n| i32::try_from(n).is_ok()),
            (Type::Integer, _) => whole.is_some(),
            (Type::Number, Some(Format::Float)) => n.as_f64().is_some_and(|f| f.abs() <= f64::from(f32::MAX)),
            _ => true,
        };
        if !fits {
            let (ty, format) = (
                schema.ty.as_str(),
                schema.format.as_deref().filter(|_| format.is_some()),
            );
            let kind = format.map_or("(default format)".to_owned(), |format| format!("with format {format}"));
            let detail = format!("Checked value must be of type {ty} {kind} in {}", at.to_dotted());
            self.push(FieldError::invalid(Path::root(), "", detail));
        }
    }

    fn multiple(&mut self, n: &Number, step: &Number, at: &Trail<'_>) {
        let (value, factor) = (n.as_f64().unwrap_or_default(), step.as_f64().unwrap_or_default());
        if factor <= 0.0 {
            let path = dotted(at);
            let detail = format!(
                "factor MultipleOf declared for {} must be positive: {}",
                path.as_str(),
                quote::float(factor)
            );
            self.push(FieldError::invalid(path, step.clone(), detail));
            return;
        }
        let is_multiple = match (n.as_i64(), step.as_i64()) {
            (Some(n), Some(step)) => n % step == 0,
            _ => {
                let times = if factor < 1.0 {
                    1.0 / factor * value
                } else {
                    value / factor
                };
                // Go-openapi's tolerance: 0.3 is a multiple of 0.1.
                (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
            }
        };
        if !is_multiple {
            self.invalid(at, n.clone(), &format!("should be a multiple of {}", shown(step, n)));
        }
    }

    fn list(&mut self, limits: &ValueValidations, items: &[Value], at: &Trail<'_>) {
        let count = items.len() as u64;
        if let Some(min) = limits.min_items.filter(|min| count < *min) {
            self.invalid(at, count, &format!("should have at least {min} items"));
        }
        self.at_most(limits.max_items, items.len(), at);
        let mut seen = HashSet::with_capacity(if limits.unique_items { items.len() } else { 0 });
        if limits.unique_items && !items.iter().all(|item| seen.insert(item)) {
            self.invalid(at, "", "shouldn't contain duplicates");
        }
    }

    fn map(&mut self, limits: &ValueValidations, map: &Map<String, Value>, at: &Trail<'_>) {
        let count = map.len() as u64;
        if let Some(min) = limits.min_properties.filter(|min| count < *min) {
            self.invalid(at, count, &format!("should have at least {min} properties"));
        }
        self.at_most(limits.max_properties, map.len(), at);
    }

    fn at_most(&mut self, max: Option<u64>, count: usize, at: &Trail<'_>) {
        if let Some(max) = max.filter(|max| count as u64 > *max) {
            self.push(FieldError::too_many(
                dotted(at),
                count,
                usize::try_from(max).unwrap_or(usize::MAX),
            ));
        }
    }
}

/// A limit is shown as a whole number beside whole numbers, as Go has it there.
fn shown(limit: &Number, beside: &Number) -> String {
    match limit.as_f64() {
        Some(f) if beside.is_f64() || (limit.is_f64() && f.fract() != 0.0) => quote::float(f),
        Some(f) if limit.is_f64() => format!("{f:.0}"),
        _ => limit.to_string(),
    }
}

/// Exact among whole numbers.
fn compare(a: &Number, b: &Number) -> Ordering {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Equal, with `1` equal to `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
        _ => a == b,
    }
}
