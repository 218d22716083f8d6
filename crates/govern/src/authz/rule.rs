//! One RBAC rule, and whether it allows a request.
//!
//! The semantics are those of Kubernetes' `rbac/v1` PolicyRule, kept exactly, because people's roles depend on them:
//! - a rule for resources never speaks about paths, nor the other way round, even if both lists are filled;
//! - `*` in `resources` covers every subresource; `pods` does not cover `pods/log`; `*/scale` covers `scale` of everything;
//! - `resourceNames` never match a request without a name (create, an unfiltered list);
//! - a trailing `*` in `nonResourceURLs` is a prefix match, any other `*` is a plain character.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_meta::quote::quoted;

use crate::Attributes;

/// "Everything", in any list of a rule but `resourceNames`.
pub const ALL: &str = "*";

/// A rule of a Role or ClusterRole (`rbac.authorization.k8s.io/v1` PolicyRule).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// What may be done.
    pub verbs: Vec<String>,
    /// To which API groups' resources; `""` is core.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// To which resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// To which names only; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// To which paths.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

impl PolicyRule {
    /// A rule for resources.
    pub fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        Self {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            ..Self::default()
        }
    }

    /// A rule for paths.
    pub fn urls(verbs: &[&str], urls: &[&str]) -> Self {
        Self {
            verbs: owned(verbs),
            non_resource_urls: owned(urls),
            ..Self::default()
        }
    }

    /// The same rule for these names only.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.resource_names = owned(names);
        self
    }

    /// Reads the `rules` of a Role or ClusterRole object. What is no list of texts is read as empty: the API server has validated
    /// the object, and an empty list allows nothing.
    pub fn list_from(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules.into_iter().flatten().map(Self::from_value).collect()
    }

    fn from_value(rule: &Value) -> Self {
        let list = |key: &str| {
            let items = rule.get(key).and_then(Value::as_array);
            let texts = items.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        has_or_all(&self.verbs, attributes.verb) && self.allows_object(attributes)
    }

    /// [`PolicyRule::allows`] for a request whose verb is known to match.
    pub(super) fn allows_object(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.resource_request {
            let mut urls = self.non_resource_urls.iter();
            return urls.any(|url| url_matches(url, attributes.path));
        }
        has_or_all(&self.api_groups, attributes.api_group)
            && self
                .resources
                .iter()
                .any(|rule| resource_matches(rule, attributes.resource, attributes.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, attributes.name))
    }

    /// The one-line form of Kubernetes' messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
    pub fn compact(&self) -> String {
        let mut parts = Vec::new();
        for (name, list) in [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                let items: Vec<_> = list.iter().map(|item| quoted(item)).collect();
                parts.push(format!("{name}:[{}]", items.join(" ")));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }
}

pub(super) fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

pub(super) fn has_or_all(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

/// Whether a rule's `resources` entry is about `resource` (or `resource/subresource`).
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.split_once('/') {
        Some((main, sub)) => sub == subresource && (main == ALL || main == resource),
        None => false,
    }
}

/// Whether a rule's `nonResourceURLs` entry covers `path`, which may itself be a pattern.
pub(super) fn url_matches(rule: &str, path: &str) -> bool {
    if rule == ALL || rule == path {
        return true;
    }
    rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserInfo;

    /// `verb group resource[/sub] [name]`, or `verb /path`.
    fn allows(rule: &PolicyRule, request: &str) -> bool {
        let user = UserInfo::default();
        let parts: Vec<&str> = request.split(' ').collect();
        let attributes = if parts[1].starts_with('/') {
            Attributes::non_resource(&user, parts[0], parts[1])
        } else {
            let group = if parts[1] == "core" { "" } else { parts[1] };
            let (resource, sub) = parts[2].split_once('/').unwrap_or((parts[2], ""));
            Attributes::resource(&user, parts[0], group, resource)
                .subresource(sub)
                .named(parts.get(3).copied().unwrap_or(""))
        };
        rule.allows(&attributes)
    }

    /// Decisions written down from Kubernetes' RBAC documentation ("Referring to resources", "Aggregated", "nonResourceURLs") and
    /// from the comments of its `rbac/v1` types.
    #[test]
    fn the_documented_decisions() {
        let pods = PolicyRule::resources(&["get", "list"], &[""], &["pods"]);
        let log = PolicyRule::resources(&["get"], &[""], &["pods", "pods/log"]);
        let sub = PolicyRule::resources(&["update"], &["*"], &["*/scale"]);
        let all = PolicyRule::resources(&["*"], &["*"], &["*"]);
        let apps = PolicyRule::resources(&["*"], &["apps"], &["*"]);
        let named = PolicyRule::resources(&["get", "list", "create"], &[""], &["configmaps"]).named(&["a"]);
        let health = PolicyRule::urls(&["get"], &["/healthz", "/healthz/*"]);
        let every = PolicyRule::urls(&["*"], &["*"]);
        let mixed = PolicyRule {
            non_resource_urls: owned(&["/x"]),
            ..pods.clone()
        };
        for (rule, request, expected) in [
            (&pods, "get core pods", true),
            (&pods, "list core pods", true),
            (&pods, "watch core pods", false),
            (&pods, "get apps pods", false),
            (&pods, "get core pods/log", false),
            (&pods, "get core services", false),
            (&log, "get core pods/log x", true),
            (&log, "get core pods/exec x", false),
            (&sub, "update apps deployments/scale", true),
            (&sub, "update apps deployments", false),
            (&sub, "update apps deployments/status", false),
            (&sub, "update apps deployments/autoscale", false),
            (&all, "delete x.io things/anything n", true),
            (&all, "get /healthz", false),
            (&apps, "patch apps deployments/status", true),
            (&apps, "patch core pods", false),
            (&named, "get core configmaps a", true),
            (&named, "get core configmaps b", false),
            (&named, "list core configmaps", false),
            (&named, "list core configmaps a", true),
            (&named, "create core configmaps", false),
            (&health, "get /healthz", true),
            (&health, "get /healthz/etcd", true),
            (&health, "get /healthzz", false),
            (&health, "post /healthz", false),
            (&health, "get core healthz", false),
            (&every, "delete /anything", true),
            (&every, "get core pods", false),
            (&mixed, "get /x", true),
            (&mixed, "get core pods", true),
        ] {
            assert_eq!(allows(rule, request), expected, "{} on {request}", rule.compact());
        }
    }

    #[test]
    fn rules_are_read_leniently_and_allow_nothing_by_accident() {
        let role = serde_json::json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": null, "apiGroups": 5},
        ]});
        let rules = PolicyRule::list_from(&role);
        assert_eq!(rules[0], PolicyRule::resources(&["get"], &[""], &["pods"]));
        assert_eq!(rules[1], PolicyRule::default());
        assert!(!allows(&rules[1], "get core pods"));
        assert!(PolicyRule::list_from(&serde_json::json!({"rules": null})).is_empty());
    }

    #[test]
    fn the_compact_form_is_kubernetes() {
        let rule = PolicyRule::resources(&["get", "list"], &[""], &["pods"]).named(&["a"]);
        assert_eq!(
            rule.compact(),
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#
        );
    }
}
