//! The JSONPath of `additionalPrinterColumns` and `selectableFields`, compiled: kubectl's dialect, without templates.
//!
//! Understood: `.a.b`, `.a\.b`, `['a']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `..a`, `[0,2]`, `['a','b']` and filters
//! `[?(@.type=="Ready")]` with `==`, `!=`, `<`, `<=`, `>`, `>=` or mere existence. Braces around the whole are optional.
//!
//! A missing field is no result, never an error, so one odd object cannot spoil a list. Evaluation is bounded by the object: no
//! step but `..` visits a value twice, and `..` visits each value below it once.

use serde_json::Value;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset}")]
pub struct JsonPathError {
    /// What was expected or found.
    pub what: &'static str,
    /// The byte in the text, from 0.
    pub offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Fields(Vec<String>),
    Items(Vec<i64>),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Wildcard,
    Descend,
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    left: Operand,
    test: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Compiles a path.
    ///
    /// # Errors
    /// Where the text is not of the dialect.
    pub fn compile(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        let mut parser = Parser {
            text: inner.unwrap_or(text),
            at: 0,
        };
        parser.take_if('$');
        let steps = parser.steps()?;
        if parser.at < parser.text.len() {
            return Err(parser.error("unexpected character"));
        }
        Ok(Self { steps })
    }

    /// Every value that the path leads to, in the order of the document.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::with_capacity(found.len());
            for value in found {
                step.apply(value, &mut next);
            }
            found = next;
        }
        found
    }

    /// The first value that the path leads to.
    pub fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        let mut value = root;
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Field(name) => value = value.get(name)?,
                _ => {
                    return Self {
                        steps: self.steps[at..].to_vec(),
                    }
                    .find(value)
                    .into_iter()
                    .next();
                }
            }
        }
        Some(value)
    }

    /// The names of a path that consists of nothing but fields, such as `.spec.replicas`.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>) {
        match self {
            Self::Field(name) => found.extend(value.get(name)),
            Self::Fields(names) => found.extend(names.iter().filter_map(|name| value.get(name))),
            Self::Items(indices) => {
                let Value::Array(items) = value else { return };
                found.extend(
                    indices
                        .iter()
                        .filter_map(|index| items.get(position(*index, items.len())?)),
                );
            }
            Self::Slice { start, end, step } => {
                let Value::Array(items) = value else { return };
                let bound =
                    |index: i64| position(index, items.len()).unwrap_or(if index < 0 { 0 } else { items.len() });
                let (from, to) = (start.map_or(0, bound), end.map_or(items.len(), bound));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                found.extend(items.iter().take(to.min(items.len())).skip(from).step_by(step));
            }
            Self::Wildcard => found.extend(children(value)),
            Self::Descend => descend(value, found),
            Self::Filter(filter) => found.extend(children(value).filter(|child| filter.accepts(child))),
        }
    }
}

fn position(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { index + len } else { index }).ok()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    found.push(value);
    children(value).for_each(|child| descend(child, found));
}

