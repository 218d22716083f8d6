//! Where and why a field is wrong: [`Path`], [`Trail`] and [`FieldError`], with the texts of Kubernetes' `field.Error`.
//!
//! Two ways to say where: [`Path`] owns its text and is for code that checks a handful of fields; [`Trail`] borrows its parent from
//! the stack and costs nothing until it is printed: use it in walks over whole objects, where nearly every step finds no error.

use crate::quote;
use serde_json::Value;
use std::fmt;

/// The path of a field from the root of an object, as text: `spec.containers[0].ports[http]`. The root prints as `<nil>`, as
/// Kubernetes prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The object itself.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// A field at the root.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// A field of this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut text = self.with_room(name.len() + 1);
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
        Self(text)
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.key(&index.to_string())
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut text = self.with_room(key.len() + 2);
        text.push('[');
        text.push_str(key);
        text.push(']');
        Self(text)
    }

    /// The path that `below` has when counted from this one's root: `spec` and `a[0]` make `spec.a[0]`.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        let mut text = self.with_room(below.0.len() + 1);
        if !text.is_empty() && !below.0.is_empty() && !below.0.starts_with(['[', '.']) {
            text.push('.');
        }
        text.push_str(&below.0);
        Self(text)
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The text; empty for the root (where `Display` writes `<nil>`).
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn with_room(&self, more: usize) -> String {
        let mut text = String::with_capacity(self.0.len() + more);
        text.push_str(&self.0);
        text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&Trail<'_>> for Path {
    fn from(trail: &Trail<'_>) -> Self {
        trail.to_path()
    }
}

/// A path that lives on the stack of a recursive walk. Making a step allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Trail<'a> {
    /// The object itself.
    pub const fn root() -> Self {
        Self {
            parent: None,
            step: Step::Root,
        }
    }

    /// A field of this one.
    pub const fn child<'b>(&'b self, name: &'b str) -> Trail<'b> {
        Trail {
            parent: Some(self),
            step: Step::Child(name),
        }
    }

    /// An item of this list.
    pub const fn index(&self, index: usize) -> Trail<'_> {
        Trail {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of this map.
    pub const fn key<'b>(&'b self, key: &'b str) -> Trail<'b> {
        Trail {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// The path as text of its own.
    pub fn to_path(&self) -> Path {
        let mut text = String::new();
        self.write(&mut text, false);
        Path(text)
    }

    /// The path with keys of maps behind dots too, as schema validation in Kubernetes writes it: `spec.labels.app`. Empty for the root.
    pub fn to_dotted(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, true);
        text
    }

    fn write(&self, text: &mut String, dotted: bool) {
        if let Some(parent) = self.parent {
            parent.write(text, dotted);
        }
        match self.step {
            Step::Root => {}
            Step::Key(name) if dotted => {
                text.push('.');
                text.push_str(name);
            }
            Step::Child(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
            Step::Key(key) => {
                text.push('[');
                text.push_str(key);
                text.push(']');
            }
        }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_path().fmt(f)
    }
}

/// The class of a field error. [`ErrorKind::as_str`] is the `reason` of the cause in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value that should exist elsewhere does not.
    NotFound,
    /// A value is missing.
    Required,
    /// A value that must be unique is not.
    Duplicate,
    /// A malformed value.
    Invalid,
    /// A value outside an enumeration.
    NotSupported,
    /// A value that is not allowed here and now.
    Forbidden,
    /// Too long in bytes or characters.
    TooLong,
    /// Too many items.
    TooMany,
    /// Too few items.
    TooFew,
    /// Too short in characters.
    TooShort,
    /// Not the user's fault.
    Internal,
    /// A value of the wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The machine-readable name, as in `details.causes[].reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TooShort => "FieldValueTooShort",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// What a message starts with.
    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::TooShort => "Too short",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal
        )
    }
}

/// One thing wrong with one field. `Display` is Kubernetes' text: `spec.replicas: Invalid value: -1: must be …`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {}", self.body())]
pub struct FieldError {
    /// The class.
    pub kind: ErrorKind,
    /// Where.
    pub path: Path,
    /// The value found; `None` where the message must not show one.
    pub bad_value: Option<Value>,
    /// What is wrong, for people; may be empty.
    pub detail: String,
}

