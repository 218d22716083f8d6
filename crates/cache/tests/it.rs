//! The cache over the reference store: what a snapshot and the watch from it show together is what was committed, once and in order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use setpoint_cache::{Cache, Change, Lagged};
use setpoint_store::{Key, MemoryStore, Op, Precondition, Revision, Store, Txn};

const MAPS: &str = "/registry/core/configmaps/";

fn object(name: &str, n: u64) -> Bytes {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"n":"{n}"}}}}}}"#).into()
}

fn key(name: &str) -> Key {
    Key::new(format!("{MAPS}default/{name}"))
}

async fn put(store: &dyn Store, name: &str, n: u64) -> Revision {
    store
        .commit(Txn {
            preconditions: vec![],
            ops: vec![Op::Put(key(name), object(name, n))],
        })
        .await
        .unwrap()
}

async fn delete(store: &dyn Store, name: &str, at: Revision) -> Revision {
    let preconditions = vec![Precondition::At(key(name), at)];
    store
        .commit(Txn {
            preconditions,
            ops: vec![Op::Delete(key(name))],
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_fresh_cache_shows_every_acknowledged_write() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    put(&*store, "before", 0).await;
    let cache = Cache::start(store.clone(), Vec::new()).await.unwrap();
    for n in 0..50 {
        let revision = put(&*store, "a", n).await;
        assert!(cache.fresh().await.unwrap() >= revision);
        let found = cache.resource(MAPS).get(key("a").as_str()).unwrap();
        assert_eq!((found.revision, found.label("n")), (revision, Some(&*n.to_string())));
    }
    assert_eq!(cache.resource(MAPS).len(), 2);
}

/// Readers take a snapshot in the middle of writes and follow from its revision: state + events must be the final state, and no event
/// may be older than the snapshot or come twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_watch_fit_together_under_writes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let cache = Cache::start(store.clone(), Vec::new()).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut last = BTreeMap::new();
            for n in 0..600u64 {
                let name = format!("o{}", n % 7);
                if n % 5 == 4 {
                    if let Some(at) = last.remove(&name) {
                        delete(&*store, &name, at).await;
                    }
                } else {
                    last.insert(name.clone(), put(&*store, &name, n).await);
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let mut readers = Vec::new();
    for _ in 0..8 {
        let cache = cache.clone();
        readers.push(tokio::spawn(async move {
            let resource = cache.resource(MAPS);
            let snapshot = resource.snapshot(MAPS, None, 0, cache.revision(), |_| true);
            let mut state: BTreeMap<String, Revision> = snapshot
                .objects
                .iter()
                .map(|o| (o.name().to_owned(), o.revision))
                .collect();
            let mut subscription = resource.subscribe(snapshot.revision).unwrap();
            let mut seen = snapshot.revision;
            loop {
                let events = subscription.take(16).unwrap();
                if events.is_empty() {
                    match tokio::time::timeout(Duration::from_millis(300), subscription.changed()).await {
                        Ok(()) => continue,
                        Err(_) => return state,
                    }
                }
                for event in events {
                    assert!(event.revision() > seen, "an event twice or out of order");
                    seen = event.revision();
                    let known = state.contains_key(event.object.name());
                    match event.change {
                        Change::Added => assert!(!known),
                        Change::Modified | Change::Deleted => assert!(known),
                    }
                    if event.change == Change::Deleted {
                        state.remove(event.object.name());
                    } else {
                        state.insert(event.object.name().to_owned(), event.revision());
                    }
                }
            }
        }));
    }
    writer.await.unwrap();
    cache.fresh().await.unwrap();
    let last = cache.resource(MAPS).snapshot(MAPS, None, 0, cache.revision(), |_| true);
    let last: BTreeMap<String, Revision> = last.objects.iter().map(|o| (o.name().to_owned(), o.revision)).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), last);
    }
}

#[tokio::test]
async fn a_reader_behind_the_window_is_told_and_commits_are_not_split() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let cache = Cache::start(store.clone(), Vec::new()).await.unwrap();
    let resource = cache.resource(MAPS);
    let mut behind = resource.subscribe(cache.revision()).unwrap();
    let mut whole = resource.subscribe(cache.revision()).unwrap();
    let ops = ["a", "b", "c"].map(|name| Op::Put(key(name), object(name, 0))).to_vec();
    store
        .commit(Txn {
            preconditions: vec![],
            ops,
        })
        .await
        .unwrap();
    cache.fresh().await.unwrap();
    assert_eq!(
        whole.take(1).unwrap().len(),
        3,
        "the three events of one commit come together"
    );
    assert!(whole.take(1).unwrap().is_empty());
    for n in 0..5_000 {
        put(&*store, "a", n).await;
    }
    cache.fresh().await.unwrap();
    assert!(matches!(behind.take(1), Err(Lagged { .. })));
    assert!(resource.subscribe(Revision::new(1)).is_err());
}

#[tokio::test]
async fn hooks_see_the_state_at_the_start_and_every_change_before_it_is_announced() {
    use std::sync::Mutex;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    put(&*store, "a", 0).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = seen.clone();
    let hook: setpoint_cache::Hook = Box::new(move |events| {
        sink.lock().unwrap().extend(
            events
                .iter()
                .map(|e| format!("{} {}", e.change.as_str(), e.object.name())),
        );
    });
    let cache = Cache::start(store.clone(), vec![(MAPS.to_owned(), hook)])
        .await
        .unwrap();
    let at = put(&*store, "b", 0).await;
    delete(&*store, "b", at).await;
    cache.fresh().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["ADDED a", "ADDED b", "DELETED b"]);
}
