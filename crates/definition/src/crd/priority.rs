//! Kubernetes' order of version names: which of two is to be preferred.

use std::cmp::Ordering;

/// By Kubernetes' version priority: stable before beta before alpha, then by major and minor number, so that `v10` > `v2` > `v11beta2` >
/// `v10beta3` > `v3beta1` > `v12alpha1` > `v11alpha2`; names of any other form come last, `foo1` before `foo10`.
/// `Greater` means that `a` is preferred to `b`.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Alpha,
    Beta,
    Stable,
}

/// `v1`, `v1beta2`: stage, major, minor.
fn parse(name: &str) -> Option<(Stage, u64, u64)> {
    let rest = name.strip_prefix('v')?;
    let (major, rest) = number(rest)?;
    if rest.is_empty() {
        return Some((Stage::Stable, major, 0));
    }
    let (stage, rest) = match (rest.strip_prefix("alpha"), rest.strip_prefix("beta")) {
        (Some(rest), _) => (Stage::Alpha, rest),
        (_, Some(rest)) => (Stage::Beta, rest),
        _ => return None,
    };
    let (minor, rest) = number(rest)?;
    rest.is_empty().then_some((stage, major, minor))
}

/// A number that starts with 1 to 9, and the rest.
fn number(text: &str) -> Option<(u64, &str)> {
    if text.starts_with('0') {
        return None;
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_kubernetes_documentation() {
        let expected = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
        ];
        let mut names = expected;
        names.reverse();
        names.sort_by(|a, b| compare(b, a));
        assert_eq!(names, expected);
    }

    #[test]
    fn other_forms() {
        for name in ["v", "v0", "v01", "v1gamma1", "v1beta", "v1beta1x", "1", "V1"] {
            assert_eq!(compare("v1alpha1", name), Ordering::Greater, "{name}");
        }
    }
}