impl FieldError {
    fn make(kind: ErrorKind, path: impl Into<Path>, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.into(),
            bad_value,
            detail: detail.into(),
        }
    }

    /// A malformed value.
    pub fn invalid(path: impl Into<Path>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// A value of the wrong type. `value` is what to show: Kubernetes shows the *type found* here.
    pub fn type_invalid(path: impl Into<Path>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// A missing value.
    pub fn required(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Required, path, None, detail)
    }

    /// A value that is not allowed here.
    pub fn forbidden(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Forbidden, path, None, detail)
    }

    /// A value that occurs twice.
    pub fn duplicate(path: impl Into<Path>, value: impl Into<Value>) -> Self {
        Self::make(ErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// A value that names something which does not exist.
    pub fn not_found(path: impl Into<Path>, value: impl Into<Value>) -> Self {
        Self::make(ErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// A value outside an enumeration; `supported` in the order in which to show it.
    pub fn not_supported<'a>(
        path: impl Into<Path>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let list = quote::quoted_list(supported);
        let detail = if list.is_empty() {
            list
        } else {
            format!("supported values: {list}")
        };
        Self::make(ErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// More bytes than allowed. The value is not shown.
    pub fn too_long(path: impl Into<Path>, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::make(
            ErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {max_bytes} {unit}"),
        )
    }

    /// Fewer characters than demanded. The value is not shown.
    pub fn too_short(path: impl Into<Path>, min_chars: usize) -> Self {
        let unit = if min_chars == 1 { "character" } else { "characters" };
        Self::make(
            ErrorKind::TooShort,
            path,
            None,
            format!("must be at least {min_chars} {unit}"),
        )
    }

    /// More items than allowed.
    pub fn too_many(path: impl Into<Path>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::make(
            ErrorKind::TooMany,
            path,
            Some(actual.into()),
            format!("must have at most {max} {unit}"),
        )
    }

    /// Not the user's fault.
    pub fn internal(path: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::make(ErrorKind::Internal, path, None, detail)
    }

    /// The message without the path, as in `details.causes[].message`.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if let (true, Some(value)) = (self.kind.shows_value(), &self.bad_value) {
            text.push_str(": ");
            match value {
                Value::String(s) => text.push_str(&quote::quoted(s)),
                other => text.push_str(&quote::json(other)),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// Many errors in one line, without repeats: `a`, or `[a, b]`.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.len() == 1 {
        texts.swap_remove(0)
    } else {
        format!("[{}]", texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let path = Path::root().child("spec").child("ports").index(0).key("a.b").child("x");
        assert_eq!(path.to_string(), "spec.ports[0][a.b].x");
        assert_eq!(Path::root().to_string(), "<nil>");
        let join = |a: &str, b: &str| Path::from(a).join(&Path::from(b)).to_string();
        assert_eq!(
            [join("a", "b[0]"), join("a", "[0]"), join("a", ""), join("", "b")],
            ["a.b[0]", "a[0]", "a", "b"]
        );
        let root = Trail::root();
        let (spec, name) = (root.child("spec"), String::from("k"));
        let (item, key) = (spec.index(3), spec.key(&name));
        assert_eq!(item.child("x").to_string(), "spec[3].x");
        assert_eq!(
            (key.to_path().as_str(), key.to_dotted().as_str()),
            ("spec[k]", "spec.k")
        );
        assert_eq!(root.to_string(), "<nil>");
    }

    #[test]
    fn errors_print_as_kubernetes_prints_them() {
        let at = Path::new("spec.x");
        let errors = [
            FieldError::invalid(&at, -1, "must be greater than or equal to 0"),
            FieldError::invalid(&at, "a\"b", "bad"),
            FieldError::invalid(&at, json!({"a": [1.5, true]}), ""),
            FieldError::type_invalid(&at, "string", "must be an integer"),
            FieldError::required(&at, ""),
            FieldError::required(&at, "must be set"),
            FieldError::not_supported(&at, "x", ["a", "b"]),
            FieldError::duplicate(&at, "x"),
            FieldError::not_found(&at, "x"),
            FieldError::forbidden(&at, "no"),
            FieldError::too_long(&at, 1),
            FieldError::too_long(&at, 63),
            FieldError::too_short(&at, 2),
            FieldError::too_many(&at, 5, 3),
            FieldError::internal(&at, "boom"),
        ];
        let text: Vec<_> = errors.iter().map(|e| format!("{} {e}", e.kind.as_str())).collect();
        expect![[r#"
            FieldValueInvalid spec.x: Invalid value: -1: must be greater than or equal to 0
            FieldValueInvalid spec.x: Invalid value: "a\"b": bad
            FieldValueInvalid spec.x: Invalid value: {"a":[1.5,true]}
            FieldValueTypeInvalid spec.x: Invalid value: "string": must be an integer
            FieldValueRequired spec.x: Required value
            FieldValueRequired spec.x: Required value: must be set
            FieldValueNotSupported spec.x: Unsupported value: "x": supported values: "a", "b"
            FieldValueDuplicate spec.x: Duplicate value: "x"
            FieldValueNotFound spec.x: Not found: "x"
            FieldValueForbidden spec.x: Forbidden: no
            FieldValueTooLong spec.x: Too long: may not be more than 1 byte
            FieldValueTooLong spec.x: Too long: may not be more than 63 bytes
            FieldValueTooShort spec.x: Too short: must be at least 2 characters
            FieldValueTooMany spec.x: Too many: 5: must have at most 3 items
            InternalError spec.x: Internal error: boom"#]]
        .assert_eq(&text.join("\n"));
    }

    #[test]
    fn repeats_are_shown_once() {
        let (a, b) = (FieldError::required("a", ""), FieldError::required("b", ""));
        assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
        assert_eq!(aggregate(&[a.clone(), b, a]), "[a: Required value, b: Required value]");
    }
}
