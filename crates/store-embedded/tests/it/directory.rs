//! What the directory holds, and who may use it.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use setpoint_store::{Key, Op, Revision, Store, StoreError, Txn, WatchEnd, WatchItem};
use setpoint_store_embedded::{EmbeddedStore, OpenError, Options, Retention};

async fn put(store: &EmbeddedStore, key: &str, value: impl Into<Bytes>) -> Revision {
    let txn = Txn {
        preconditions: vec![],
        ops: vec![Op::Put(Key::new(key), value.into())],
    };
    store.commit(txn).await.expect("a put")
}

#[tokio::test]
async fn a_second_opener_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = EmbeddedStore::open(directory.path(), Options::default()).expect("the store opens");
    let refused = EmbeddedStore::open(directory.path(), Options::default()).expect_err("it is in use");
    assert!(matches!(&refused, OpenError::Locked { holder: Some(pid), .. } if *pid == std::process::id()));
    let message = refused.to_string();
    assert!(
        message.contains(&format!("in use by another process (pid {})", std::process::id())),
        "{message}"
    );
    drop(first);
    EmbeddedStore::open(directory.path(), Options::default()).expect("it is free again");
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().expect("a directory");
    let path = parent.path().join("data/store");
    let store = EmbeddedStore::open(&path, Options::default()).expect("the store opens");
    put(&store, "/secret", "s").await;
    store.compact(Revision::new(1)).await.expect("a compaction");
    store.checkpoint().await.expect("a checkpoint");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = fs::read_dir(&path)
        .expect("a listing")
        .map(|e| e.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 3, "lock, log and checkpoint: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[tokio::test]
async fn the_log_stays_bounded_and_nothing_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        retention: Retention {
            max_changes: 50,
            ..Retention::default()
        },
        segment_bytes: 16 << 10,
        checkpoint_after_bytes: 64 << 10,
        ..Options::default()
    };
    let store = EmbeddedStore::open(directory.path(), options.clone()).expect("the store opens");
    for n in 0..2_000_u32 {
        put(&store, &format!("/k/{}", n % 20), vec![n as u8; 1_000]).await;
    }
    // One that is running is finished by asking for another.
    store.checkpoint().await.expect("a checkpoint");
    let stats = store.stats();
    assert!(stats.checkpoints >= 2, "{stats:?}");
    // The window's 50 changes, what may lie before it, and two segments of slack; 2,000 kB were written.
    assert!(stats.log_bytes < (50 << 10) + (64 << 10) + (32 << 10), "{stats:?}");
    assert_eq!((stats.keys, stats.revision), (20, Revision::new(2_000)));
    assert!(stats.window_changes <= 50);
    let before = store.list("", None, None, 0).await.expect("a list");
    drop(store);
    let store = EmbeddedStore::open(directory.path(), options).expect("the store opens");
    assert_eq!(store.list("", None, None, 0).await, Ok(before));
    let on_disk: u64 = fs::read_dir(directory.path())
        .expect("a listing")
        .map(|e| e.expect("an entry").metadata().expect("metadata").len())
        .sum();
    assert!(on_disk < 200 << 10, "{on_disk} bytes on disk");
}

#[tokio::test]
async fn damage_is_reported_with_its_place_and_not_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(directory.path(), Options::default()).expect("the store opens");
    for n in 0..10 {
        put(&store, &format!("/k/{n}"), vec![n; 100]).await;
    }
    store.compact(Revision::new(5)).await.expect("a compaction");
    store.checkpoint().await.expect("a checkpoint");
    drop(store);
    for (name, at) in [
        ("log-00000000000000000000", 300),
        ("checkpoint-00000000000000000005", 200),
    ] {
        let path = directory.path().join(name);
        let good = fs::read(&path).expect("the file");
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).expect("written");
        let error = EmbeddedStore::open(directory.path(), Options::default()).expect_err("it is damaged");
        let OpenError::Corrupt {
            path: named, offset, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(*named, path);
        assert!(*offset as usize <= at && *offset > 0, "{error}");
        fs::write(&path, &good).expect("written");
    }
    let missing = directory.path().join("log-00000000000000000000");
    fs::remove_file(&missing).expect("removed");
    let error = EmbeddedStore::open(directory.path(), Options::default()).expect_err("the log is missing");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn an_idle_watch_reports_progress_by_itself_and_ends_with_the_store() {
    let options = Options {
        progress_every: Duration::from_millis(1),
        ..Options::default()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(directory.path(), options).expect("the store opens");
    let mut watch = store.watch("/quiet/", Revision::ZERO).await.expect("a watch");
    let at = put(&store, "/busy", "1").await;
    while watch.next().await != Some(Ok(WatchItem::Progress(at))) {}
    assert_eq!(store.stats().watches, 1);
    drop(store);
    assert!(matches!(watch.next().await, Some(Err(WatchEnd::Interrupted(_)))));
    assert_eq!(watch.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fsync_serves_many_clients() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(EmbeddedStore::open(directory.path(), Options::default()).expect("the store opens"));
    let clients: Vec<_> = (0..64)
        .map(|client| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..20 {
                    put(&store, &format!("/c/{client}/{n}"), "v").await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    let stats = store.stats();
    assert_eq!(stats.commits, 64 * 20);
    assert!(stats.fsyncs < stats.commits / 2, "{stats:?}");
    assert!(stats.last_fsync > Duration::ZERO);
}

#[tokio::test]
async fn a_long_list_is_read_in_chunks_at_one_revision() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        retention: Retention {
            max_changes: 10,
            ..Retention::default()
        },
        ..Options::default()
    };
    let store = EmbeddedStore::open(directory.path(), options).expect("the store opens");
    for batch in 0..40 {
        let op = |n| Op::Put(Key::new(format!("/k/{:05}", batch * 128 + n)), "old".into());
        store
            .commit(Txn {
                preconditions: vec![],
                ops: (0..128).map(op).collect(),
            })
            .await
            .expect("a commit");
    }
    // The list gives way after its first chunk; the writes then push its revision out of the window.
    let mut list = store.list("/k/", None, None, 0);
    assert!(futures::poll!(&mut list).is_pending());
    for n in (0..5_120).rev().step_by(40) {
        put(&store, &format!("/k/{n:05}"), "new").await;
    }
    let page = list.await.expect("a list");
    assert_eq!(page.items.len(), 5_120);
    assert!(
        page.items
            .iter()
            .all(|(_, v)| v.value == "old" && v.modified <= page.revision)
    );
    let gone = store.list("/k/", Some(page.revision), None, 1).await;
    assert!(
        matches!(gone, Err(StoreError::Compacted { .. })),
        "the window has moved on"
    );
}
