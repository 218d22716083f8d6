//! From what a person types to a kind that is served; names that nearly match.

use anyhow::{Context, Result, bail};
use kube::{
    Client,
    api::ApiResource,
    discovery::{Discovery, Scope, verbs},
};

/// Every kind that can be listed, each in its preferred version.
pub(super) async fn kinds(client: &Client) -> Result<Vec<(ApiResource, Scope)>> {
    let discovery = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .context("cannot ask the server which kinds it serves")?;
    let groups = discovery.groups().flat_map(|g| g.recommended_resources());
    Ok(groups
        .filter(|(_, c)| c.supports_operation(verbs::LIST))
        .map(|(r, c)| (r, c.scope))
        .collect())
}

/// The kind that a person means: plural, singular (the kind in lower case) or kind, optionally followed by `.group`.
pub(super) fn kind(kinds: &[(ApiResource, Scope)], typed: &str) -> Result<(ApiResource, Scope)> {
    let typed = typed.to_lowercase();
    let (name, group) = typed.split_once('.').map_or((&*typed, None), |(n, g)| (n, Some(g)));
    let is = |r: &ApiResource| {
        (r.plural == name || r.kind.to_lowercase() == name || short(r) == Some(name))
            && group.is_none_or(|g| r.group == g)
    };
    if let Some((resource, scope)) = kinds.iter().find(|(r, _)| is(r)) {
        return Ok((resource.clone(), scope.clone()));
    }
    let near = nearest(name, kinds.iter().map(|(r, _)| &*r.plural));
    let hint = near.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
    bail!("the server serves no kind {typed:?}{hint} (kubectl api-resources lists them)")
}

/// Short names of the kinds that one asks about most.
fn short(resource: &ApiResource) -> Option<&'static str> {
    match &*resource.plural {
        "modeldeployments" => Some("md"),
        "replicas" => Some("rep"),
        "namespaces" => Some("ns"),
        "configmaps" => Some("cm"),
        _ => None,
    }
}

/// The nearest name, if it is at most a third of its letters and one more away (two letters swapped count as two).
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|n| (distance(wanted, n), n)).min()?;
    (near.0 <= wanted.len() / 3 + 1).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("chta", ["chat", "code"].into_iter()), Some("chat"));
        assert_eq!(nearest("chat", ["embedding"].into_iter()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
