//! What may be a name, a label or an annotation key, with Kubernetes' message texts (`apimachinery/pkg/util/validation`).
//!
//! Each check returns the messages, none when the text is good; checking a good text allocates nothing. How to get it wrong: a
//! name of one kind is not a name of another. Most objects are [`dns1123_subdomain`]s; namespaces and services are labels; RBAC
//! objects are only [`path_segment`]s, so that `system:node` is a name.

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_REGEX: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_REGEX: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_REGEX: &str = "[-._a-zA-Z0-9]+";

/// Longest DNS label, label value, and name part of a label key, in bytes (RFC 1123).
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain in bytes (RFC 1123).
pub const SUBDOMAIN_MAX: usize = 253;
/// Bytes kept of a `generateName` prefix: [`LABEL_MAX`] less the random suffix.
pub const GENERATE_PREFIX_MAX: usize = LABEL_MAX - SUFFIX_LEN;
/// Bytes of all annotations of an object, keys and values.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

const SUFFIX_LEN: usize = 5;
/// No vowels, nor what looks like one: no accidental words. 27 characters, 27^5 ≈ 14.3 million suffixes.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `must be no more than N characters`.
pub fn max_len_message(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn regex_message(rule: &str, regex: &str, examples: &[&str]) -> String {
    let mut text = rule.to_owned();
    text.push_str(" (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            text.push_str(" or ");
        }
        text.push('\'');
        text.push_str(example);
        text.push_str("', ");
    }
    text.push_str("regex used for validation is '");
    text.push_str(regex);
    text.push_str("')");
    text
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether the text has these first and last bytes, and these or `inner` ones between them.
fn is_word(text: &[u8], first: fn(u8) -> bool, last: fn(u8) -> bool, inner: &[u8]) -> bool {
    match text {
        [] => false,
        [only] => first(*only),
        [head, middle @ .., tail] => {
            first(*head) && last(*tail) && middle.iter().all(|b| last(*b) || inner.contains(b))
        }
    }
}

fn is_label_shaped(text: &str) -> bool {
    is_word(text.as_bytes(), is_lower_alnum, is_lower_alnum, b"-")
}

fn is_subdomain_shaped(text: &str) -> bool {
    text.split('.').all(is_label_shaped)
}

fn is_alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn is_qualified_shaped(text: &str) -> bool {
    is_word(text.as_bytes(), is_alnum, is_alnum, b"-_.")
}

/// A DNS label (RFC 1123): what namespaces are named.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len_message(LABEL_MAX));
    }
    if !is_label_shaped(value) {
        if is_subdomain_shaped(value) {
            errors.push("must not contain dots".to_owned());
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            errors.push(regex_message(rule, LABEL_REGEX, &["my-name", "123-abc"]));
        }
    }
    errors
}

/// A DNS subdomain (RFC 1123): what most objects are named.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len_message(SUBDOMAIN_MAX));
    }
    if !is_subdomain_shaped(value) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        errors.push(regex_message(rule, SUBDOMAIN_REGEX, &["example.com"]));
    }
    errors
}

/// A DNS label that starts with a letter (RFC 1035): what services and CRD kinds are named.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len_message(LABEL_MAX));
    }
    if !is_word(value.as_bytes(), |b| b.is_ascii_lowercase(), is_lower_alnum, b"-") {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        errors.push(regex_message(rule, DNS1035_REGEX, &["my-name", "abc-123"]));
    }
    errors
}

/// A qualified name: a name with an optional `subdomain/` before it. Label keys, annotation keys, finalizers, condition types.
pub fn qualified_name(value: &str) -> Vec<String> {
    let rule = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let shape = || regex_message(rule, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"]);
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            let mut text = format!("a valid label key {}", shape());
            text.push_str(" with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')");
            return vec![text];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|e| format!("prefix part {e}")),
                );
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_len_message(LABEL_MAX)));
    }
    if !is_qualified_shaped(name) {
        errors.push(format!("name part {}", shape()));
    }
    errors
}

