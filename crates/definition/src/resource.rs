//! [`ResourceDefinition`]: everything that the request path asks about a kind.
//!
//! It is immutable and shared (`Arc`): a change of a CRD makes a new one. Nothing in it is computed on the request path.

use std::sync::Arc;

use serde_json::Value;
use setpoint_meta::field::FieldError;
use setpoint_meta::{GroupResource, Gvk};
use setpoint_schema::Schema;

use crate::table;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/apis/G/V/namespaces/NS/PLURAL/NAME`
    Namespaced,
    /// `/apis/G/V/PLURAL/NAME`
    Cluster,
}

/// Where a definition comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A kind of Kubernetes itself: strategic merge patch is served.
    Kubernetes,
    /// A kind that Setpoint ships, described by a CustomResourceDefinition manifest: served as a custom resource.
    Setpoint,
    /// A CustomResourceDefinition object in the store.
    CustomResource,
}

/// A verb that a resource may serve, as discovery names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// The word in discovery, RBAC and audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }

    /// Every verb of an ordinary stored kind.
    pub const STORED: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];
    /// What a part serves: it exists with its object, so it is neither created nor deleted.
    pub const PART: &'static [Self] = &[Self::Get, Self::Patch, Self::Update];
    /// What a virtual kind such as SubjectAccessReview serves.
    pub const REVIEW: &'static [Self] = &[Self::Create];
}

/// A top-level field with its own subresource and its own writer: `status` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the field and of the subresource.
    pub name: Arc<str>,
}

/// The paths of a `/scale` subresource, each a dotted path below the root (CustomResourceSubresourceScale).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// e.g. `spec.replicas`
    pub spec_replicas: Vec<String>,
    /// e.g. `status.replicas`
    pub status_replicas: Vec<String>,
    /// e.g. `status.selector`
    pub label_selector: Option<Vec<String>>,
}

/// A column of `kubectl get` (CustomResourceColumnDefinition).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub ty: String,
    /// e.g. `name` for the first column.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// 0 is shown always; larger only with `-o wide`.
    pub priority: i32,
    /// Where the cell comes from.
    pub cell: Cell,
}

/// Where the cell of a column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `metadata.name`
    Name,
    /// The age of `metadata.creationTimestamp`.
    Age,
    /// A JSONPath below the root, compiled.
    Path(table::JsonPath),
    /// A computed cell of a built-in kind, by the name of its printer in [`table`].
    Computed(table::Printer),
}

/// Rules of a kind on names of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain: the ordinary rule.
    Subdomain,
    /// DNS-1123 label (namespaces).
    Label,
    /// Any path segment (RBAC kinds).
    PathSegment,
}

/// A subresource that is neither a part nor `/scale`, such as `serviceaccounts/token`: the API server has a handler for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The last segment of its path, e.g. `token`.
    pub name: &'static str,
    /// The kind of what is sent and answered, e.g. `authentication.k8s.io/v1 TokenRequest`.
    pub gvk: (&'static str, &'static str, &'static str),
    /// The verbs that it serves.
    pub verbs: &'static [Verb],
}

/// Says that a definition has no storage of its own: its objects are those of another definition, in other words.
///
/// The API server reads an object of the other definition and calls `from_stored`; before a write it calls `to_stored`, and stores (and
/// publishes to watchers) the result. Both keep `metadata` as it is and set `apiVersion` and `kind`. Both are total: what they do not
/// understand they leave.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The API group of the definition that stores the objects; the plural is the same.
    pub group: &'static str,
    /// From the stored form to this definition's.
    pub from_stored: fn(&mut Value),
    /// From this definition's form to the stored one.
    pub to_stored: fn(&mut Value),
}

/// Fills in what no schema default can say, after the schema's defaults. Idempotent.
pub type Defaulter = fn(&mut Value);

/// Checks that no schema can make, on a decoded, pruned and defaulted object: `(new, old)`, `old` on updates. Metadata is not its part.
pub type Validator = fn(&Value, Option<&Value>) -> Vec<FieldError>;

/// One served (or merely stored) version of a kind.
#[derive(Clone, Debug)]
pub struct Version {
    /// e.g. `v1`
    pub name: Arc<str>,
    /// Whether requests may name it.
    pub served: bool,
    /// Sent as a `Warning` header on each use when set.
    pub deprecation: Option<String>,
    /// The structural schema of the whole object, metadata included as an opaque ObjectMeta.
    pub schema: Arc<Schema>,
    /// The OpenAPI v3 schema that is published for it, as JSON. A built-in's is a `$ref` to a definition of the [`library`](crate::builtin::library).
    pub openapi: Arc<Value>,
    /// Parts with their own subresource, `status` first if there is one.
    pub parts: Vec<Part>,
    /// `/scale`, if served.
    pub scale: Option<ScalePaths>,
    /// Other subresources.
    pub actions: Vec<Action>,
    /// What `kubectl get` prints.
    pub columns: Vec<Column>,
    /// Fields beside metadata.name and metadata.namespace that a field selector may name (KEP-4358), as dotted paths.
    pub selectable_fields: Vec<String>,
}

/// A kind, as the request path sees it.
#[derive(Clone, Debug)]
pub struct ResourceDefinition {
    /// API group; empty for core.
    pub group: Arc<str>,
    /// e.g. `ConfigMap`
    pub kind: Arc<str>,
    /// e.g. `ConfigMapList`
    pub list_kind: Arc<str>,
    /// e.g. `configmaps`
    pub plural: Arc<str>,
    /// e.g. `configmap`
    pub singular: Arc<str>,
    /// e.g. `cm`
    pub short_names: Vec<String>,
    /// e.g. `all`
    pub categories: Vec<String>,
    /// Namespaced or not.
    pub scope: Scope,
    /// Where it comes from.
    pub origin: Origin,
    /// Every version, in the order of preference (Kubernetes' version priority).
    pub versions: Vec<Version>,
    /// The index in `versions` of the version that is stored.
    pub storage: usize,
    /// The verbs that the main resource serves. `[Create]` alone marks a virtual kind that is answered, not stored.
    pub verbs: &'static [Verb],
    /// The rule for `metadata.name`.
    pub names: NameRule,
    /// Whether an update without a resourceVersion is allowed (AllowUnconditionalUpdate).
    pub unconditional_update: bool,
    /// Whether PUT to a name that does not exist creates it (AllowCreateOnUpdate).
    pub create_on_update: bool,
    /// Whether `metadata.generation` is kept: 1 at creation, +1 when anything outside metadata and parts differs.
    pub generation: bool,
    /// Set when the objects are stored by another definition.
    pub view: Option<View>,
    /// Defaults beyond the schema's.
    pub defaulter: Option<Defaulter>,
    /// Validation beyond the schema's.
    pub validator: Option<Validator>,
}

impl ResourceDefinition {
    /// The group and plural name, as errors and RBAC print it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&*self.group, &*self.plural)
    }

    /// The version with this name, if it is served.
    pub fn served(&self, version: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.served && &*v.name == version)
    }

    /// The version that is stored.
    pub fn stored(&self) -> &Version {
        &self.versions[self.storage]
    }

    /// The group, version and kind in this version.
    pub fn gvk(&self, version: &Version) -> Gvk {
        Gvk::new(&*self.group, &*version.name, &*self.kind)
    }

    /// `v1` or `group/v1`.
    pub fn api_version(&self, version: &Version) -> String {
        if self.group.is_empty() {
            version.name.to_string()
        } else {
            format!("{}/{}", self.group, version.name)
        }
    }

    /// Whether objects of it are kept in the store.
    pub fn is_stored(&self) -> bool {
        self.verbs != Verb::REVIEW
    }

    /// Where objects live: `/registry/{group or core}/{plural}/`; a view's live where the viewed ones do.
    pub fn prefix(&self) -> String {
        let group = self.view.map_or(&*self.group, |view| view.group);
        let group = if group.is_empty() { "core" } else { group };
        format!("/registry/{group}/{}/", self.plural)
    }

    /// The store key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match self.scope {
            Scope::Namespaced => format!("{}{namespace}/{name}", self.prefix()),
            Scope::Cluster => format!("{}{name}", self.prefix()),
        }
    }
}

impl Version {
    /// The part with this name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|p| &*p.name == name)
    }
}
