//! [`UserInfo`]: who a request comes from, and the names that Kubernetes gives to kinds of users.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The group that may do everything (Kubernetes' break-glass group). It bypasses RBAC, so it works even with no role stored.
pub const MASTERS: &str = "system:masters";
/// The group of everybody whose credential was accepted.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without a credential.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without a credential.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all service accounts; `system:serviceaccounts:NAMESPACE` is that of one namespace's.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The group of worker agents; the user is `system:worker:NAME`.
pub const WORKERS: &str = "system:workers";
/// The group of gateways; the user is `system:gateway:NAME`.
pub const GATEWAYS: &str = "system:gateways";
/// The group of Setpoint's own reconcilers; the user is [`reconciler_user`].
pub const RECONCILERS: &str = "system:setpoint:reconcilers";
/// The `extra` key under which a credential names itself (`X509SHA256=…`, `JTI=…`), as in Kubernetes 1.32.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Who a request comes from, as authentication (and impersonation) established it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user name; never empty once authenticated.
    #[serde(rename = "username", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Distinguishes users of one name over time; empty if the authenticator has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups, including [`AUTHENTICATED`] or [`UNAUTHENTICATED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator knows; keys in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with these groups and nothing else.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        Self {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [UNAUTHENTICATED])
    }

    /// The identity of the reconciler `name` inside the server.
    pub fn reconciler(name: &str) -> Self {
        Self::new(reconciler_user(name), [RECONCILERS, AUTHENTICATED])
    }

    /// The identity of a service account. An empty `uid` means that it is not known.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [
            SERVICE_ACCOUNTS.to_owned(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
            AUTHENTICATED.to_owned(),
        ];
        Self {
            uid: uid.to_owned(),
            ..Self::new(service_account_user(namespace, name), groups)
        }
    }

    /// Whether the user is in the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the request carried no credential.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Whether the user is a part of the system (its name starts with `system:`) and not a person or a service account.
    pub fn is_system(&self) -> bool {
        self.name.starts_with("system:") && !self.is_anonymous() && split_service_account(&self.name).is_none()
    }

    /// Adds the group unless it is there.
    pub(crate) fn join(&mut self, group: &str) {
        if !self.is_in(group) {
            self.groups.push(group.to_owned());
        }
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The namespace and name in a service account's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    whole.then_some((namespace, name))
}

/// `system:setpoint:reconciler:NAME`.
pub fn reconciler_user(name: &str) -> String {
    format!("system:setpoint:reconciler:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_service_account_names_split() {
        assert_eq!(
            split_service_account("system:serviceaccount:ns:name"),
            Some(("ns", "name"))
        );
        for user in [
            "system:serviceaccount:ns",
            "system:serviceaccount::name",
            "system:serviceaccount:ns:",
            "system:serviceaccount:ns:a:b",
            "x:system:serviceaccount:ns:name",
        ] {
            assert_eq!(split_service_account(user), None, "{user}");
        }
    }

    #[test]
    fn the_system_is_neither_people_nor_service_accounts() {
        assert!(UserInfo::reconciler("deployment").is_system());
        assert!(UserInfo::new("system:worker:w1", [WORKERS]).is_system());
        assert!(!UserInfo::anonymous().is_system());
        assert!(!UserInfo::service_account("a", "b", "").is_system());
        assert!(!UserInfo::new("alice", [MASTERS]).is_system());
    }
}
