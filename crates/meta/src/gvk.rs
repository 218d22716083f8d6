//! Group, version, kind and resource: how the API names types. Empty group = the legacy core group.

use std::fmt;

/// Group, version and kind of an object, as `apiVersion` and `kind` say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// API group; empty for core.
    pub group: String,
    /// Version, as `v1` or `v1alpha1`.
    pub version: String,
    /// Kind in CamelCase.
    pub kind: String,
}

/// An `apiVersion` with more than one slash, or with nothing where the version should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

impl Gvk {
    /// Of these three parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// From an object's `apiVersion` (`v1` or `group/version`) and `kind`.
    ///
    /// # Errors
    /// An `apiVersion` with more than one slash.
    pub fn parse(api_version: &str, kind: &str) -> Result<Self, ParseGroupVersionError> {
        let (group, version) = parse_group_version(api_version)?;
        Ok(Self::new(group, version, kind))
    }

    /// `version` for core, else `group/version`.
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// Without the version.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group.clone(), self.kind.clone())
    }
}

/// As Kubernetes prints it in messages: `apps/v1, Kind=Deployment`.
impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

/// Splits an `apiVersion` into group (empty for core) and version.
///
/// # Errors
/// More than one slash.
pub fn parse_group_version(api_version: &str) -> Result<(&str, &str), ParseGroupVersionError> {
    match api_version.split_once('/') {
        None => Ok(("", api_version)),
        Some((_, version)) if version.contains('/') => Err(ParseGroupVersionError(api_version.to_owned())),
        Some((group, version)) => Ok((group, version)),
    }
}

/// `version` for core, else `group/version`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn dotted(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    f.write_str(name)?;
    if group.is_empty() {
        return Ok(());
    }
    f.write_str(".")?;
    f.write_str(group)
}

/// Group and plural resource: `deployments.apps`, or `pods` for core.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// API group; empty for core.
    pub group: String,
    /// Lower-case plural.
    pub resource: String,
}

impl GroupResource {
    /// Of these two parts.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }

    /// Whether it names nothing (a path that is no resource).
    pub fn is_empty(&self) -> bool {
        self.group.is_empty() && self.resource.is_empty()
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.resource, &self.group)
    }
}

/// Group and kind: `Deployment.apps`, or `Pod` for core.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind {
    /// API group; empty for core.
    pub group: String,
    /// Kind in CamelCase.
    pub kind: String,
}

impl GroupKind {
    /// Of these two parts.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.kind, &self.group)
    }
}

impl From<&GroupKind> for GroupKind {
    fn from(kind: &GroupKind) -> Self {
        kind.clone()
    }
}

impl From<&Gvk> for GroupKind {
    fn from(gvk: &Gvk) -> Self {
        gvk.group_kind()
    }
}

/// Group, version and plural resource: what a request path names.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvr {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Lower-case plural.
    pub resource: String,
}

impl Gvr {
    /// Of these three parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// Without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.resource.clone())
    }

    /// `version` for core, else `group/version`.
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }
}

/// As Kubernetes prints it in messages: `apps/v1, Resource=deployments`.
impl fmt::Display for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Resource={}", self.api_version(), self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_version_is_read_and_written() {
        let core = Gvk::parse("v1", "Pod").unwrap();
        assert_eq!((core.group.as_str(), core.api_version().as_str()), ("", "v1"));
        let apps = Gvk::parse("apps/v1", "Deployment").unwrap();
        assert_eq!(apps.to_string(), "apps/v1, Kind=Deployment");
        assert_eq!(apps.group_kind().to_string(), "Deployment.apps");
        assert_eq!(
            Gvk::parse("a/b/c", "X").unwrap_err().to_string(),
            "unexpected GroupVersion string: a/b/c"
        );
    }

    #[test]
    fn resources_are_dotted_only_outside_core() {
        assert_eq!(GroupResource::new("", "pods").to_string(), "pods");
        assert_eq!(
            Gvr::new("apps", "v1", "deployments").group_resource().to_string(),
            "deployments.apps"
        );
    }
}
