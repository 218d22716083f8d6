//! One step of a path into an object: a field, the item of a list with these key fields, the item with this value, or an index
//! (KEP-555, "FieldsV1"). Steps have a total order, which is the order in which a set of fields is written down.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

/// A step from a value to one of its children.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// The field of an object with this name.
    Field(Box<str>),
    /// The item of a map list (`x-kubernetes-list-type: map`) whose key fields have these values; sorted by name, at least one.
    Key(Box<[(Box<str>, Value)]>),
    /// The item of a set (`x-kubernetes-list-type: set`) that equals this scalar.
    Value(Value),
    /// The item at this index of an atomic list. Nothing in an atomic list is owned by itself, so that these are only read.
    Index(usize),
}

/// A text that does not name a step of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseElementError {
    /// A kind of step that a later version of the format may know; readers skip it.
    #[error("unknown path element type")]
    UnknownType,
    /// Not a step at all.
    #[error("{0}")]
    Malformed(String),
}

impl PathElement {
    /// The field with this name.
    pub fn field(name: impl Into<Box<str>>) -> Self {
        Self::Field(name.into())
    }

    /// The list item with these key fields; sorts them.
    pub fn key<N: Into<Box<str>>>(fields: impl IntoIterator<Item = (N, Value)>) -> Self {
        let mut fields: Vec<(Box<str>, Value)> = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Key(fields.into_boxed_slice())
    }

    /// Reads `f:name`, `k:{…}`, `v:…` or `i:0`.
    ///
    /// # Errors
    /// [`ParseElementError`], whose text is Kubernetes' own.
    pub fn parse(text: &str) -> Result<Self, ParseElementError> {
        let malformed = |why: String| ParseElementError::Malformed(why);
        if text.len() < 2 {
            return Err(malformed("key must be 2 characters long:".to_owned()));
        }
        if text.as_bytes()[1] != b':' {
            return Err(malformed(format!("missing colon: {text}")));
        }
        let rest = text
            .get(2..)
            .ok_or_else(|| malformed(format!("missing colon: {text}")))?;
        match text.as_bytes()[0] {
            b'f' => Ok(Self::field(rest)),
            b'v' => serde_json::from_str(rest)
                .map(Self::Value)
                .map_err(|error| malformed(error.to_string())),
            b'k' => {
                let fields: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|error| malformed(error.to_string()))?;
                Ok(Self::key(fields))
            }
            b'i' => rest
                .parse()
                .map(Self::Index)
                .map_err(|_| malformed(format!("strconv.Atoi: parsing {rest:?}: invalid syntax"))),
            _ => Err(ParseElementError::UnknownType),
        }
    }

    /// The text that [`parse`](Self::parse) reads.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut text = String::with_capacity(2 + name.len());
                text.push_str("f:");
                text.push_str(name);
                text
            }
            Self::Key(fields) => {
                // Written by hand and not through a `Map`, so that the order does not hang on how `Map` is built.
                let mut text = String::from("k:{");
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    text.push_str(&Value::from(&**name).to_string());
                    text.push(':');
                    text.push_str(&value.to_string());
                }
                text.push('}');
                text
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a
                    .iter()
                    .zip(b.iter())
                    .map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare(&a.1, &b.1)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathElement {}

/// As Kubernetes writes paths in conflicts: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A total order of JSON values in which numbers of the same value are equal however they are written (`1` and `1.0`), as
/// Kubernetes compares list keys. Numbers < strings < booleans < lists < objects < null.
#[must_use]
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            pairs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => compare_objects(a, b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

/// Whether two values are the same value: [`compare`] says equal, in one walk without sorting.
#[must_use]
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn compare_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    let sorted = |object: &Map<String, Value>| {
        let mut names: Vec<String> = object.keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let (a_names, b_names) = (sorted(a), sorted(b));
    for (a_name, b_name) in a_names.iter().zip(&b_names) {
        let order = a_name.cmp(b_name).then_with(|| compare(&a[a_name], &b[b_name]));
        if order.is_ne() {
            return order;
        }
    }
    a_names.len().cmp(&b_names.len())
}

fn integer(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

/// Exact, and so transitive: comparing through `f64` would not be, and sorting by an order that is none may panic.
fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_integer(a, b.as_f64().unwrap_or(f64::MAX)),
        (None, Some(b)) => compare_integer(b, a.as_f64().unwrap_or(f64::MAX)).reverse(),
        (None, None) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::MAX), b.as_f64().unwrap_or(f64::MAX));
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // guarded: the float is within the range of an i128 where it is cast
fn compare_integer(a: i128, b: f64) -> Ordering {
    /// Beyond every u64 and i64, well within i128.
    const FAR: f64 = 1e30;
    if b >= FAR {
        return Ordering::Less;
    }
    if b <= -FAR {
        return Ordering::Greater;
    }
    let whole = b.trunc();
    a.cmp(&(whole as i128))
        .then_with(|| 0.0.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::testing::{json_value, path_element};

    #[test]
    fn texts() {
        for (element, encoded, shown) in [
            (PathElement::field("spec"), "f:spec", ".spec"),
            (PathElement::field("a.b/c"), "f:a.b/c", ".a.b/c"),
            (
                PathElement::key([("port", json!(80)), ("name", json!("a\"b"))]),
                r#"k:{"name":"a\"b","port":80}"#,
                r#"[name="a\"b",port=80]"#,
            ),
            (PathElement::Value(json!("x")), "v:\"x\"", "[=\"x\"]"),
            (PathElement::Value(json!(1.5)), "v:1.5", "[=1.5]"),
            (PathElement::Value(json!(true)), "v:true", "[=true]"),
            (PathElement::Index(3), "i:3", "[3]"),
        ] {
            assert_eq!(element.encode(), encoded);
            assert_eq!(element.to_string(), shown);
            assert_eq!(PathElement::parse(encoded).as_ref(), Ok(&element));
        }
        for bad in ["", "f", "fx", "v:", "k:[]", "k:{", "i:x", "i:-1", "é:"] {
            assert!(
                matches!(PathElement::parse(bad), Err(ParseElementError::Malformed(_))),
                "{bad}"
            );
        }
        assert_eq!(PathElement::parse("z:later"), Err(ParseElementError::UnknownType));
    }

    #[test]
    fn numbers_compare_by_value() {
        let sorted = [
            json!(i64::MIN),
            json!(-1.5),
            json!(0),
            json!(0.5),
            json!(1),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_994.0),
            json!(u64::MAX),
            json!(1e300),
            json!("a"),
            json!(false),
            json!([]),
            json!([1]),
            json!({}),
            json!({"a": 1}),
            json!(null),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        assert!(same(&json!({"a": [1]}), &json!({"a": [1.0]})));
    }

    proptest! {
        #[test]
        fn order_is_total(a in json_value(), b in json_value(), c in json_value()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
            prop_assert_eq!(compare(&a, &b).is_eq(), same(&a, &b));
        }

        #[test]
        fn elements_round_trip(element in path_element()) {
            prop_assert_eq!(PathElement::parse(&element.encode()), Ok(element));
        }
    }
}
