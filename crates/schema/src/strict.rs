//! Decoding JSON as Kubernetes does: once over the bytes, with a report of duplicate fields.
//!
//! Guarantees: nothing is decoded twice; nesting is bounded by [`MAX_DEPTH`]; whole numbers stay whole (`i64`, else `u64`), all others
//! are floats; of duplicate fields the last one wins, and each is reported (up to [`MAX_DUPLICATES`]). Bytes that are not UTF-8 and
//! lone surrogates become U+FFFD, as in Go. Errors say what was found, with Go's words, and at which line and column.
//!
//! How to get it wrong: decoding with another decoder "just this once": what it accepts (depth, duplicates) then depends on the path
//! that a request takes.

mod text;

use serde_json::{Map, Number, Value};
use setpoint_meta::field::Trail;
use std::fmt;

/// Deepest nesting of lists and objects. Real objects stay under 20; a schema in a CRD doubles its own depth, and stays under 60.
pub const MAX_DEPTH: usize = 100;
/// Most duplicates reported; the same number as Kubernetes'.
pub const MAX_DUPLICATES: usize = 100;

/// A field that an object has twice. `Display` is Kubernetes' text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Where, as `spec.containers[0].image`.
    pub path: String,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "duplicate field \"{}\"", self.path)
    }
}

/// The bytes are not one JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct DecodeError {
    /// What was found, in the words of Go's decoder.
    pub message: String,
    /// Offset of the byte, from 0.
    pub offset: usize,
    /// Line of the byte, from 1.
    pub line: usize,
    /// Place of the byte in its line, from 1.
    pub column: usize,
}

/// Decodes one JSON value, with only white space around it.
///
/// # Errors
/// Anything else, and nesting deeper than [`MAX_DEPTH`].
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    let mut decoder = Decoder {
        bytes,
        at: 0,
        depth: 0,
        duplicates: Vec::new(),
    };
    let decoded = decoder.document();
    match decoded {
        Ok(value) => Ok((value, decoder.duplicates)),
        Err(message) => {
            let offset = decoder.at.min(bytes.len());
            let before = &bytes[..offset];
            let line_start = before
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |newline| newline + 1);
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            Err(DecodeError {
                message,
                offset,
                line,
                column: offset - line_start + 1,
            })
        }
    }
}

struct Decoder<'a> {
    bytes: &'a [u8],
    /// Of an error, the byte at fault.
    at: usize,
    depth: usize,
    duplicates: Vec<Duplicate>,
}

type Answer<T> = Result<T, String>;

impl Decoder<'_> {
    fn document(&mut self) -> Answer<Value> {
        let value = self.value(&Trail::root())?;
        self.skip_space();
        if self.at < self.bytes.len() {
            self.unexpected("after top-level value")
        } else {
            Ok(value)
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The byte at hand is wrong where it stands.
    fn unexpected<T>(&self, context: &str) -> Answer<T> {
        let Some(byte) = self.peek() else {
            return Err("unexpected end of JSON input".to_owned());
        };
        let shown = match byte {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b' '..=b'~' => format!("'{}'", char::from(byte)),
            b'\n' => r"'\n'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            byte => format!(r"'\x{byte:02x}'"),
        };
        Err(format!("invalid character {shown} {context}"))
    }

    fn value(&mut self, at: &Trail<'_>) -> Answer<Value> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(|decoder| decoder.object(at).map(Value::Object)),
            Some(b'[') => self.nested(|decoder| decoder.array(at).map(Value::Array)),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => self.unexpected("looking for beginning of value"),
        }
    }

    fn nested(&mut self, decode: impl FnOnce(&mut Self) -> Answer<Value>) -> Answer<Value> {
        if self.depth == MAX_DEPTH {
            return Err(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.depth += 1;
        self.at += 1;
        let value = decode(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self, at: &Trail<'_>) -> Answer<Map<String, Value>> {
        let mut map = Map::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(map);
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.unexpected("looking for beginning of object key string");
            }
            let name = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.unexpected("after object key");
            }
            self.at += 1;
            let value = self.value(&at.child(&name))?;
            self.insert(&mut map, name, value, at);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(map);
                }
                _ => return self.unexpected("after object key:value pair"),
            }
        }
    }

    fn insert(&mut self, map: &mut Map<String, Value>, name: String, value: Value, at: &Trail<'_>) {
        match map.entry(name) {
            serde_json::map::Entry::Vacant(slot) => drop(slot.insert(value)),
            serde_json::map::Entry::Occupied(mut slot) => {
                if self.duplicates.len() < MAX_DUPLICATES {
                    let path = at.child(slot.key()).to_path().as_str().to_owned();
                    let duplicate = Duplicate { path };
                    if !self.duplicates.contains(&duplicate) {
                        self.duplicates.push(duplicate);
                    }
                }
                slot.insert(value);
            }
        }
    }

    fn array(&mut self, at: &Trail<'_>) -> Answer<Vec<Value>> {
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            let item = self.value(&at.index(items.len()))?;
            items.push(item);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return self.unexpected("after array element"),
            }
        }
    }

    fn literal(&mut self, text: &str, value: Value) -> Answer<Value> {
        for expected in text.bytes() {
            if self.peek() != Some(expected) {
                return self.unexpected(&format!("in literal {text} (expecting '{}')", char::from(expected)));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Answer<Number> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ if self.digits() => {}
            _ => return self.unexpected("in numeric literal"),
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            if !self.digits() {
                return self.unexpected("after decimal point in numeric literal");
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if !self.digits() {
                return self.unexpected("in exponent of numeric literal");
            }
        }
        // Digits, points, signs and `e` only: it is UTF-8.
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        let found = whole
            .then(|| {
                text.parse::<i64>()
                    .ok()
                    .map(Number::from)
                    .or_else(|| text.parse::<u64>().ok().map(Number::from))
            })
            .flatten()
            .or_else(|| text.parse().ok().and_then(Number::from_f64));
        found.ok_or_else(|| {
            self.at = start;
            format!("json: cannot unmarshal number {text} into Go value of type float64")
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
