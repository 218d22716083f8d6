//! Parts: the top-level fields of a kind, each with its own subresource and its own one writer.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::Object;

/// The type of a part of kind `K`: `ReplicaStatus` is the part `status` of `Replica`.
///
/// [`kind!`](crate::kind!) implements it for each part that it writes; [`part!`](crate::part!) does for a kind that came from elsewhere.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a part of the kind `{K}`",
    label = "a reconciler writes one part of its own kind, and nothing else",
    note = "name a part of `{K}`, or declare the part with `part {{name}}: {Self}` in the `kind!` of `{K}`"
)]
pub trait PartOf<K: Object>:
    Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The field, and the last segment of the subresource's path: `status`, `binding`.
    const NAME: &'static str;

    /// The part as the object has it.
    fn of(object: &K) -> Option<&Self>;

    /// Puts the part into the object.
    fn set(self, object: &mut K);
}

/// The part of a reconciler that writes none. It has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NoPart {}

impl<K: Object> PartOf<K> for NoPart {
    const NAME: &'static str = "";

    fn of(_: &K) -> Option<&Self> {
        None
    }

    fn set(self, _: &mut K) {}
}

/// Declares a part of a kind that [`kind!`](crate::kind!) did not write: `part!(FooStatus: status of Foo)`. The field is an `Option`.
#[macro_export]
macro_rules! part {
    ($part_type:ty : $part:ident of $kind:ty) => {
        impl $crate::PartOf<$kind> for $part_type {
            const NAME: &'static str = stringify!($part);
            fn of(object: &$kind) -> ::core::option::Option<&Self> {
                object.$part.as_ref()
            }
            fn set(self, object: &mut $kind) {
                object.$part = ::core::option::Option::Some(self);
            }
        }
    };
}

// The statuses of Kubernetes' own kinds: only this crate may implement its trait for them.
crate::part!(k8s_openapi::api::core::v1::NamespaceStatus: status of k8s_openapi::api::core::v1::Namespace);
crate::part!(k8s_openapi::api::core::v1::ResourceQuotaStatus: status of k8s_openapi::api::core::v1::ResourceQuota);
