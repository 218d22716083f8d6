//! Nobody hands out what they do not hold: the checks on writes of roles and bindings.
//!
//! Source: Kubernetes' RBAC documentation, "Privilege escalation prevention and bootstrapping". A role may be written by who
//! holds all of its permissions or the verb `escalate` on it; a binding by who holds all permissions of the role or the verb
//! `bind` on it.

use serde_json::Value;
use setpoint_meta::{Status, quote::quoted};

use super::{
    GROUP,
    index::{Authorizer, RbacKind, RulesReview},
    rule::{ALL, PolicyRule, has, has_or_all, url_matches},
};
use crate::{Attributes, UserInfo, user::MASTERS};

/// The most rules of a refusal's message; the rest is counted.
const MAX_LISTED: usize = 20;

/// Whether `held` allows everything that `wanted` allows.
pub fn covers(held: &[PolicyRule], wanted: &[PolicyRule]) -> bool {
    first_uncovered(held, wanted).next().is_none()
}

/// The parts of `wanted` that `held` does not allow, each for a single verb, group, resource and name.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    first_uncovered(held, wanted).collect()
}

fn first_uncovered<'a>(held: &'a [PolicyRule], wanted: &'a [PolicyRule]) -> impl Iterator<Item = PolicyRule> + 'a {
    wanted
        .iter()
        .flat_map(atoms)
        .filter(move |atom| !held.iter().any(|rule| atom.is_within(rule)))
        .map(|atom| atom.to_rule())
}

/// A rule cut down to one thing.
#[derive(Clone, Copy)]
enum Atom<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        /// `None` = all names.
        name: Option<&'a str>,
    },
    Url {
        verb: &'a str,
        url: &'a str,
    },
}

fn atoms(rule: &PolicyRule) -> impl Iterator<Item = Atom<'_>> {
    let names: Vec<Option<&str>> = match rule.resource_names.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let resources = rule.verbs.iter().flat_map(move |verb| {
        let names = names.clone();
        rule.api_groups.iter().flat_map(move |group| {
            let names = names.clone();
            rule.resources.iter().flat_map(move |resource| {
                names.clone().into_iter().map(move |name| Atom::Resource {
                    verb,
                    group,
                    resource,
                    name,
                })
            })
        })
    });
    let urls = rule.verbs.iter().flat_map(|verb| {
        let urls = rule.non_resource_urls.iter();
        urls.map(move |url| Atom::Url { verb, url })
    });
    resources.chain(urls)
}

impl Atom<'_> {
    fn is_within(&self, rule: &PolicyRule) -> bool {
        match *self {
            Self::Url { verb, url } => {
                let mut held = rule.non_resource_urls.iter();
                has_or_all(&rule.verbs, verb) && held.any(|held| url_matches(held, url))
            }
            Self::Resource {
                verb,
                group,
                resource,
                name,
            } => {
                let all_of_kind = match resource.split_once('/') {
                    Some((_, sub)) => has(&rule.resources, &format!("*/{sub}")),
                    None => false,
                };
                has_or_all(&rule.verbs, verb)
                    && has_or_all(&rule.api_groups, group)
                    && (has_or_all(&rule.resources, resource) || all_of_kind)
                    && (rule.resource_names.is_empty() || name.is_some_and(|name| has(&rule.resource_names, name)))
            }
        }
    }

    fn to_rule(self) -> PolicyRule {
        match self {
            Self::Resource {
                verb,
                group,
                resource,
                name,
            } => {
                let rule = PolicyRule::resources(&[verb], &[group], &[resource]);
                match name {
                    Some(name) => rule.named(&[name]),
                    None => rule,
                }
            }
            Self::Url { verb, url } => PolicyRule::urls(&[verb], &[url]),
        }
    }
}

