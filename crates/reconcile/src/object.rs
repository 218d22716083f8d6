//! Typed kinds: what the contract needs to know of them, and [`kind!`], which writes a kind whose parts are more than `status`.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

/// Whether objects of a kind live in namespaces, told by the scope type of `kube_core::Resource`.
pub trait Scoped {
    /// True for namespaced kinds.
    const NAMESPACED: bool;
}
impl Scoped for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scoped for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// A typed kind. Implemented for everything that fits: the types of k8s-openapi, kinds written by [`kind!`](crate::kind!), and kube's
/// `CustomResource` derive.
pub trait Object:
    kube_core::Resource<DynamicType = (), Scope: Scoped>
    + Serialize
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Group, version, kind, plural and scope.
    fn kind_id() -> KindId {
        KindId {
            group: Self::group(&()),
            version: Self::version(&()),
            kind: Self::kind(&()),
            plural: Self::plural(&()),
            namespaced: <Self::Scope as Scoped>::NAMESPACED,
        }
    }

    /// Namespace and name. A nameless object (one that a server has not seen) has the empty name.
    fn key(&self) -> Key {
        Key {
            namespace: self.meta().namespace.clone(),
            name: self.meta().name.clone().unwrap_or_default(),
        }
    }

    /// `metadata.name`, or the empty string.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, or the empty string for cluster-scoped objects.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`, or the empty string for an object that no server has stored.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// Whether `metadata.deletionTimestamp` is set.
    fn is_terminating(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The owner reference with `controller: true`, of which there is at most one.
    fn controller(&self) -> Option<&OwnerReference> {
        self.meta()
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
    }
}

impl<K> Object for K where
    K: kube_core::Resource<DynamicType = (), Scope: Scoped>
        + Serialize
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// A kind, as data. Orders by group, version, kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// API version, such as `v1alpha1`.
    pub version: Cow<'static, str>,
    /// Kind, such as `Replica`.
    pub kind: Cow<'static, str>,
    /// Resource name in URLs, such as `replicas`.
    pub plural: Cow<'static, str>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl KindId {
    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}

/// Namespace and name of an object of a known kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of a namespaced object.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }
}

