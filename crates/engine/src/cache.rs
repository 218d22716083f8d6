//! The view: one watch for each kind for the whole engine, indexed by what plans ask.
//!
//! # Guarantees
//! - Lists are in order of (namespace, name), and atomic for a kind. Two reads of one plan may see a kind at two revisions; what changed
//!   in between wakes the key again.
//! - Objects are shared, not copied, between kube-runtime's store (which the applier reads) and the index.
//! - An object that does not decode is left out, counted and logged; it does not stop its kind.
//!
//! # How one could get it wrong
//! Holding a cache lock while planning: a plan that spins would then stop every watch.

use std::{
    any::TypeId,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use setpoint_reconcile::{AnyObject, Key, KindId, Object, Query};
use tokio::sync::watch;

use crate::metrics::{Metrics, OfKind};

/// An object appeared, changed or went.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: TypeId,
    /// Empty for cluster scope.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Controller owner references, before and after.
    pub(crate) owners: Vec<OwnerReference>,
}

/// Who is told of changes, in their order. Must not block.
pub(crate) type Listener = Box<dyn Fn(&Change) + Send + Sync>;

/// What the engine must know of an object besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) controller_uid: Option<String>,
    pub(crate) terminating: bool,
}

/// A cache whose type its user does not know.
pub(crate) trait AnyCache: Send + Sync {
    fn get(&self, namespace: &str, name: &str) -> Option<AnyObject>;
    fn list(&self, query: &Query) -> Vec<AnyObject>;
    fn owned(&self, owner_uid: &str) -> Vec<AnyObject>;
    fn identity(&self, namespace: &str, name: &str) -> Option<Identity>;
    /// The object as JSON.
    fn value(&self, namespace: &str, name: &str) -> Option<Value>;
    /// The highest revision of this kind that the view has reached.
    fn revision(&self) -> u64;
    /// The engine wrote this revision.
    fn wrote(&self, revision: u64);
    /// Moves whenever the view does.
    fn progress(&self) -> watch::Receiver<u64>;
    fn listen(&self, listener: Listener);
    /// Watches until dropped.
    fn watch(self: Arc<Self>, client: Client, metrics: Metrics) -> BoxFuture<'static, ()>;
    /// Returns once the first list is complete.
    fn ready(&self) -> BoxFuture<'static, ()>;
}

type ObjectKey = (String, String);

struct Index<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    by_owner: HashMap<String, BTreeSet<ObjectKey>>,
}

impl<K: Object> Index<K> {
    fn insert(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Arc<K>> {
        let owner = object.controller().map(|owner| owner.uid.clone());
        let previous = self.objects.insert(key.clone(), object);
        self.unlink(&key, previous.as_deref());
        if let Some(owner) = owner {
            self.by_owner.entry(owner).or_default().insert(key);
        }
        previous
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let previous = self.objects.remove(key);
        self.unlink(key, previous.as_deref());
        previous
    }

    fn unlink(&mut self, key: &ObjectKey, previous: Option<&K>) {
        let Some(owner) = previous.and_then(|previous| previous.controller()) else {
            return;
        };
        if let Some(children) = self.by_owner.get_mut(&owner.uid) {
            children.remove(key);
            if children.is_empty() {
                self.by_owner.remove(&owner.uid);
            }
        }
    }
}

/// The objects of one type.
pub(crate) struct KindCache<K: Object> {
    index: RwLock<Index<K>>,
    store: reflector::Store<K>,
    writer: Mutex<reflector::store::Writer<K>>,
    revision: AtomicU64,
    /// The engine's own highest write of this kind, and what it was when the list that is under way began.
    written: AtomicU64,
    written_at_init: AtomicU64,
    progress: watch::Sender<u64>,
    /// Whether a first list has been taken in. Our own, since kube-runtime's `Store::wait_until_ready` wakes only the last of several
    /// waiters (its oneshot holds one waker): reconcilers that share a kind would begin or not by chance.
    listed: watch::Sender<bool>,
    listeners: RwLock<Vec<Listener>>,
}

impl<K: Object> KindCache<K> {
    fn new() -> Self {
        let writer = reflector::store::Writer::new(());
        Self {
            index: RwLock::new(Index {
                objects: BTreeMap::new(),
                by_owner: HashMap::new(),
            }),
            store: writer.as_reader(),
            writer: Mutex::new(writer),
            revision: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_at_init: AtomicU64::new(0),
            progress: watch::Sender::new(0),
            listed: watch::Sender::new(false),
            listeners: RwLock::default(),
        }
    }