impl Authorizer {
    /// May `user` write this Role or ClusterRole? `old` is the stored object on an update. A write that leaves the rules as they
    /// are is always allowed.
    ///
    /// # Errors
    /// 403 that lists the permissions that the user lacks.
    pub fn check_role(&self, user: &UserInfo, kind: RbacKind, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let name = text(new, &["metadata", "name"]);
        let namespace = text(new, &["metadata", "namespace"]);
        let aggregation = |role: &Value| role.get("aggregationRule").filter(|rule| !rule.is_null()).cloned();
        let wanted = PolicyRule::list_from(new);
        if let Some(old) = old
            && PolicyRule::list_from(old) == wanted
            && aggregation(old) == aggregation(new)
        {
            return Ok(());
        }
        if user.is_in(MASTERS) || self.holds_verb(user, "escalate", kind, namespace, name) {
            return Ok(());
        }
        let held = self.rules_for(user, namespace);
        // Whoever chooses what is aggregated chooses from all rules there are, now and later.
        let chooses = aggregation(new).is_some() || old.and_then(aggregation).is_some();
        let everything = [
            PolicyRule::resources(&[ALL], &[ALL], &[ALL]),
            PolicyRule::urls(&[ALL], &[ALL]),
        ];
        let mut missing = uncovered(&held.rules(), &wanted);
        if chooses {
            missing.extend(uncovered(&held.rules(), &everything));
        }
        refuse_missing(user, kind, name, &missing, &held)
    }

    /// May `user` write this RoleBinding or ClusterRoleBinding? `old` is the stored object on an update. A write that changes
    /// neither the role nor the subjects is always allowed.
    ///
    /// # Errors
    /// 403 that lists the permissions of the role that the user lacks; 404 when the role does not exist.
    pub fn check_binding(
        &self,
        user: &UserInfo,
        kind: RbacKind,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Status> {
        if let Some(old) = old
            && old.get("roleRef") == new.get("roleRef")
            && old.get("subjects") == new.get("subjects")
        {
            return Ok(());
        }
        let namespace = text(new, &["metadata", "namespace"]);
        let role_name = text(new, &["roleRef", "name"]);
        let role_kind = match text(new, &["roleRef", "kind"]) {
            "Role" => RbacKind::Role,
            _ => RbacKind::ClusterRole,
        };
        if user.is_in(MASTERS) || self.holds_verb(user, "bind", role_kind, namespace, role_name) {
            return Ok(());
        }
        let Some(wanted) = self.role_rules(role_kind, namespace, role_name) else {
            return Err(Status::not_found(&role_kind.group_resource(), role_name));
        };
        let held = self.rules_for(user, namespace);
        let missing = uncovered(&held.rules(), &wanted);
        refuse_missing(user, kind, text(new, &["metadata", "name"]), &missing, &held)
    }

    fn holds_verb(&self, user: &UserInfo, verb: &str, role: RbacKind, namespace: &str, name: &str) -> bool {
        let asked = Attributes::resource(user, verb, GROUP, role.plural())
            .in_namespace(namespace)
            .named(name);
        self.authorize(&asked).is_allowed()
    }
}

fn refuse_missing(
    user: &UserInfo,
    kind: RbacKind,
    name: &str,
    missing: &[PolicyRule],
    held: &RulesReview,
) -> Result<(), Status> {
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<_> = user.groups.iter().map(|group| quoted(group)).collect();
    let mut lines: Vec<_> = missing.iter().take(MAX_LISTED).map(PolicyRule::compact).collect();
    if missing.len() > MAX_LISTED {
        lines.push(format!("and {} more", missing.len() - MAX_LISTED));
    }
    let mut why = format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        quoted(&user.name),
        groups.join(" "),
        lines.join("\n"),
    );
    if !held.errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", held.errors.join(", ")));
    }
    Err(Status::forbidden(&kind.group_resource(), name, why))
}

fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().try_fold(object, |value, key| value.get(key));
    found.and_then(Value::as_str).unwrap_or("")
}
