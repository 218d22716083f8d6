//! [`Pattern`]: a regular expression of a schema, with Go's meaning.
//!
//! Go's syntax (RE2) and ours are the same but for a few things, which are rewritten: `\d`, `\w`, `\s` and `\b` mean ASCII; `[` is an
//! ordinary character within a class; `&&`, `--` and `~~` are no operators there; `{` that starts no repetition is an ordinary character.
//! Nested repetition (`a**`), which Go refuses, is let through.
//!
//! A compiled expression takes 10 KiB and more, and a server may hold thousands that are never used: it is checked when the schema
//! is made, dropped, and compiled again on first use, once. Equal patterns of interned schemas are one.

use regex::{Regex, RegexBuilder};
use std::{fmt, sync::OnceLock};

/// Bytes of a compiled program; Go bounds repetition instead (1000), which comes to about as much.
const SIZE_LIMIT: usize = 4 << 20;
/// Bytes of the lazy automaton of each thread: beyond it matching starts over, still linear.
const DFA_LIMIT: usize = 256 << 10;

/// A regular expression that has been checked.
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

/// What is wrong with an expression, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Checks an expression.
    ///
    /// # Errors
    /// One that does not parse, or is too large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        compile(text).map_err(|error| PatternError(one_line(&error)))?;
        Ok(Self {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text contains a match.
    pub fn is_match(&self, text: &str) -> bool {
        // It compiled in `new`, so it does here.
        self.compiled
            .get_or_init(|| compile(&self.text).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(text))
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&translate(text))
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(DFA_LIMIT)
        .build()
}

/// The last line of a syntax error is the sentence; the lines before draw a picture.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// The same expression in our syntax.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.char_indices().peekable();
    let mut in_class = false;
    // Whether a `]` here would be an ordinary character: right after `[` or `[^`.
    let mut class_start = false;
    while let Some((at, c)) = chars.next() {
        let first_in_class = std::mem::take(&mut class_start);
        match c {
            '\\' => {
                let Some((_, escaped)) = chars.next() else {
                    out.push('\\');
                    break;
                };
                push_escape(escaped, in_class, &mut out);
            }
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.next_if(|(_, c)| *c == '^').is_some() {
                    out.push('^');
                }
            }
            '[' => match posix_class(&text[at..]) {
                Some(class) => {
                    out.push_str(class);
                    // All of ASCII: as many characters as bytes. The first has been taken.
                    for _ in 1..class.len() {
                        chars.next();
                    }
                }
                None => out.push_str("\\["),
            },
            ']' if in_class && first_in_class => out.push_str("\\]"),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && text[..at].ends_with('-') => out.push_str("\\-"),
            '{' if !in_class && !is_repetition(&text[at..]) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

fn push_escape(escaped: char, in_class: bool, out: &mut String) {
    let ascii = match (escaped, in_class) {
        ('d', false) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('w', false) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', false) => "[\\t\\n\\f\\r ]",
        ('S', _) => "[^\\t\\n\\f\\r ]",
        ('d', true) => "0-9",
        ('w', true) => "0-9A-Za-z_",
        ('s', true) => "\\t\\n\\f\\r ",
        ('b', false) => "(?-u:\\b)",
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    out.push_str(ascii);
}

/// `[:alpha:]` at the start of the text.
fn posix_class(text: &str) -> Option<&str> {
    let end = text.find(":]")? + 2;
    let name = text.get(2..end - 2)?;
    let plain = name.strip_prefix('^').unwrap_or(name);
    (text.starts_with("[:") && !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_lowercase())).then(|| &text[..end])
}

/// `{n}`, `{n,}` or `{n,m}` at the start of the text.
fn is_repetition(text: &str) -> bool {
    let Some(inner) = text
        .get(1..)
        .and_then(|rest| rest.split_once('}'))
        .map(|(inner, _)| inner)
    else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            compiled: self.compiled.clone(),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_go_means() {
        for (pattern, text, want) in [
            ("^a+$", "aa", true),
            ("^\\d+$", "12", true),
            ("^\\d+$", "١٢", false),
            ("^[\\d.]+$", "1.2", true),
            ("^[^\\s]$", "\u{a0}", true),
            ("^[\\w-]+$", "a-b", true),
            ("^[a[b]+$", "a[b", true),
            ("^[]a]+$", "]a", true),
            ("^[^]a]+$", "b", true),
            ("^[[:alpha:]]+$", "ab", true),
            ("^[[:alpha:]]+$", ":", false),
            ("^[a&&b]+$", "a&b", true),
            ("^[+--]+$", "+,-", true),
            ("^a{2}$", "aa", true),
            ("^a{,2}$", "a{,2}", true),
            ("^{x}$", "{x}", true),
            ("b", "abc", true),
            ("^\\S+\\.\\w$", "ä.a", true),
            ("\\bfoo\\b", "a foo b", true),
            (r"^(\*\.)?[a-z\-]+$", "*.a-b", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().is_match(text),
                want,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn bad_expressions_are_refused_in_one_line() {
        for pattern in ["(", "[a", "\\", "(?P<n", "a{2000000}", "(?=a)"] {
            let error = Pattern::new(pattern).unwrap_err().to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{pattern}: {error}");
        }
    }
}
