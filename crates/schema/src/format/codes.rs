//! Formats with digits and check sums.

/// Dashes are optional, one by one; of a version, its digit and (from 4) the variant are looked at.
pub(super) fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut rest = text.as_bytes();
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if let (1.., Some((b'-', after))) = (i, rest.split_first()) {
            rest = after;
        }
        let Some((group, after)) = rest.split_at_checked(length) else {
            return false;
        };
        let right = match (i, version) {
            (2, Some(version)) => group[0] == b'0' + version,
            (3, Some(4..)) => matches!(group[0].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => true,
        };
        if !right || !group.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// Standard alphabet with padding; bits behind the padding do not matter.
pub(super) fn is_base64(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return false;
    }
    let padding = bytes.iter().rev().take(2).take_while(|b| **b == b'=').count();
    bytes[..bytes.len() - padding]
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn without_separators(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !matches!(b, b' ' | b'-')).collect()
}

pub(super) fn is_isbn10(text: &str) -> bool {
    let digits = without_separators(text);
    let [head @ .., check] = digits.as_slice() else {
        return false;
    };
    if head.len() != 9 || !head.iter().all(u8::is_ascii_digit) || !(check.is_ascii_digit() || *check == b'X') {
        return false;
    }
    let sum: u32 = (1..).zip(head).map(|(i, d)| i * u32::from(d - b'0')).sum();
    let check = if *check == b'X' { 10 } else { u32::from(check - b'0') };
    (sum + 10 * check).is_multiple_of(11)
}

pub(super) fn is_isbn13(text: &str) -> bool {
    let digits = without_separators(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(i, d)| u32::from(d - b'0') * if i % 2 == 0 { 1 } else { 3 })
        .sum();
    sum.is_multiple_of(10)
}

/// The numbers of the large issuers, with a right check digit; all but digits is ignored.
pub(super) fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    let starts = |prefix: &[u8]| digits.starts_with(prefix);
    let issued = match digits.len() {
        13 => starts(&[4]),
        14 => starts(&[3, 6]) || starts(&[3, 8]) || (starts(&[3, 0]) && digits[2] <= 5),
        15 => starts(&[3, 4]) || starts(&[3, 7]) || starts(&[2, 1, 3, 1]) || starts(&[1, 8, 0, 0]),
        16 => {
            starts(&[4])
                || starts(&[6, 0, 1, 1])
                || starts(&[6, 5])
                || starts(&[3, 5])
                || (starts(&[5]) && (1..=5).contains(&digits[1]))
        }
        _ => false,
    };
    let luhn: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| u32::from(*d) * if i % 2 == 0 { 1 } else { 2 })
        .map(|n| if n > 9 { n - 9 } else { n })
        .sum();
    issued && luhn.is_multiple_of(10)
}

/// `ddd-dd-dddd`; a space or nothing for each dash.
pub(super) fn is_ssn(text: &str) -> bool {
    let mut rest = text;
    for (i, length) in [3, 2, 4].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(['-', ' ']).unwrap_or(rest);
        }
        let Some((group, after)) = rest.split_at_checked(length) else {
            return false;
        };
        if !group.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

pub(super) fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn is_rgb_color(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')')) else {
        return false;
    };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    let part = |p: &&str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u8>().is_ok();
    parts.len() == 3 && parts.iter().all(part)
}
