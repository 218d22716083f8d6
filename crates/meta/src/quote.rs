//! Values as Go prints them. Kubernetes' messages are made with Go's `%q`, `%v` and `json.Marshal`; clients and their tests compare
//! those texts, so ours come out of these functions and not out of Rust's `{:?}`, which differs (`\u{7f}` against `\x7f`).

use serde_json::Value;

/// The text in double quotes, as Go's `%q` (`strconv.Quote`) writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            '\0'..='\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether Go would print a character above ASCII as it is. Rust's own table is used (both follow Unicode's general categories);
/// the `a` keeps Rust from escaping a combining mark just because it comes first.
fn printable(c: char) -> bool {
    let mut text = String::from("a");
    text.push(c);
    !text.escape_debug().any(|c| c == '\\')
}

/// Texts in double quotes, joined by `", "`: the form of every "supported values" list.
pub fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for text in texts {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&quoted(text));
    }
    out
}

/// The JSON text as Go's `json.Marshal` writes it: compact, keys sorted, and `<`, `>`, `&` escaped.
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => match (n.is_f64(), n.as_f64()) {
            (true, Some(f)) => out.push_str(&float(f)),
            _ => out.push_str(&format!("{n}")),
        },
        Value::String(s) => write_json_string(s, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json_string(key, out);
                out.push(':');
                write_json(&map[key], out);
            }
            out.push('}');
        }
    }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A float as Go's `%v` writes it: the shortest digits that read back, an exponent from 1e21 up and below 1e-4.
pub fn float(f: f64) -> String {
    let magnitude = f.abs();
    if f == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return format!("{f}");
    }
    let text = format!("{f:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(rest) => ('-', rest),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        for (input, want) in [
            ("a", r#""a""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\r\x07\x0b\x00\x7f", r#""\n\t\r\a\v\x00\x7f""#),
            ("é漢\u{301}", "\"é漢\u{301}\""),
            ("\u{a0}\u{200b}\u{e0001}", r#""\u00a0\u200b\U000e0001""#),
            ("it's", r#""it's""#),
        ] {
            assert_eq!(quoted(input), want);
        }
    }

    #[test]
    fn floats_are_printed_as_go_prints_them() {
        for (f, want) in [
            (1.5, "1.5"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-5, "1e-05"),
            (-0.25, "-0.25"),
            (2.0, "2"),
        ] {
            assert_eq!(float(f), want);
        }
    }

    #[test]
    fn json_escapes_what_go_escapes() {
        assert_eq!(
            json(&json!({"b": "<&>", "a": [1, 1.5, null]})),
            r#"{"a":[1,1.5,null],"b":"\u003c\u0026\u003e"}"#
        );
    }
}