impl Filter {
    fn accepts(&self, item: &Value) -> bool {
        let left = self.left.value(item);
        let Some((comparison, right)) = &self.test else {
            return left.is_some();
        };
        let (Some(left), Some(right)) = (left, right.value(item)) else {
            return false;
        };
        comparison.holds(left, right)
    }
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Path(path) => path.first(item),
            Self::Literal(value) => Some(value),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let ordering = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
            _ if left == right => Some(Equal),
            _ => None,
        };
        match self {
            Self::Equal => ordering == Some(Equal),
            Self::NotEqual => ordering != Some(Equal),
            Self::Less => ordering == Some(Less),
            Self::LessOrEqual => matches!(ordering, Some(Less | Equal)),
            Self::Greater => ordering == Some(Greater),
            Self::GreaterOrEqual => matches!(ordering, Some(Greater | Equal)),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    const fn error(&self, what: &'static str) -> JsonPathError {
        JsonPathError { what, offset: self.at }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take_text(&mut self, wanted: &str) -> bool {
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn expect(&mut self, wanted: char, what: &'static str) -> Result<(), JsonPathError> {
        if self.take_if(wanted) {
            Ok(())
        } else {
            Err(self.error(what))
        }
    }

    fn spaces(&mut self) {
        while self.take_if(' ') {}
    }

    /// Steps until something that starts none.
    fn steps(&mut self) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.take_text("..") {
                steps.push(Step::Descend);
                if self.peek() != Some('[') {
                    steps.push(self.name_or_wildcard()?);
                }
            } else if self.take_if('.') {
                match self.peek() {
                    // `.` alone is the object itself; `.[0]` is `[0]`
                    None | Some('[' | ')' | ' ') => {}
                    Some(_) => steps.push(self.name_or_wildcard()?),
                }
            } else if self.take_if('[') {
                steps.push(self.brackets()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn name_or_wildcard(&mut self) -> Result<Step, JsonPathError> {
        if self.take_if('*') {
            return Ok(Step::Wildcard);
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    let escaped = self.peek().ok_or_else(|| self.error("unterminated escape"))?;
                    name.push(escaped);
                    self.at += escaped.len_utf8();
                }
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' | ',' | '{' | '}' | '@' | '\'' | '"' => break,
                c => {
                    name.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        if name.is_empty() {
            Err(self.error("expected a field name"))
        } else {
            Ok(Step::Field(name))
        }
    }

    /// What stands between `[` and `]`, and the `]`.
    fn brackets(&mut self) -> Result<Step, JsonPathError> {
        self.spaces();
        let step = match self.peek() {
            Some('*') => {
                self.at += 1;
                Step::Wildcard
            }
            Some('?') => {
                self.at += 1;
                self.expect('(', "expected ( after ?")?;
                let filter = self.filter()?;
                self.expect(')', "unterminated filter")?;
                Step::Filter(filter)
            }
            Some('\'' | '"') => self.quoted_fields()?,
            Some('0'..='9' | '-' | ':') => self.numbers()?,
            _ => return Err(self.error("expected an index, a quoted field, a filter or *")),
        };
        self.spaces();
        self.expect(']', "unterminated array index")?;
        Ok(step)
    }

    fn quoted_fields(&mut self) -> Result<Step, JsonPathError> {
        let mut names = vec![self.quoted()?];
        while self.take_if(',') {
            self.spaces();
            names.push(self.quoted()?);
        }
        Ok(if names.len() == 1 {
            Step::Field(names.swap_remove(0))
        } else {
            Step::Fields(names)
        })
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return Err(self.error("expected a quoted text"));
        };
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if c == quote {
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
            } else if let Some(escaped) = self.peek() {
                text.push(escaped);
                self.at += escaped.len_utf8();
            }
        }
        Err(self.error("unterminated quoted text"))
    }

    /// `0`, `0,2`, `1:3`, `:3`, `1:`, `::2`
    fn numbers(&mut self) -> Result<Step, JsonPathError> {
        let first = self.number()?;
        if self.peek() == Some(':') {
            let mut parts = [first, None, None];
            for part in &mut parts[1..] {
                if !self.take_if(':') {
                    break;
                }
                *part = self.number()?;
            }
            let step = parts[2].unwrap_or(1);
            if step < 1 {
                return Err(self.error("step must be positive"));
            }
            return Ok(Step::Slice {
                start: parts[0],
                end: parts[1],
                step,
            });
        }
        let mut indices = vec![first.ok_or_else(|| self.error("expected an index"))?];
        while self.take_if(',') {
            self.spaces();
            indices.push(self.number()?.ok_or_else(|| self.error("expected an index"))?);
        }
        Ok(Step::Items(indices))
    }

    fn number(&mut self) -> Result<Option<i64>, JsonPathError> {
        let start = self.at;
        self.take_if('-');
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
        if self.at == start {
            return Ok(None);
        }
        self.text[start..self.at].parse().map(Some).map_err(|_| JsonPathError {
            what: "invalid index",
            offset: start,
        })
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        self.spaces();
        let left = self.operand()?;
        self.spaces();
        let comparison = COMPARISONS
            .iter()
            .find(|(text, _)| self.take_text(text))
            .map(|(_, comparison)| *comparison);
        let test = match comparison {
            None => None,
            Some(comparison) => {
                self.spaces();
                Some((comparison, self.operand()?))
            }
        };
        self.spaces();
        Ok(Filter { left, test })
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        if self.take_if('@') {
            return Ok(Operand::Path(JsonPath { steps: self.steps()? }));
        }
        if matches!(self.peek(), Some('\'' | '"')) {
            return Ok(Operand::Literal(Value::String(self.quoted()?)));
        }
        let rest = &self.text[self.at..];
        let end = rest.find([')', ' ', '=', '!', '<', '>']).unwrap_or(rest.len());
        let literal =
            serde_json::from_str(&rest[..end]).map_err(|_| self.error("expected @, a quoted text or a number"))?;
        self.at += end;
        Ok(Operand::Literal(literal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(path: &str) -> Value {
        let object = json!({
            "metadata": {"annotations": {"example.com/team": "a"}},
            "spec": {"replicas": 3, "list": [10, 20, 30, 40], "empty": null},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Progressing", "status": "False", "n": 2, "message": "slow"},
            ]},
        });
        let path = JsonPath::compile(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let found = path.find(&object);
        assert_eq!(path.first(&object), found.first().copied());
        json!(found)
    }

    #[test]
    fn finds() {
        for (path, found) in [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            ("$.spec.replicas", json!([3])),
            (".spec.absent.deeper", json!([])),
            (".spec.empty", json!([null])),
            (".metadata.annotations['example.com/team']", json!(["a"])),
            (r".metadata.annotations.example\.com/team", json!(["a"])),
            (".spec.list[1]", json!([20])),
            (".spec.list[-1]", json!([40])),
            (".spec.list[9]", json!([])),
            (".spec.list[-9]", json!([])),
            (".spec.list[0,2]", json!([10, 30])),
            (".spec.list[1:3]", json!([20, 30])),
            (".spec.list[:-1]", json!([10, 20, 30])),
            (".spec.list[::2]", json!([10, 30])),
            (".spec.list[3:1]", json!([])),
            (".status.conditions[*].type", json!(["Ready", "Progressing"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Ready')].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".status.conditions[?(@.n>1)].type", json!(["Progressing"])),
            (".status.conditions[?(@.n<=1)].type", json!(["Ready"])),
            (".status.conditions[?(@.message)].type", json!(["Progressing"])),
            (".status.conditions[?(@.type==\"Absent\")].status", json!([])),
            ("..message", json!(["slow"])),
            (".spec['replicas','list'][0]", json!([10])),
        ] {
            assert_eq!(super::tests::find(path), found, "{path}");
        }
    }

    #[test]
    fn refuses() {
        for path in [
            "spec",
            ".spec[",
            ".spec[a]",
            ".spec[?(@.a==)]",
            ".spec['a]",
            ".a..",
            ".spec]",
            "{.spec",
            ".l[::0]",
            ".l[99999999999999999999]",
        ] {
            assert!(JsonPath::compile(path).is_err(), "{path}");
        }
    }

    #[test]
    fn plain_fields() {
        assert_eq!(
            JsonPath::compile(".spec.replicas").unwrap().fields(),
            Some(vec!["spec", "replicas"])
        );
        assert_eq!(JsonPath::compile(".spec.list[0]").unwrap().fields(), None);
    }
}
