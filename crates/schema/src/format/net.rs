//! Formats of the network: addresses, hosts, URIs, mail.

use std::net::IpAddr;

/// An address; leading zeros of IPv4 parts are tolerated, as Kubernetes does for old objects' sake, and zones are not.
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let plain = |part: &&str| {
        let digits = part.trim_start_matches('0');
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && digits.len() <= 3
            && digits.parse::<u16>().unwrap_or(0) < 256
    };
    (parts.len() == 4 && parts.iter().all(plain)).then_some(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let plain = !length.is_empty() && length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
    let longest = match parse_ip(address) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    plain && length.parse::<u16>().is_ok_and(|n| n <= longest)
}

/// 6, 8 or 20 bytes, in pairs with `:` or `-`, or in fours with `.`.
pub(super) fn is_mac(text: &str) -> bool {
    let Some(separator) = text.chars().find(|c| matches!(c, ':' | '-' | '.')) else {
        return false;
    };
    let digits = if separator == '.' { 4 } else { 2 };
    let mut groups = 0;
    for group in text.split(separator) {
        if group.len() != digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        groups += 1;
    }
    matches!(groups * digits / 2, 6 | 8 | 20)
}

/// Labels of letters, digits, symbols and inner dashes; the last of two or more is letters only. RFC 1034 and 1123, widened by
/// go-openapi to letters of any script. A single label may have one dash, and that behind its first character: go-openapi again.
pub(super) fn is_hostname(text: &str) -> bool {
    let wide = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
            || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
    };
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    match text.rsplit_once('.') {
        None => {
            let mut chars = text.chars();
            let first = chars.next().is_some_and(wide);
            let rest = chars.as_str();
            first && rest.strip_prefix('-').unwrap_or(rest).chars().all(wide)
        }
        Some((labels, top)) => {
            let label = |label: &str| {
                label.starts_with(wide) && label.ends_with(wide) && label.chars().all(|c| wide(c) || c == '-')
            };
            top.chars().count() >= 2 && top.chars().all(char::is_alphabetic) && labels.split('.').all(label)
        }
    }
}

/// As Go's `url.ParseRequestURI` takes it: `scheme:…` or an absolute path.
pub(super) fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        Some((before, _)) if !before.contains(['/', '?', '#']) => return false,
        _ => ("", text),
    };
    let (path, _) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(below) = path.strip_prefix('/') else {
        return !scheme.is_empty();
    };
    let Some(authority) = below.strip_prefix('/').filter(|_| !scheme.is_empty()) else {
        return is_escaped(path);
    };
    let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    is_escaped(path) && is_authority(authority)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let user_ok = user
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b));
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address, port),
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    user_ok
        && port_ok
        && is_escaped(user)
        && is_escaped(host)
        && !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}'])
}

/// Whether each `%` is followed by two hexadecimal digits.
fn is_escaped(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

/// An address, alone or in angle brackets behind a name.
pub(super) fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    match text.strip_suffix('>') {
        Some(rest) => rest.split_once('<').is_some_and(|(name, address)| {
            let name = name.trim();
            let quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
            (quoted
                || name
                    .split(' ')
                    .all(|word| word.is_empty() || word.chars().all(is_atom) || is_dotted(word)))
                && is_address(address)
        }),
        None => is_address(text),
    }
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain
        .strip_prefix('[')
        .and_then(|d| d.strip_suffix(']'))
        .is_some_and(|d| parse_ip(d).is_some());
    (quoted || is_dotted(local)) && (literal || is_dotted(domain))
}

fn is_dotted(text: &str) -> bool {
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atom))
}

/// RFC 5322, "atext", with all of Unicode (RFC 6532).
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}