    /// kube-runtime's store of the same objects, for its applier.
    pub(crate) fn store(&self) -> reflector::Store<K> {
        self.store.clone()
    }

    /// The object with this key.
    pub(crate) fn typed(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.index
            .read()
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Every key.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.index.read().objects.values().map(|object| object.key()).collect()
    }

    /// Takes one event of the watch.
    pub(crate) fn apply(&self, event: watcher::Event<K>) {
        self.writer.lock().apply_watcher_event(&event);
        match event {
            watcher::Event::Init => self
                .written_at_init
                .store(self.written.load(Ordering::SeqCst), Ordering::SeqCst),
            watcher::Event::InitApply(_) => {}
            watcher::Event::InitDone => self.replace(),
            watcher::Event::Apply(object) => {
                let revision = revision_of(&object);
                let key = object_key(&object);
                // The writer has just stored it: share its allocation.
                let object = self
                    .store
                    .get(&reflector::ObjectRef::from_obj(&object))
                    .unwrap_or_else(|| Arc::new(object));
                let previous = self.index.write().insert(key.clone(), object.clone());
                self.tell(&key, [previous, Some(object)], revision);
            }
            watcher::Event::Delete(object) => {
                let key = object_key(&object);
                let previous = self.index.write().remove(&key);
                self.tell(&key, [previous, None], revision_of(&object));
            }
        }
    }

    /// A list is complete: take it over, and tell what is new, changed or gone.
    fn replace(&self) {
        let mut next = Index {
            objects: BTreeMap::new(),
            by_owner: HashMap::new(),
        };
        let mut highest = self.written_at_init.load(Ordering::SeqCst);
        for object in self.store.state() {
            highest = highest.max(revision_of(object.as_ref()));
            next.insert(object_key(object.as_ref()), object);
        }
        let previous = std::mem::replace(&mut *self.index.write(), next);
        let mut changes = Vec::new();
        {
            let index = self.index.read();
            for (key, object) in &index.objects {
                let before = previous.objects.get(key);
                if before.is_none_or(|before| before.meta().resource_version != object.meta().resource_version) {
                    changes.push((key.clone(), [before.cloned(), Some(object.clone())]));
                }
            }
            for (key, object) in previous.objects {
                if !index.objects.contains_key(&key) {
                    changes.push((key, [Some(object), None]));
                }
            }
        }
        for (key, states) in changes {
            self.tell(&key, states, highest);
        }
        self.advance(highest);
        self.listed.send_replace(true);
    }

    /// An object that does not decode counts as gone.
    fn leave_out(&self, invalid: InvalidObject, kind: &KindId) {
        let namespace = invalid.metadata.namespace.unwrap_or_default();
        let name = invalid.metadata.name.unwrap_or_default();
        tracing::warn!(%kind, namespace, name, error = invalid.error, "object left out of the view: it does not decode");
        let revision = invalid
            .metadata
            .resource_version
            .and_then(|version| version.parse().ok());
        if let Some(previous) = self.typed(&namespace, &name) {
            self.apply(watcher::Event::Delete(previous.as_ref().clone()));
        }
        self.advance(revision.unwrap_or(0));
    }

    fn tell(&self, key: &ObjectKey, states: [Option<Arc<K>>; 2], revision: u64) {
        self.advance(revision);
        let owners = states
            .iter()
            .flatten()
            .filter_map(|object| object.controller().cloned())
            .collect();
        let (namespace, name) = key.clone();
        let change = Change {
            kind: TypeId::of::<K>(),
            namespace,
            name,
            owners,
        };
        for listener in self.listeners.read().iter() {
            listener(&change);
        }
    }

