//! What a plan may look at: an immutable snapshot, seen through the reconciler's declaration.

use std::{
    any::{Any, TypeId},
    marker::PhantomData,
    sync::Arc,
};

use crate::{Object, Owns, Reads};

/// A stored object whose type is known to who asked for it.
pub type AnyObject = Arc<dyn Any + Send + Sync>;

/// Which objects of a kind to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only objects that carry all of these labels with these values.
    pub labels: Vec<(String, String)>,
}

impl Query {
    /// Every object of the kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// Every object of the kind in a namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            labels: Vec::new(),
        }
    }

    /// Of these, those with this label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Whether the object is asked for.
    pub fn matches<K: Object>(&self, object: &K) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|namespace| namespace == object.namespace())
            && self.labels.iter().all(|(key, value)| object.label(key) == Some(value))
    }
}

/// Objects at an instant, by Rust type. Every list is in order of (namespace, name), so that plans are reproducible.
///
/// Implemented by [`World`](crate::World) for tests and by the engine over its watches. Kinds that it does not hold are empty.
pub trait Snapshot {
    /// The object of this type with this key; `namespace` is empty for cluster-scoped kinds.
    fn get(&self, kind: TypeId, namespace: &str, name: &str) -> Option<AnyObject>;

    /// The objects of this type that the query asks for.
    fn list(&self, kind: TypeId, query: &Query) -> Vec<AnyObject>;

    /// The objects of this type whose controller owner reference has this uid.
    fn owned(&self, kind: TypeId, owner_uid: &str) -> Vec<AnyObject>;
}

/// A snapshot as reconciler `R` may see it. Reads of kinds that `R` does not declare do not compile.
pub struct View<'a, R> {
    snapshot: &'a dyn Snapshot,
    reconciler: PhantomData<fn() -> R>,
}

impl<R> Clone for View<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for View<'_, R> {}

impl<'a, R> View<'a, R> {
    /// The snapshot through the eyes of `R`.
    pub fn new(snapshot: &'a dyn Snapshot) -> Self {
        Self {
            snapshot,
            reconciler: PhantomData,
        }
    }

    /// The object with this name. `namespace` is ignored (pass `""`) for cluster-scoped kinds.
    pub fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<Arc<K>>
    where
        R: Reads<K>,
    {
        let namespace = if K::kind_id().namespaced { namespace } else { "" };
        typed(self.snapshot.get(TypeId::of::<K>(), namespace, name)?)
    }

    /// The objects that the query asks for, in order of (namespace, name).
    pub fn list<K: Object>(&self, query: Query) -> Vec<Arc<K>>
    where
        R: Reads<K>,
    {
        self.snapshot
            .list(TypeId::of::<K>(), &query)
            .into_iter()
            .filter_map(typed)
            .collect()
    }

    /// The children of kind `K` whose controller is `owner`, terminating ones included, in order of (namespace, name).
    pub fn owned<K: Object>(&self, owner: &impl Object) -> Vec<Arc<K>>
    where
        R: Reads<K>,
    {
        match owner.uid() {
            "" => Vec::new(),
            uid => self
                .snapshot
                .owned(TypeId::of::<K>(), uid)
                .into_iter()
                .filter_map(typed)
                .collect(),
        }
    }

    /// The child of kind `K` with this name, if `owner` controls it.
    pub fn child<K: Object>(&self, owner: &impl Object, name: &str) -> Option<Arc<K>>
    where
        R: Owns<K>,
    {
        self.get::<K>(owner.namespace(), name).filter(|child| {
            child
                .controller()
                .is_some_and(|controller| controller.uid == owner.uid())
        })
    }
}

fn typed<K: Object>(object: AnyObject) -> Option<Arc<K>> {
    object.downcast().ok()
}
