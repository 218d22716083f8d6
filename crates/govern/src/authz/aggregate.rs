//! Aggregated ClusterRoles: a role whose rules are those of all roles that its selectors match.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use serde_json::Value;
use setpoint_meta::LabelSelector;

use super::rule::PolicyRule;

/// What aggregation needs of one ClusterRole.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) labels: BTreeMap<String, String>,
    /// The rules in the object; for an aggregated role they are somebody's copy and do not count.
    pub(super) rules: Arc<[PolicyRule]>,
    /// `Some` for an aggregated role.
    pub(super) selectors: Option<Vec<LabelSelector>>,
}

impl Member {
    pub(super) fn from_value(role: &Value) -> Self {
        Self {
            labels: labels(role),
            rules: PolicyRule::list_from(role).into(),
            selectors: selectors(role),
        }
    }
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let texts = labels.into_iter().flatten();
    texts
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A selector that cannot be read matches nothing; the API server refuses such an object when it is written.
fn selectors(role: &Value) -> Option<Vec<LabelSelector>> {
    let rule = role.get("aggregationRule").filter(|rule| !rule.is_null())?;
    let selectors = rule.get("clusterRoleSelectors").and_then(Value::as_array);
    let parsed = selectors.into_iter().flatten();
    Some(
        parsed
            .filter_map(|selector| LabelSelector::from_json(selector).ok())
            .collect(),
    )
}

/// The union of the rules of every plain role that `name` reaches through its selectors, and through those of the aggregated roles
/// that it reaches; each rule once, in the order of the roles' names. Circles are harmless.
pub(super) fn resolve(name: &str, roles: &BTreeMap<String, Member>) -> Vec<PolicyRule> {
    let mut reached = BTreeSet::from([name.to_owned()]);
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        let Some(selectors) = roles.get(&next).and_then(|role| role.selectors.as_ref()) else {
            continue;
        };
        for (other, member) in roles {
            if selectors.iter().any(|s| s.matches(&member.labels)) && reached.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    let mut seen = HashSet::new();
    let plain = reached
        .iter()
        .filter_map(|name| roles.get(name))
        .filter(|role| role.selectors.is_none());
    plain
        .flat_map(|role| role.rules.iter())
        .filter(|rule| seen.insert(*rule))
        .cloned()
        .collect()
}

/// For each aggregated role among `cluster_roles` (ClusterRole objects): its name and what its `rules` should be. The caller that
/// stores them (the aggregation loop) is for people who read the objects: the [`super::Authorizer`] resolves by itself.
pub fn aggregated_rules<'a>(cluster_roles: impl IntoIterator<Item = &'a Value>) -> Vec<(String, Vec<PolicyRule>)> {
    let roles: BTreeMap<String, Member> = cluster_roles
        .into_iter()
        .filter_map(|role| {
            let name = role.pointer("/metadata/name")?.as_str()?;
            Some((name.to_owned(), Member::from_value(role)))
        })
        .collect();
    let aggregated = roles.iter().filter(|(_, role)| role.selectors.is_some());
    aggregated
        .map(|(name, _)| (name.clone(), resolve(name, &roles)))
        .collect()
}
