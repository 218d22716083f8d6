//! The role of a reconciler, made from what it declares.

use std::collections::BTreeMap;

use serde_json::Value;
use setpoint_meta::GroupResource;

use super::{OWN_PREFIX, READ, cluster_binding, cluster_role, subject};
use crate::{authz::PolicyRule, user::reconciler_user};

/// What a reconciler declares. Its ClusterRole allows that and nothing else.
#[derive(Clone, Debug, Default)]
pub struct ReconcilerGrant {
    /// Its name; the user is `system:setpoint:reconciler:NAME`.
    pub name: String,
    /// The kinds that it looks at, its own included.
    pub reads: Vec<GroupResource>,
    /// The kinds of its children, which it makes, changes and removes. Owning includes reading.
    pub owns: Vec<GroupResource>,
    /// The kind and the part (`status`, `binding`, …) that it alone writes.
    pub part: Option<(GroupResource, String)>,
    /// Rights by name, where the clean rule breaks: `Bind`, `Evict`, finalizers.
    pub extra: Vec<PolicyRule>,
}

impl ReconcilerGrant {
    /// The rules, in an order that depends on nothing but the declaration's content.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let part = self.part.iter().map(|(resource, _)| resource);
        let mut rules = by_group(READ, self.reads.iter().chain(&self.owns).chain(part));
        rules.extend(by_group(&["create", "delete", "patch", "update"], self.owns.iter()));
        if let Some((resource, part)) = &self.part {
            let name = format!("{}/{part}", resource.resource);
            rules.push(PolicyRule::resources(
                &["get", "patch", "update"],
                &[&resource.group],
                &[&name],
            ));
        }
        rules.push(PolicyRule::resources(
            &["create", "patch", "update"],
            &["", "events.k8s.io"],
            &["events"],
        ));
        rules.extend(self.extra.iter().cloned());
        rules
    }

    /// The ClusterRole and its binding.
    pub fn objects(&self) -> [Value; 2] {
        reconciler_objects(&self.name, self.rules())
    }
}

/// The ClusterRole and binding of the reconciler `name` with these rules.
pub fn reconciler_objects(name: &str, rules: Vec<PolicyRule>) -> [Value; 2] {
    let role = format!("{OWN_PREFIX}reconciler:{name}");
    let user = subject("User", &reconciler_user(name));
    [cluster_role(&role, rules), cluster_binding(&role, &role, &[user])]
}

/// One rule for each group.
fn by_group<'a>(verbs: &[&str], resources: impl Iterator<Item = &'a GroupResource>) -> Vec<PolicyRule> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in resources {
        groups.entry(&resource.group).or_default().push(&resource.resource);
    }
    let rule = |(group, mut resources): (&str, Vec<&str>)| {
        resources.sort_unstable();
        resources.dedup();
        PolicyRule::resources(verbs, &[group], &resources)
    };
    groups.into_iter().map(rule).collect()
}
