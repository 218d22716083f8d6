//! The grammar of label selectors: a lexer with one token of look-ahead and a recursive-descent parser.

use super::{Operator, ParseSelectorError, Requirement, check_key};
use crate::field::{Path, aggregate};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value, `in` or `notin`: which one depends on where it stands.
    Word(&'a str),
    /// An operator or punctuation.
    Symbol(&'static str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) => text,
            Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

/// Longest first, so that `==` is not two `=`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> (Token<'a>, &'a str) {
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            return (Token::End, rest);
        }
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            return (Token::Symbol(symbol), &rest[symbol.len()..]);
        }
        let end = rest
            .find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<'])
            .unwrap_or(rest.len());
        (Token::Word(&rest[..end]), &rest[end..])
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.peek();
        self.rest = rest;
        token
    }
}

fn expected(found: Token<'_>, what: &str) -> ParseSelectorError {
    ParseSelectorError(format!("found '{}', expected: {what}", found.text()))
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, ParseSelectorError> {
    let mut lexer = Lexer { rest: text };
    let mut requirements = Vec::new();
    loop {
        match lexer.peek().0 {
            Token::Word(_) | Token::Symbol("!") => {
                let one = requirement(&mut lexer)
                    .map_err(|e| ParseSelectorError(format!("unable to parse requirement: {e}")))?;
                requirements.push(one);
            }
            Token::End => return Ok(requirements),
            other => return Err(expected(other, "!, identifier, or 'end of string'")),
        }
        match lexer.next() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") => {
                let (after, _) = lexer.peek();
                if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                    return Err(expected(after, "identifier after ','"));
                }
            }
            other => return Err(expected(other, "',' or 'end of string'")),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, ParseSelectorError> {
    let mut token = lexer.next();
    let negated = token == Token::Symbol("!");
    if negated {
        token = lexer.next();
    }
    let Token::Word(key) = token else {
        return Err(expected(token, "identifier"));
    };
    let mut errors = Vec::new();
    check_key(key, &Path::root(), &mut errors);
    if !errors.is_empty() {
        return Err(ParseSelectorError(aggregate(&errors)));
    }
    // As in Kubernetes, `!key` followed by anything is not looked at further: the caller then finds no comma.
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    if matches!(lexer.peek().0, Token::End | Token::Symbol(",")) {
        return Requirement::new(key, Operator::Exists, Vec::new());
    }
    let operator = match lexer.next() {
        Token::Word("in") => Operator::In,
        Token::Word("notin") => Operator::NotIn,
        Token::Symbol("=") => Operator::Equals,
        Token::Symbol("==") => Operator::DoubleEquals,
        Token::Symbol("!=") => Operator::NotEquals,
        Token::Symbol(">") => Operator::GreaterThan,
        Token::Symbol("<") => Operator::LessThan,
        other => return Err(expected(other, "in, notin, =, ==, !=, gt, lt")),
    };
    let values = match operator {
        Operator::In | Operator::NotIn => values(lexer)?,
        _ => vec![exact_value(lexer)?],
    };
    Requirement::new(key, operator, values)
}

/// `a=` and `a=,b` have the empty value.
fn exact_value(lexer: &mut Lexer<'_>) -> Result<String, ParseSelectorError> {
    match lexer.peek().0 {
        Token::End | Token::Symbol(",") => return Ok(String::new()),
        _ => {}
    }
    match lexer.next() {
        Token::Word(value) => Ok(value.to_owned()),
        other => Err(expected(other, "identifier")),
    }
}

/// `(a,b)`; nothing before, between or after commas is the empty value.
fn values(lexer: &mut Lexer<'_>) -> Result<Vec<String>, ParseSelectorError> {
    let open = lexer.next();
    if open != Token::Symbol("(") {
        return Err(ParseSelectorError(format!("found '{}' expected: '('", open.text())));
    }
    let mut values = Vec::new();
    loop {
        match lexer.next() {
            Token::Word(value) => {
                values.push(value.to_owned());
                match lexer.next() {
                    Token::Symbol(",") if lexer.peek().0 != Token::Symbol(")") => {}
                    Token::Symbol(",") => values.push(String::new()),
                    Token::Symbol(")") => return Ok(values),
                    other => return Err(expected(other, "',' or ')'")),
                }
            }
            Token::Symbol(",") => values.push(String::new()),
            Token::Symbol(")") => {
                if values.is_empty() || values.last().is_some_and(|last| !last.is_empty()) {
                    values.push(String::new());
                }
                return Ok(values);
            }
            other if values.is_empty() => return Err(expected(other, "',', ')' or identifier")),
            other => return Err(expected(other, "',', or identifier")),
        }
    }
}
