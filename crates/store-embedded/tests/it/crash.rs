//! A process that writes is killed with SIGKILL at a random point, again and again; after each time, all that it had acknowledged is
//! there, and no commit is half there.
//!
//! The writing process is this test binary again, running [`crash_child`] alone. It acknowledges over its standard output. Set
//! `SETPOINT_TORTURE_ROUNDS` for a long run; `SETPOINT_TORTURE_SEED` repeats one.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use setpoint_store::{Key, Op, Revision, Store, Txn};
use setpoint_store_embedded::{EmbeddedStore, Options, Retention};

const DIRECTORY: &str = "SETPOINT_CRASH_DIRECTORY";
const CLIENTS: u64 = 8;
/// Keys of each commit of a client: all have the same value, or the commit is half there.
const KEYS: u64 = 3;

/// Small, so that a run of milliseconds rolls segments and writes checkpoints.
fn options() -> Options {
    Options {
        retention: Retention {
            max_changes: 200,
            ..Retention::default()
        },
        segment_bytes: 16 << 10,
        checkpoint_after_bytes: 16 << 10,
        ..Options::default()
    }
}

fn key(client: u64, n: u64) -> Key {
    Key::new(format!("/crash/{client}/{n}"))
}

/// Not a test: the process that is killed. Each client writes the next number to all of its keys, and then says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that a_killed_process_loses_nothing starts"]
async fn crash_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = Arc::new(EmbeddedStore::open(directory, options()).expect("the store opens"));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(write_for_ever(Arc::clone(&store), client)))
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
}

async fn write_for_ever(store: Arc<EmbeddedStore>, client: u64) {
    let last = store.get(&key(client, 0), None).await.expect("a get");
    let mut number: u64 = last.map_or(0, |v| {
        String::from_utf8_lossy(&v.value).trim().parse().expect("a number")
    });
    loop {
        number += 1;
        // Of different lengths, so that frames begin and end anywhere in a page.
        let value = format!("{number}{}", " ".repeat((number * 37 % 900) as usize));
        let ops = (0..KEYS)
            .map(|n| Op::Put(key(client, n), value.clone().into()))
            .collect();
        let at = store
            .commit(Txn {
                preconditions: vec![],
                ops,
            })
            .await
            .expect("a commit");
        // One write: a line is never half there, and never waits in a buffer.
        let line = format!("ack {client} {number} {at}\n");
        std::io::stdout()
            .lock()
            .write_all(line.as_bytes())
            .expect("the parent reads");
    }
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// So long after it was started: while it opens the store, most likely.
    Started(Duration),
    /// So long after its first acknowledgement.
    Acknowledged(Duration),
}

/// What a process acknowledged before it was killed: by client, the number and its revision.
fn run_and_kill(directory: &Path, when: When) -> BTreeMap<u64, (u64, Revision)> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "--nocapture", "crash::crash_child"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let stdout = child.stdout.take().expect("a pipe");
    let (begun, has_begun) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The first line may follow the test harness's own words.
            let Some((_, words)) = line.split_once("ack ") else {
                continue;
            };
            let words: Vec<u64> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
            if let [client, number, at] = words[..] {
                acknowledged.insert(client, (number, Revision::new(at)));
                let _ = begun.send(());
            }
        }
        acknowledged
    });
    // The waits are the fault that is injected, not a guess at how long something takes.
    match when {
        When::Started(after) => std::thread::sleep(after),
        When::Acknowledged(after) => {
            let _ = has_begun.recv_timeout(Duration::from_secs(60));
            std::thread::sleep(after);
        }
    }
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("the child is gone");
    assert_eq!(
        output.status.code(),
        None,
        "it ended by itself: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    reader.join().expect("the reader")
}

/// Checks what a crash left against what was acknowledged, or seen by the check before. Notes what it sees: it must stay too.
async fn check(directory: &Path, known: &mut BTreeMap<u64, (u64, Revision)>) -> Revision {
    let store = EmbeddedStore::open(directory, options()).expect("the store opens after a crash");
    let current = store.current().await.expect("the current revision");
    for client in 0..CLIENTS {
        let mut found = Vec::new();
        for n in 0..KEYS {
            found.push(store.get(&key(client, n), None).await.expect("a get"));
        }
        assert!(
            found.iter().all(|v| *v == found[0]),
            "client {client}: a commit is half there: {found:?}"
        );
        let (number, at) = known.get(&client).copied().unwrap_or_default();
        let kept = found[0].as_ref().map_or((0, Revision::ZERO), |v| {
            (
                String::from_utf8_lossy(&v.value).trim().parse().expect("a number"),
                v.modified,
            )
        });
        assert!(
            kept.0 >= number,
            "client {client}: {number} was acknowledged, {} is there",
            kept.0
        );
        assert!(
            kept.1 >= at && kept.1 <= current,
            "client {client}: acknowledged at {at}, now at {}",
            kept.1
        );
        // A client has one commit in flight at most.
        assert!(
            kept.0 <= number + 1,
            "client {client}: {number} was the last but one, {} is there",
            kept.0
        );
        known.insert(client, kept);
    }
    check_history(&store, current).await;
    current
}

/// The watch history is that of the state: no gap, each commit whole, the last of each key is its value.
async fn check_history(store: &EmbeddedStore, current: Revision) {
    use futures::StreamExt;
    let oldest = store.stats().oldest;
    let mut watch = store.watch("/crash/", oldest).await.expect("a watch");
    let mut expected = oldest;
    while expected < current {
        let item = watch.next().await.expect("an item").expect("no end");
        let setpoint_store::WatchItem::Events(events) = item else {
            continue;
        };
        for commit in events.chunks(KEYS as usize) {
            expected = expected.next();
            assert!(
                commit.iter().all(|e| e.revision == expected && e.current.is_some()),
                "at {expected}: {commit:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("SETPOINT_TORTURE_ROUNDS").unwrap_or(30);
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |d| d.as_nanos() as u64);
    let mut random = number("SETPOINT_TORTURE_SEED").unwrap_or(clock) | 1;
    println!("SETPOINT_TORTURE_ROUNDS={rounds} SETPOINT_TORTURE_SEED={random}");
    let directory = tempfile::tempdir().expect("a directory");
    let mut known = BTreeMap::new();
    let (mut last, mut silent) = (Revision::ZERO, 0);
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let path = directory.path().to_owned();
        let when = match random % 4 {
            0 => When::Started(Duration::from_micros(random % 40_000)),
            _ => When::Acknowledged(Duration::from_micros(random % 40_000)),
        };
        let more = tokio::task::block_in_place(|| run_and_kill(&path, when));
        assert!(
            !more.is_empty() || matches!(when, When::Started(_)),
            "round {round}: nothing was written"
        );
        silent += u64::from(more.is_empty());
        known.extend(more);
        let current = check(directory.path(), &mut known).await;
        assert!(
            current >= last,
            "round {round}: the revision went back from {last} to {current}"
        );
        last = current;
    }
    println!("{rounds} rounds, {last} commits, {silent} rounds killed before the first, 0 lost");
}