    fn advance(&self, revision: u64) {
        let before = self.revision.fetch_max(revision, Ordering::SeqCst);
        self.progress.send_replace(before.max(revision));
    }
}

fn object_key<K: Object>(object: &K) -> ObjectKey {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// Zero for a foreign server whose resourceVersions are no numbers: read-your-writes is then off.
fn revision_of<K: Object>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

fn erased<K: Object>(object: &Arc<K>) -> AnyObject {
    object.clone()
}

impl<K: Object> AnyCache for KindCache<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<AnyObject> {
        self.typed(namespace, name).as_ref().map(erased)
    }

    fn list(&self, query: &Query) -> Vec<AnyObject> {
        let index = self.index.read();
        let matching = |object: &&Arc<K>| query.matches(object.as_ref());
        match &query.namespace {
            Some(namespace) => index
                .objects
                .range((namespace.clone(), String::new())..)
                .take_while(|((in_namespace, _), _)| in_namespace == namespace)
                .map(|(_, object)| object)
                .filter(matching)
                .map(erased)
                .collect(),
            None => index.objects.values().filter(matching).map(erased).collect(),
        }
    }

    fn owned(&self, owner_uid: &str) -> Vec<AnyObject> {
        let index = self.index.read();
        let children = index.by_owner.get(owner_uid).into_iter().flatten();
        children.filter_map(|key| index.objects.get(key)).map(erased).collect()
    }

    fn identity(&self, namespace: &str, name: &str) -> Option<Identity> {
        self.typed(namespace, name).map(|object| Identity {
            uid: object.uid().to_owned(),
            resource_version: object.meta().resource_version.clone().unwrap_or_default(),
            controller_uid: object.controller().map(|controller| controller.uid.clone()),
            terminating: object.is_terminating(),
        })
    }

    fn value(&self, namespace: &str, name: &str) -> Option<Value> {
        serde_json::to_value(self.typed(namespace, name)?.as_ref()).ok()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    fn wrote(&self, revision: u64) {
        self.written.fetch_max(revision, Ordering::SeqCst);
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn listen(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    fn watch(self: Arc<Self>, client: Client, metrics: Metrics) -> BoxFuture<'static, ()> {
        let kind = K::kind_id();
        let stream = watcher(Api::<DeserializeGuard<K>>::all(client), watcher::Config::default()).default_backoff();
        async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => match decoded(event) {
                        Ok(event) => self.apply(event),
                        Err(invalid) => {
                            metrics
                                .undecodable
                                .get_or_create(&OfKind {
                                    kind: kind.kind.to_string(),
                                })
                                .inc();
                            self.leave_out(*invalid, &kind);
                        }
                    },
                    // The watcher retries by itself, with back-off.
                    Err(error) => tracing::warn!(%kind, error = &error as &dyn std::error::Error, "watch failed"),
                }
            }
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut listed = self.listed.subscribe();
        async move {
            // The sender lives as long as the cache, so this fails only while the engine is being dropped.
            let _ = listed.wait_for(|listed| *listed).await;
        }
        .boxed()
    }
}

/// The event with the object itself, or the metadata of an object that does not decode.
fn decoded<K: Object>(event: watcher::Event<DeserializeGuard<K>>) -> Result<watcher::Event<K>, Box<InvalidObject>> {
    Ok(match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(object.0.map_err(Box::new)?),
        watcher::Event::Apply(object) => watcher::Event::Apply(object.0.map_err(Box::new)?),
        watcher::Event::Delete(object) => watcher::Event::Delete(object.0.map_err(Box::new)?),
    })
}

/// The caches of an engine, by Rust type and by kind.
#[derive(Default)]
pub(crate) struct Caches {
    by_type: HashMap<TypeId, Arc<dyn AnyCache>>,
    by_kind: HashMap<KindId, TypeId>,
    typed: HashMap<TypeId, Box<dyn std::any::Any + Send + Sync>>,
}

impl Caches {
    /// The cache of this type, made if it is not there.
    pub(crate) fn add<K: Object>(&mut self) -> Arc<KindCache<K>> {
        let id = TypeId::of::<K>();
        if let Some(cache) = self
            .typed
            .get(&id)
            .and_then(|cache| cache.downcast_ref::<Arc<KindCache<K>>>())
        {
            return cache.clone();
        }
        let cache = Arc::new(KindCache::<K>::new());
        self.by_type.insert(id, cache.clone());
        self.by_kind.insert(K::kind_id(), id);
        self.typed.insert(id, Box::new(cache.clone()));
        cache
    }