/// `namespace/name`, or `name`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Writes a kind: a struct with `metadata`, `spec` and parts, its `kube_core::Resource`, its JSON form (with `apiVersion` and `kind`;
/// a body of another kind is refused), and [`PartOf`](crate::PartOf) for each part.
///
/// Each part is an `Option` field, named as in JSON. The spec type needs `Clone, Debug, PartialEq, Default, Serialize, Deserialize`, a part
/// the same; attributes on the struct and on fields are kept (`#[derive(JsonSchema)]` works).
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)] pub struct ReplicaSpec { pub model: String }
/// # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)] pub struct ReplicaBinding { pub worker: String }
/// # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)] pub struct ReplicaStatus { pub ready: bool }
/// setpoint_reconcile::kind! {
///     /// One running copy.
///     pub struct Replica in "inference.setpoint.dev/v1alpha1", plural "replicas", scope Namespaced {
///         spec: ReplicaSpec,
///         /// Where it runs.
///         part binding: ReplicaBinding,
///         part status: ReplicaStatus,
///     }
/// }
/// let replica = Replica::new("chat-0", ReplicaSpec { model: "m".into() });
/// assert_eq!(
///     serde_json::to_string(&replica).unwrap(),
///     r#"{"apiVersion":"inference.setpoint.dev/v1alpha1","kind":"Replica","metadata":{"name":"chat-0"},"spec":{"model":"m"}}"#
/// );
/// ```
#[macro_export]
macro_rules! kind {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $kind:ident in $api_version:literal, plural $plural:literal, scope $scope:ident {
            $(#[$spec_attribute:meta])*
            spec: $spec:ty
            $(, $(#[$part_attribute:meta])* part $part:ident : $part_type:ty)*
            $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $visibility struct $kind {
            /// Standard object metadata.
            pub metadata: $crate::macro_support::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            $(#[$spec_attribute])*
            pub spec: $spec,
            $(
                $(#[$part_attribute])*
                pub $part: ::core::option::Option<$part_type>,
            )*
        }

        impl $kind {
            /// An object with this name and spec, in no namespace yet.
            pub fn new(name: impl ::core::convert::Into<::std::string::String>, spec: $spec) -> Self {
                let mut object = Self { spec, ..Default::default() };
                object.metadata.name = ::core::option::Option::Some(name.into());
                object
            }

            /// The same object in this namespace.
            #[must_use]
            pub fn within(mut self, namespace: impl ::core::convert::Into<::std::string::String>) -> Self {
                self.metadata.namespace = ::core::option::Option::Some(namespace.into());
                self
            }
        }

        const _: () = {
            use $crate::macro_support::{k8s_openapi, kube_core, serde};
            use ::std::borrow::Cow;

            const GROUP_VERSION: (&str, &str) = $crate::kind!(@split $api_version);

            impl kube_core::Resource for $kind {
                type DynamicType = ();
                type Scope = $crate::kind!(@scope $scope);

                fn kind(_: &()) -> Cow<'_, str> {
                    Cow::Borrowed(stringify!($kind))
                }
                fn group(_: &()) -> Cow<'_, str> {
                    Cow::Borrowed(GROUP_VERSION.0)
                }
                fn version(_: &()) -> Cow<'_, str> {
                    Cow::Borrowed(GROUP_VERSION.1)
                }
                fn api_version(_: &()) -> Cow<'_, str> {
                    Cow::Borrowed($api_version)
                }
                fn plural(_: &()) -> Cow<'_, str> {
                    Cow::Borrowed($plural)
                }
                fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    &self.metadata
                }
                fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    &mut self.metadata
                }
            }

            impl serde::Serialize for $kind {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> ::core::result::Result<S::Ok, S::Error> {
                    use serde::ser::SerializeStruct as _;
                    let fields = 4 $(+ usize::from(self.$part.is_some()))*;
                    let mut out = serializer.serialize_struct(stringify!($kind), fields)?;
                    out.serialize_field("apiVersion", $api_version)?;
                    out.serialize_field("kind", stringify!($kind))?;
                    out.serialize_field("metadata", &self.metadata)?;
                    out.serialize_field("spec", &self.spec)?;
                    $(
                        if let ::core::option::Option::Some(part) = &self.$part {
                            out.serialize_field(stringify!($part), part)?;
                        }
                    )*
                    out.end()
                }
            }

            struct ApiVersion;
            impl $crate::macro_support::Text for ApiVersion {
                const FIELD: &'static str = "apiVersion";
                const TEXT: &'static str = $api_version;
            }
            struct Kind;
            impl $crate::macro_support::Text for Kind {
                const FIELD: &'static str = "kind";
                const TEXT: &'static str = stringify!($kind);
            }

            #[derive(serde::Deserialize)]
            #[serde(crate = "serde")]
            struct Body {
                #[serde(rename = "apiVersion", default)]
                _api_version: $crate::macro_support::Tag<ApiVersion>,
                #[serde(rename = "kind", default)]
                _kind: $crate::macro_support::Tag<Kind>,
                #[serde(default)]
                metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                #[serde(default)]
                spec: $spec,
                $(
                    #[serde(default)]
                    $part: ::core::option::Option<$part_type>,
                )*
            }

            impl<'de> serde::Deserialize<'de> for $kind {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> ::core::result::Result<Self, D::Error> {
                    let body = Body::deserialize(deserializer)?;
                    Ok(Self { metadata: body.metadata, spec: body.spec, $($part: body.$part,)* })
                }
            }

            $(
                impl $crate::PartOf<$kind> for $part_type {
                    const NAME: &'static str = stringify!($part);
                    fn of(object: &$kind) -> ::core::option::Option<&Self> {
                        object.$part.as_ref()
                    }
                    fn set(self, object: &mut $kind) {
                        object.$part = ::core::option::Option::Some(self);
                    }
                }
            )*
        };
    };
    (@scope Namespaced) => { k8s_openapi::NamespaceResourceScope };
    (@scope Cluster) => { k8s_openapi::ClusterResourceScope };
    (@split $api_version:literal) => { $crate::macro_support::split_api_version($api_version) };
}

/// What [`kind!`](crate::kind!) needs at run time.
#[doc(hidden)]
pub(crate) mod support {
    use std::{borrow::Cow, marker::PhantomData};

    use serde::{Deserialize, Deserializer, de::Error as _};

    /// A constant text of a kind.
    pub trait Text {
        const FIELD: &'static str;
        const TEXT: &'static str;
    }

    /// Reads nothing but the text, so that an object of another kind is told before its spec is looked at.
    pub struct Tag<T>(PhantomData<T>);

    impl<T> Default for Tag<T> {
        fn default() -> Self {
            Self(PhantomData)
        }
    }

    impl<'de, T: Text> Deserialize<'de> for Tag<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let found = Cow::<'de, str>::deserialize(deserializer)?;
            if found == T::TEXT {
                return Ok(Self::default());
            }
            Err(D::Error::custom(format_args!(
                "{} is {found:?}, expected {:?}",
                T::FIELD,
                T::TEXT
            )))
        }
    }

    /// Group and version of an `apiVersion`.
    pub const fn split_api_version(api_version: &'static str) -> (&'static str, &'static str) {
        let bytes = api_version.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'/' {
                let (group, rest) = api_version.split_at(at);
                let (_, version) = rest.split_at(1);
                return (group, version);
            }
            at += 1;
        }
        ("", api_version)
    }
}