/// A label's value; may be empty.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len_message(LABEL_MAX));
    }
    if !value.is_empty() && !is_qualified_shaped(value) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        errors.push(regex_message(
            rule,
            LABEL_VALUE_REGEX,
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len_message(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| is_alnum(b) || b"-._".contains(&b)) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_message(
            rule,
            CONFIG_KEY_REGEX,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// Anything that can stand in a URL path: the widest rule for names (RBAC objects).
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|bad| value.contains(bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// A rule with a `generateName` prefix: the text with a good suffix must be good. Kubernetes masks a trailing dash so.
pub fn prefix(value: &str, rule: fn(&str) -> Vec<String>) -> Vec<String> {
    match value.strip_suffix('-') {
        Some(rest) => rule(&format!("{rest}a")),
        None => rule(value),
    }
}

/// A name from a `generateName` prefix: at most [`GENERATE_PREFIX_MAX`] bytes of it and five random characters. Not unique by
/// itself: the caller tries again on a collision.
pub fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATE_PREFIX_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + SUFFIX_LEN);
    name.push_str(&prefix[..end]);
    // The low 62 bits of a v4 UUID are random; 27^5 out of 2^62 leaves no bias that matters.
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    let mut random = low & (u64::MAX >> 2);
    for _ in 0..SUFFIX_LEN {
        name.push(char::from(SUFFIX_ALPHABET[(random % 27) as usize]));
        random /= 27;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn ok(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for value in good {
            assert_eq!(rule(value), Vec::<String>::new(), "{value:?} is good");
        }
        for value in bad {
            assert!(!rule(value).is_empty(), "{value:?} is bad");
        }
    }

    #[test]
    fn each_rule_takes_and_refuses() {
        let long = "a".repeat(64);
        ok(
            dns1123_label,
            &["a", "0", "a-b", "a--b9"],
            &["", "-a", "a-", "A", "a.b", "a_b", "é", &long],
        );
        ok(
            dns1123_subdomain,
            &["a", "a.b-c.0"],
            &["", ".", "a..b", "a.", "a.-b", "A.b", &"a.".repeat(127)],
        );
        ok(dns1035_label, &["a", "a-0"], &["", "0", "0a", "a-", "a.b"]);
        ok(
            qualified_name,
            &["a", "A_b.c", "x.io/A"],
            &["", "/a", "x.io/", "X.io/a", "a/b/c", "-a", "a-", &long],
        );
        ok(label_value, &["", "a", "A_b.c-1"], &["-", "a b", "é", &long]);
        ok(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]);
        ok(
            path_segment,
            &["a", "system:node", "...", ""],
            &[".", "..", "a/b", "a%b"],
        );
    }

    #[test]
    fn messages_are_kubernetes_messages() {
        let all = [
            dns1123_label("A"),
            dns1123_label("a.b"),
            dns1123_subdomain("A"),
            dns1035_label("0"),
            qualified_name("X/"),
            qualified_name("a/b/c"),
            label_value("-"),
            config_map_key("..a/"),
            path_segment("/%"),
        ]
        .concat();
        expect![[r#"
            a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            must not contain dots
            a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            name part must be non-empty
            name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
            a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            must not start with '..'
            may not contain '/'
            may not contain '%'"#]]
        .assert_eq(&all.join("\n"));
    }

    #[test]
    fn generated_names_keep_the_prefix_and_stay_labels() {
        let long = "a".repeat(80);
        for prefix_text in ["web-", long.as_str(), "é".repeat(40).as_str()] {
            let name = generate_name(prefix_text);
            assert!(name.len() <= LABEL_MAX, "{name}");
            let (head, tail) = name.split_at(name.len() - SUFFIX_LEN);
            assert!(prefix_text.starts_with(head));
            assert!(tail.bytes().all(|b| SUFFIX_ALPHABET.contains(&b)), "{tail}");
        }
        assert_ne!(generate_name("a-"), generate_name("a-"));
        assert!(prefix("web-", dns1123_label).is_empty());
        assert!(!prefix("-web", dns1123_label).is_empty());
    }
}
