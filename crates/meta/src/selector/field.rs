//! Field selectors: `metadata.name=x,status.phase!=Running`.

use super::ParseSelectorError;
use std::fmt;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldRequirement {
    /// The field, as `metadata.name`. Which fields there are is the kind's affair.
    pub field: String,
    /// The text that the field is compared with.
    pub value: String,
    /// `!=` rather than `=`.
    pub negated: bool,
}

impl FieldRequirement {
    /// Whether a field with this text satisfies it. An absent field has the empty text.
    pub fn matches(&self, found: &str) -> bool {
        (found == self.value) != self.negated
    }
}

impl fmt::Display for FieldRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.negated { "!=" } else { "=" })?;
        for c in self.value.chars() {
            if matches!(c, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// All of some conditions on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Selects all objects.
    pub const fn everything() -> Self {
        Self {
            requirements: Vec::new(),
        }
    }

    /// All of these.
    pub fn all(mut requirements: Vec<FieldRequirement>) -> Self {
        requirements.sort_unstable();
        Self { requirements }
    }

    /// Reads `a=b,c==d,e!=f`; `\` before `\`, `,` and `=` takes them as they are. The empty text selects everything.
    ///
    /// # Errors
    /// A term without operator, a bad escape, or an unescaped `=`.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            let Some(at) = term.find("!=").into_iter().chain(term.find('=')).min() else {
                return Err(ParseSelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let (field, rest) = term.split_at(at);
            let (negated, value) = match rest.strip_prefix("!=") {
                Some(value) => (true, value),
                None => (false, rest.strip_prefix("==").unwrap_or(&rest[1..])),
            };
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                value: unescape(value)?,
                negated,
            });
        }
        Ok(Self::all(requirements))
    }

    /// The conditions, sorted.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these fields is selected; `field` gives the text of a field, empty when absent.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> &'a str) -> bool {
        self.requirements.iter().all(|r| r.matches(field(&r.field)))
    }

    /// The value that this field must have, if the selector says so. Serves `metadata.name=x` without a scan.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| !r.negated && r.field == field)
            .map(|r| r.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for FieldSelector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, ParseSelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    let message = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(ParseSelectorError(message));
                }
            },
            ',' | '=' => {
                let message = format!("invalid field selector: unescaped character in value: {}", u32::from(c));
                return Err(ParseSelectorError(message));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