    /// The cache of this type.
    pub(crate) fn of(&self, kind: TypeId) -> Option<&Arc<dyn AnyCache>> {
        self.by_type.get(&kind)
    }

    /// The type and cache of this kind.
    pub(crate) fn of_kind(&self, kind: &KindId) -> Option<(TypeId, &Arc<dyn AnyCache>)> {
        let id = *self.by_kind.get(kind)?;
        Some((id, self.by_type.get(&id)?))
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<dyn AnyCache>> {
        self.by_type.values()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::*;

    fn config(namespace: &str, name: &str, revision: u64, owner: Option<&str>) -> ConfigMap {
        let mut config = ConfigMap::default();
        config.metadata.namespace = Some(namespace.to_owned());
        config.metadata.name = Some(name.to_owned());
        config.metadata.resource_version = Some(revision.to_string());
        config.metadata.owner_references = owner.map(|uid| {
            vec![OwnerReference {
                uid: uid.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]
        });
        config
    }

    fn names(objects: &[AnyObject]) -> String {
        let names = objects
            .iter()
            .filter_map(|object| object.downcast_ref::<ConfigMap>())
            .map(Object::name);
        names.collect::<Vec<_>>().join(" ")
    }

    fn told(cache: &KindCache<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        cache.listen(Box::new(move |change| {
            let owners: Vec<_> = change.owners.iter().map(|owner| owner.uid.as_str()).collect();
            sink.lock()
                .push(format!("{}/{} {}", change.namespace, change.name, owners.join(",")));
        }));
        log
    }

    /// Found with a restarted server: three reconcilers waited for one kind, and two never began.
    #[tokio::test]
    async fn every_waiter_hears_that_the_first_list_is_in() {
        let cache = Arc::new(KindCache::<ConfigMap>::new());
        let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(AnyCache::ready(&*cache))).collect();
        tokio::task::yield_now().await;
        cache.apply(Event::Init);
        cache.apply(Event::InitDone);
        for waiter in waiters {
            let heard = tokio::time::timeout(std::time::Duration::from_secs(5), waiter).await;
            heard.expect("woken").expect("no panic");
        }
    }

    #[test]
    fn the_index_follows_the_watch() {
        let cache = KindCache::<ConfigMap>::new();
        let told = told(&cache);
        cache.apply(Event::Init);
        for object in [
            config("b", "y", 3, None),
            config("a", "z", 2, Some("u")),
            config("a", "x", 1, Some("u")),
        ] {
            cache.apply(Event::InitApply(object));
        }
        assert_eq!(
            names(&cache.list(&Query::all())),
            "",
            "nothing shows before the list is complete"
        );
        cache.apply(Event::InitDone);
        assert_eq!(names(&cache.list(&Query::all())), "x z y");
        assert_eq!(names(&cache.list(&Query::namespace("a"))), "x z");
        assert_eq!(names(&cache.owned("u")), "x z");
        assert_eq!(cache.revision(), 3);
        assert_eq!(*told.lock(), ["a/x u", "a/z u", "b/y "]);

        told.lock().clear();
        cache.apply(Event::Apply(config("a", "x", 4, Some("v"))));
        cache.apply(Event::Delete(config("a", "z", 5, Some("u"))));
        assert_eq!(
            (names(&cache.owned("u")), names(&cache.owned("v"))),
            (String::new(), "x".to_owned())
        );
        assert_eq!(
            *told.lock(),
            ["a/x u,v", "a/z u"],
            "both the old and the new owner are told"
        );
    }

    #[test]
    fn a_relist_tells_only_what_differs() {
        let cache = KindCache::<ConfigMap>::new();
        for event in [
            Event::Init,
            Event::InitApply(config("a", "same", 1, None)),
            Event::InitApply(config("a", "gone", 2, None)),
            Event::InitApply(config("a", "changed", 3, None)),
            Event::InitDone,
        ] {
            cache.apply(event);
        }
        let told = told(&cache);
        for event in [
            Event::Init,
            Event::InitApply(config("a", "same", 1, None)),
            Event::InitApply(config("a", "changed", 9, None)),
            Event::InitApply(config("a", "new", 8, None)),
            Event::InitDone,
        ] {
            cache.apply(event);
        }
        assert_eq!(*told.lock(), ["a/changed ", "a/new ", "a/gone "]);
    }
}
