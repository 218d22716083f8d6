//! [`Policy`]: how much of which request is recorded. The first rule that matches decides, as in Kubernetes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Facts, Level, Stage};
use crate::{
    Attributes, UserInfo,
    user::{GATEWAYS, RECONCILERS, WORKERS},
};

/// An audit policy (`audit.k8s.io/v1` Policy), and our one addition to it, `refusals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Asked in order. A request that none matches is not recorded.
    pub rules: Vec<Rule>,
    /// Stages that make no record, whatever the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit_stages: Vec<Stage>,
    /// The least level for requests that were refused. Not in Kubernetes, where a rule cannot see the outcome.
    #[serde(default = "metadata")]
    pub refusals: Level,
}

fn metadata() -> Level {
    Level::Metadata
}

/// One rule. An empty list matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// How much is recorded.
    pub level: Level,
    /// User names (of who authenticated).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Groups, any of which suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_groups: Vec<String>,
    /// Verbs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Resources. A rule with resources or namespaces does not match paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<GroupResources>,
    /// Namespaces; the empty text is cluster scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Paths, with a trailing `*`. A rule with paths does not match resources.
    #[serde(rename = "nonResourceURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// Stages that make no record under this rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit_stages: Vec<Stage>,
}

/// Resources of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupResources {
    /// The group; empty is core.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}

impl Rule {
    /// Matches everything, at this level.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            users: Vec::new(),
            user_groups: Vec::new(),
            verbs: Vec::new(),
            resources: Vec::new(),
            namespaces: Vec::new(),
            non_resource_urls: Vec::new(),
            omit_stages: Vec::new(),
        }
    }

    fn matches(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        let open_or = |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|i| i == wanted);
        let groups = &self.user_groups;
        if !open_or(&self.users, &user.name)
            || !(groups.is_empty() || groups.iter().any(|group| user.is_in(group)))
            || !open_or(&self.verbs, attributes.verb)
        {
            return false;
        }
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        let about_paths = !self.non_resource_urls.is_empty();
        match (about_resources, about_paths) {
            (false, false) => true,
            (true, _) if attributes.resource_request => {
                open_or(&self.namespaces, attributes.namespace)
                    && (self.resources.is_empty() || self.resources.iter().any(|group| group.matches(attributes)))
            }
            (_, true) if !attributes.resource_request => {
                let path = attributes.path;
                self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => path == url,
                })
            }
            _ => false,
        }
    }
}

impl GroupResources {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        if self.group != attributes.api_group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let names = &self.resource_names;
        if !names.is_empty() && !names.iter().any(|name| name == attributes.name) {
            return false;
        }
        let (resource, subresource) = (attributes.resource, attributes.subresource);
        self.resources.iter().any(|rule| match rule.split_once('/') {
            None => rule == "*" || (subresource.is_empty() && rule == resource),
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((main, "*")) => main == resource && !subresource.is_empty(),
            Some((main, sub)) => main == resource && sub == subresource && !sub.is_empty(),
        })
    }
}

impl Policy {
    /// Reads a policy object.
    ///
    /// # Errors
    /// An unknown level or stage, a missing level, or a wrong type.
    pub fn from_json(policy: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(policy)
    }

    /// How much of this stage of the request is recorded.
    pub fn level(&self, facts: &Facts<'_>) -> Level {
        if self.omit_stages.contains(&facts.stage) {
            return Level::None;
        }
        let least = match facts.is_refusal() {
            true => self.refusals,
            false => Level::None,
        };
        let user = facts.impersonator.unwrap_or(facts.attributes.user);
        let rule = self.rules.iter().find(|rule| rule.matches(user, &facts.attributes));
        match rule {
            Some(rule) if !rule.omit_stages.contains(&facts.stage) => rule.level.max(least),
            _ => least,
        }
    }
}

