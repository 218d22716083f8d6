//! An in-memory world for tests and simulations: objects by type, with what a server would have added.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{AnyObject, Object, Query, Snapshot, name};

type Matches = Box<dyn Fn(&(dyn Any + Send + Sync), &Query) -> bool + Send + Sync>;
type OwnerUid = Box<dyn Fn(&(dyn Any + Send + Sync)) -> Option<String> + Send + Sync>;

/// The objects of one type, with what has to know the type.
struct Kind {
    objects: BTreeMap<(String, String), AnyObject>,
    matches: Matches,
    owner_uid: OwnerUid,
}

impl Kind {
    fn of<K: Object>() -> Self {
        Self {
            objects: BTreeMap::new(),
            matches: Box::new(|object, query| object.downcast_ref::<K>().is_some_and(|object| query.matches(object))),
            owner_uid: Box::new(|object| Some(object.downcast_ref::<K>()?.controller()?.uid.clone())),
        }
    }
}

/// Objects by type and key: a [`Snapshot`] that a test fills.
///
/// An object without uid or resourceVersion gets a deterministic one, as if a server had stored it.
#[derive(Default)]
pub struct World {
    kinds: HashMap<TypeId, Kind>,
    revision: u64,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// The world with this object in it (it replaces one of the same key).
    #[must_use]
    pub fn with<K: Object>(mut self, object: K) -> Self {
        self.put(object);
        self
    }

    /// The world with these objects in it.
    #[must_use]
    pub fn with_all<K: Object>(mut self, objects: impl IntoIterator<Item = K>) -> Self {
        for object in objects {
            self.put(object);
        }
        self
    }

    /// Stores an object and returns it as stored.
    pub fn put<K: Object>(&mut self, mut object: K) -> Arc<K> {
        self.revision += 1;
        let uid = uid_of(&object);
        let meta = object.meta_mut();
        meta.uid.get_or_insert(uid);
        meta.resource_version.get_or_insert(self.revision.to_string());
        let key = (object.namespace().to_owned(), object.name().to_owned());
        let object = Arc::new(object);
        self.kinds
            .entry(TypeId::of::<K>())
            .or_insert_with(Kind::of::<K>)
            .objects
            .insert(key, object.clone());
        object
    }

    /// Removes an object, as if it had never been.
    pub fn remove<K: Object>(&mut self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let kind = self.kinds.get_mut(&TypeId::of::<K>())?;
        kind.objects
            .remove(&(namespace.to_owned(), name.to_owned()))?
            .downcast()
            .ok()
    }
}

/// The uid that [`World`] gives: readable, and the same on each run.
pub(crate) fn uid_of<K: Object>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_else(|| {
        format!(
            "uid-{}",
            name::digest(&[&K::kind(&()), object.namespace(), object.name()])
        )
    })
}

impl Snapshot for World {
    fn get(&self, kind: TypeId, namespace: &str, name: &str) -> Option<AnyObject> {
        self.kinds
            .get(&kind)?
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    fn list(&self, kind: TypeId, query: &Query) -> Vec<AnyObject> {
        let Some(kind) = self.kinds.get(&kind) else {
            return Vec::new();
        };
        kind.objects
            .values()
            .filter(|object| (kind.matches)(object.as_ref(), query))
            .cloned()
            .collect()
    }

    fn owned(&self, kind: TypeId, owner_uid: &str) -> Vec<AnyObject> {
        let Some(kind) = self.kinds.get(&kind) else {
            return Vec::new();
        };
        let owned = |object: &&AnyObject| (kind.owner_uid)(object.as_ref()).as_deref() == Some(owner_uid);
        kind.objects.values().filter(owned).cloned().collect()
    }
}
