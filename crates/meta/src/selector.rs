//! Label and field selectors: which objects a list, a watch or a controller means.
//!
//! Guarantees: `Display` of a parsed selector parses to an equal one; requirements are sorted by key and values sorted and unique, so
//! that equal selectors have equal texts (and can key a cache). Messages are Kubernetes' (`apimachinery/pkg/labels`, `…/fields`).
//!
//! How to get it wrong: a label that is absent satisfies `!=` and `notin`; an empty selector selects everything, but a *null*
//! `LabelSelector` in an object selects nothing.

mod field;
mod parse;

pub use field::{FieldRequirement, FieldSelector};

use crate::{
    field::{FieldError, Path, aggregate},
    names,
    quote::quoted,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

/// A selector that is not one. The text says what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(String);

/// How a label relates to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`; also where the label is absent.
    NotIn,
    /// `key=a`
    Equals,
    /// `key==a`: the same, written so.
    DoubleEquals,
    /// `key!=a`; also where the label is absent.
    NotEquals,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>5`: both are integers.
    GreaterThan,
    /// `key<5`: both are integers.
    LessThan,
}

/// Something that maps label keys to values.
pub trait Labels {
    /// The value of the label, if it is there.
    fn value(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for HashMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn value(&self, key: &str) -> Option<&str> {
        (**self).value(key)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn value(&self, key: &str) -> Option<&str> {
        self.as_ref()?.value(key)
    }
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// Of these parts.
    ///
    /// # Errors
    /// A bad key or value, or a number of values that the operator does not take.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, ParseSelectorError> {
        values.sort_unstable();
        values.dedup();
        let at = Path::root();
        let values_at = at.child("values");
        let mut errors = Vec::new();
        check_key(key, &at.child("key"), &mut errors);
        let wrong_count = match operator {
            Operator::In | Operator::NotIn => values
                .is_empty()
                .then_some("for 'in', 'notin' operators, values set can't be empty"),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                (values.len() != 1).then_some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist => {
                (!values.is_empty()).then_some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan => {
                (values.len() != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
        };
        if let Some(detail) = wrong_count {
            errors.push(FieldError::invalid(&values_at, values.clone(), detail));
        }
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(values_at.index(i), value.as_str(), detail));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(
                    values_at.index(i).key(key),
                    value.as_str(),
                    messages.join("; "),
                ));
            }
        }
        if errors.is_empty() {
            Ok(Self {
                key: key.to_owned(),
                operator,
                values,
            })
        } else {
            Err(ParseSelectorError(aggregate(&errors)))
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The relation.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values: sorted, unique.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether these labels satisfy it.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        let found = labels.value(&self.key);
        let has = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => found.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !found.is_some_and(has),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => self.compare(found).is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => self.compare(found).is_some_and(|(label, bound)| label < bound),
        }
    }

    fn compare(&self, found: Option<&str>) -> Option<(i64, i64)> {
        Some((found?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

fn check_key(key: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let messages = names::qualified_name(key);
    if !messages.is_empty() {
        errors.push(FieldError::invalid(at, key, messages.join("; ")));
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// All of some requirements; or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// `None` selects nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    /// Selects all objects.
    pub const fn everything() -> Self {
        Self {
            requirements: Some(Vec::new()),
        }
    }

    /// Selects no object.
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// All of these.
    pub fn all(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements: Some(requirements),
        }
    }

    /// Reads the query syntax, as in `labelSelector=a=b,c in (d,e),!f`. The empty text selects everything.
    ///
    /// # Errors
    /// What was found and what was expected, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        parse::parse(text).map(Self::all)
    }

    /// Reads a `meta/v1` LabelSelector (`matchLabels`, `matchExpressions`). Null selects nothing, an empty one everything.
    ///
    /// # Errors
    /// A bad key, value, operator or type.
    pub fn from_json(selector: &Value) -> Result<Self, ParseSelectorError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let wrong = |what: &str| ParseSelectorError(format!("{what} of a label selector has the wrong type"));
        let text = |value: &Value, what: &str| value.as_str().map(str::to_owned).ok_or_else(|| wrong(what));
        let mut requirements = Vec::new();
        match selector.get("matchLabels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(labels)) => {
                for (key, value) in labels {
                    let values = vec![text(value, "matchLabels")?];
                    requirements.push(Requirement::new(key, Operator::Equals, values)?);
                }
            }
            Some(_) => return Err(wrong("matchLabels")),
        }
        let expressions = match selector.get("matchExpressions") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => return Err(wrong("matchExpressions")),
        };
        for expression in expressions {
            let operator = match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{} is not a valid label selector operator", quoted(other));
                    return Err(ParseSelectorError(message));
                }
            };
            let values = match expression.get("values") {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(values)) => values.iter().map(|v| text(v, "values")).collect::<Result<_, _>>()?,
                Some(_) => return Err(wrong("values")),
            };
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(Self::all(requirements))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether no object is ever selected.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The requirements, sorted by key; none also for [`LabelSelector::nothing`].
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

/// The query syntax; `<none>` for the selector that selects nothing, which has no text there and must not read back as everything.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(requirements) = &self.requirements else {
            return f.write_str("<none>");
        };
        for (i, requirement) in requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
