//! Formats of times.

use setpoint_meta::time;

/// `full-date` of RFC 3339.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10 && text.is_ascii() && text.parse::<jiff::civil::Date>().is_ok() && !text.starts_with(['+', '-'])
}

/// `date-time` of RFC 3339; `t` and `z` may be small letters.
pub(super) fn is_date_time(text: &str) -> bool {
    // A leap second is no time in Kubernetes.
    if text.get(17..19) == Some("60") {
        return false;
    }
    match text.bytes().any(|b| matches!(b, b't' | b'z')) {
        true => time::parse_rfc3339(&text.to_ascii_uppercase()).is_ok(),
        false => time::parse_rfc3339(text).is_ok(),
    }
}

/// As Go's `time.ParseDuration` takes it, or a number with a unit in words.
pub(super) fn is_duration(text: &str) -> bool {
    is_go_duration(text) || has_worded_duration(text)
}

/// `-1h30m`, `1.5s`, `0`
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let numeric = digits.bytes().filter(|b| *b == b'.').count() <= 1 && digits.bytes().any(|b| b.is_ascii_digit());
        if !numeric || !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
    }
    true
}

/// Short names must be whole; what a long name starts with is enough, as `week` of `weeks`.
const SHORT: [&str; 15] = [
    "ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk", "nano", "micro", "milli", "sec",
];
const LONG: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];

/// A number and a unit anywhere in the text, as go-openapi looks for them.
fn has_worded_duration(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let after = rest[start..].trim_start_matches(|c: char| c.is_ascii_digit());
        let word = after.trim_start_matches([' ', '\t', '\n', '\r']);
        let end = word
            .find(|c: char| !c.is_ascii_alphabetic() && c != 'µ')
            .unwrap_or(word.len());
        let unit = word[..end].to_lowercase();
        if SHORT.contains(&unit.as_str()) || LONG.iter().any(|long| unit.starts_with(long)) {
            return true;
        }
        rest = &word[end..];
    }
    false
}