/// What is recorded unless an administrator says otherwise: every write, every look at a Secret by a person, every refusal. Not:
/// heartbeats and events, which say nothing about people and come every second; access reviews, which change nothing; other reads.
impl Default for Policy {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let of = |group: &str, resources: &[&str]| GroupResources {
            group: group.to_owned(),
            resources: texts(resources),
            ..GroupResources::default()
        };
        let reads = texts(&["get", "list", "watch"]);
        Self {
            rules: vec![
                Rule {
                    resources: vec![
                        of("", &["events"]),
                        of("events.k8s.io", &[]),
                        of("coordination.k8s.io", &["leases"]),
                        of("authorization.k8s.io", &[]),
                        of("authentication.k8s.io", &[]),
                    ],
                    ..Rule::new(Level::None)
                },
                Rule {
                    user_groups: texts(&[RECONCILERS, WORKERS, GATEWAYS]),
                    verbs: reads.clone(),
                    ..Rule::new(Level::None)
                },
                Rule {
                    resources: vec![of("", &["secrets"])],
                    ..Rule::new(Level::Metadata)
                },
                Rule {
                    verbs: reads,
                    ..Rule::new(Level::None)
                },
                Rule {
                    non_resource_urls: texts(&["*"]),
                    ..Rule::new(Level::None)
                },
                Rule::new(Level::Metadata),
            ],
            omit_stages: vec![Stage::RequestReceived],
            refusals: Level::Metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn level(policy: &Policy, attributes: Attributes<'_>, code: u16) -> Level {
        policy.level(&Facts::new("id", attributes, Timestamp::UNIX_EPOCH, code))
    }

    #[test]
    fn the_default_records_writes_secrets_and_refusals() {
        let policy = Policy::default();
        let jane = UserInfo::new("jane", ["system:authenticated"]);
        let loops = UserInfo::reconciler("deployment");
        let on = Attributes::resource;
        use Level::{Metadata, None};
        for (attributes, code, expected) in [
            (on(&jane, "create", "", "configmaps"), 201, Metadata),
            (
                on(&jane, "patch", "apps", "deployments").subresource("scale"),
                200,
                Metadata,
            ),
            (
                on(&loops, "create", "inference.setpoint.dev", "replicas"),
                201,
                Metadata,
            ),
            (on(&jane, "get", "", "configmaps"), 200, None),
            (on(&jane, "get", "", "configmaps"), 403, Metadata),
            (on(&jane, "get", "", "secrets"), 200, Metadata),
            (on(&jane, "list", "", "secrets"), 200, Metadata),
            (on(&loops, "list", "", "secrets"), 200, None),
            (on(&loops, "list", "", "secrets"), 403, Metadata),
            (on(&loops, "update", "coordination.k8s.io", "leases"), 200, None),
            (on(&jane, "create", "", "events"), 201, None),
            (on(&jane, "create", "", "events"), 403, Metadata),
            (
                on(&jane, "create", "authorization.k8s.io", "selfsubjectaccessreviews"),
                201,
                None,
            ),
            (Attributes::non_resource(&jane, "get", "/healthz"), 200, None),
            (Attributes::non_resource(&jane, "get", "/metrics"), 403, Metadata),
            (Attributes::non_resource(&jane, "get", "/apis"), 401, Metadata),
            (on(&jane, "create", "", "configmaps"), 409, Metadata),
        ] {
            assert_eq!(level(&policy, attributes, code), expected, "{attributes:?} {code}");
        }
        let mut facts = Facts::new("id", on(&jane, "create", "", "configmaps"), Timestamp::UNIX_EPOCH, 0);
        facts.stage = Stage::RequestReceived;
        assert_eq!(policy.level(&facts), None);
    }

    #[test]
    fn a_kubernetes_policy_is_read_and_the_first_match_decides() {
        let policy = Policy::from_json(json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
            "rules": [
                {"level": "RequestResponse", "resources": [{"group": "", "resources": ["pods/*", "*/scale"]}]},
                {"level": "Request", "users": ["ann"], "namespaces": ["a", ""]},
                {"level": "None", "nonResourceURLs": ["/healthz*"]},
                {"level": "Metadata", "userGroups": ["devs"], "omitStages": ["ResponseComplete"]},
                {"level": "Metadata", "resources": [{"group": "x", "resources": ["things"], "resourceNames": ["one"]}]},
            ],
        }))
        .expect("policy");
        let ann = UserInfo::new("ann", [""; 0]);
        let dev = UserInfo::new("bob", ["devs"]);
        let other = UserInfo::new("carl", [""; 0]);
        let on = Attributes::resource;
        for (attributes, code, expected) in [
            (
                on(&other, "get", "", "pods").subresource("log"),
                200,
                Level::RequestResponse,
            ),
            (on(&other, "get", "", "pods"), 200, Level::None),
            (
                on(&other, "get", "", "services").subresource("scale"),
                200,
                Level::RequestResponse,
            ),
            (on(&other, "get", "apps", "pods").subresource("log"), 200, Level::None),
            (on(&ann, "get", "", "pods").in_namespace("a"), 200, Level::Request),
            (on(&ann, "get", "", "nodes"), 200, Level::Request),
            (on(&ann, "get", "", "pods").in_namespace("b"), 200, Level::None),
            (Attributes::non_resource(&ann, "get", "/healthz/x"), 200, Level::None),
            (on(&dev, "get", "", "pods"), 200, Level::None),
            (on(&dev, "get", "", "pods"), 403, Level::Metadata),
            (on(&other, "get", "x", "things").named("one"), 200, Level::Metadata),
            (on(&other, "get", "x", "things").named("two"), 200, Level::None),
        ] {
            assert_eq!(level(&policy, attributes, code), expected, "{attributes:?}");
        }
        assert!(Policy::from_json(json!({"rules": [{"level": "Everything"}]})).is_err());
        assert!(Policy::from_json(json!({"rules": [{}]})).is_err());
    }

    #[test]
    fn impersonation_is_judged_by_who_authenticated() {
        let policy = Policy::from_json(json!({"rules": [{"level": "Metadata", "users": ["root"]}]})).expect("policy");
        let (root, jane) = (UserInfo::new("root", [""; 0]), UserInfo::new("jane", [""; 0]));
        let mut facts = Facts::new(
            "id",
            Attributes::resource(&jane, "get", "", "pods"),
            Timestamp::UNIX_EPOCH,
            200,
        );
        assert_eq!(policy.level(&facts), Level::None);
        facts.impersonator = Some(&root);
        assert_eq!(policy.level(&facts), Level::Metadata);
    }
}
