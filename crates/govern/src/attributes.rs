//! What a request asks for, as authorization and audit see it, and the answer.

use setpoint_meta::{GroupResource, Status, quote::quoted};

use crate::UserInfo;

/// What a request asks for. All parts borrow from the request. Build it with [`Attributes::resource`] or
/// [`Attributes::non_resource`], then set what else applies.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks (after impersonation).
    pub user: &'a UserInfo,
    /// For a resource `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection` or a special verb; for a
    /// path the HTTP method in lower case.
    pub verb: &'a str,
    /// API group; empty for core.
    pub api_group: &'a str,
    /// Version within the group.
    pub api_version: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// `status`, `scale`, …; empty for the main resource.
    pub subresource: &'a str,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// The object's name; empty for create and for collections. A `list`, `watch` or `deletecollection` whose field selector is
    /// `metadata.name=X` carries X here, as in Kubernetes, so that `resourceNames` works with it.
    pub name: &'a str,
    /// The URL's path.
    pub path: &'a str,
    /// Whether the request is for a resource. If not, only `user`, `verb` and `path` count.
    pub resource_request: bool,
}

impl<'a> Attributes<'a> {
    /// A request for a resource, at cluster scope, without a name.
    pub fn resource(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            api_group: group,
            resource,
            resource_request: true,
            ..Self::non_resource(user, verb, "")
        }
    }

    /// A request for a path that is no resource.
    pub fn non_resource(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self {
            user,
            verb,
            api_group: "",
            api_version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path,
            resource_request: false,
        }
    }

    /// The same in a namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &'a str) -> Self {
        Self { namespace, ..self }
    }

    /// The same for a named object.
    #[must_use]
    pub fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// The same for a subresource.
    #[must_use]
    pub fn subresource(self, subresource: &'a str) -> Self {
        Self { subresource, ..self }
    }

    /// Whether the request changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }

    /// Kubernetes' sentence for a refusal: `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
    pub fn refusal(&self) -> String {
        let (user, verb) = (quoted(&self.user.name), self.verb);
        if !self.resource_request {
            return format!("User {user} cannot {verb} path {}", quoted(self.path));
        }
        let resource = match self.subresource {
            "" => quoted(self.resource),
            subresource => quoted(&format!("{}/{subresource}", self.resource)),
        };
        let scope = match self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {}", quoted(namespace)),
        };
        let group = quoted(self.api_group);
        format!("User {user} cannot {verb} resource {resource} in API group {group} {scope}")
    }

    /// The 403 for a refusal, with the authorizer's reason if it has one.
    pub fn forbidden(&self, reason: &str) -> Status {
        let resource = match self.resource_request {
            true => GroupResource::new(self.api_group, self.resource),
            false => GroupResource::default(),
        };
        let name = if self.resource_request { self.name } else { "" };
        match reason {
            "" => Status::forbidden(&resource, name, self.refusal()),
            reason => Status::forbidden(&resource, name, format!("{}: {reason}", self.refusal())),
        }
    }
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why. The text goes into the audit annotation `authorization.k8s.io/reason`.
    Allow(String),
    /// Nothing allows it; with nobody else to ask that is a refusal. The reason is usually empty; it names roles that bindings
    /// refer to but that do not exist.
    NoOpinion(String),
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why; may be empty.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }

    /// The word in the audit annotation `authorization.k8s.io/decision`.
    pub fn audit_word(&self) -> &'static str {
        if self.is_allowed() { "allow" } else { "forbid" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn refusals_read_as_in_kubernetes() {
        let user = UserInfo::new("jane", ["a"]);
        let pods = Attributes::resource(&user, "list", "", "pods");
        let all = [
            pods.in_namespace("y").forbidden(""),
            pods.forbidden(""),
            Attributes::resource(&user, "update", "apps", "deployments")
                .subresource("scale")
                .in_namespace("y")
                .named("web")
                .forbidden("RBAC: role.rbac.authorization.k8s.io \"r\" not found"),
            Attributes::non_resource(&user, "get", "/metrics").forbidden(""),
        ];
        let text: Vec<_> = all.iter().map(|status| status.message.as_str()).collect();
        expect![[r#"
            pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "y"
            pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope
            deployments.apps "web" is forbidden: User "jane" cannot update resource "deployments/scale" in API group "apps" in the namespace "y": RBAC: role.rbac.authorization.k8s.io "r" not found
            forbidden: User "jane" cannot get path "/metrics""#]]
        .assert_eq(&text.join("\n"));
        assert!(all.iter().all(|status| status.code == 403));
    }
}
