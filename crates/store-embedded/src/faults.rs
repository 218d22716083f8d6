//! Faults at every I/O step of a scripted workload: after each, and a kill or a power cut, all that was acknowledged is there, no
//! commit is half there, what was refused is not there, and the history is that of the state.
//!
//! `SETPOINT_TORTURE_ROUNDS` sets how many random pairs of faults are tried after the systematic ones.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use setpoint_store::{Event, Key, Op, Precondition, Revision, Store, StoreError, Txn, WatchItem};

use crate::{
    EmbeddedStore, OpenError, Options, Retention,
    sim::{FAULTS, Fault, Random, SimDisk},
};

type State = BTreeMap<String, Vec<u8>>;

/// One step of the workload.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(&'static str, Option<usize>)>),
    Compact(u64),
    Checkpoint,
    Reopen,
}

/// Puts of different lengths (within a sector, over several), deletes, several keys at once; segments of 1 kB, so it rolls every few
/// commits; checkpoints with and without something to drop; a clean restart in the middle.
fn workload() -> Vec<Step> {
    use Step::{Checkpoint, Commit, Compact, Reopen};
    vec![
        Commit(vec![("a", Some(10))]),
        Commit(vec![("b", Some(600)), ("c", Some(1))]),
        Commit(vec![("a", Some(20)), ("b", None), ("d", Some(30))]),
        Commit(vec![("e", Some(700))]),
        Compact(2),
        Commit(vec![("a", Some(400)), ("c", Some(2))]),
        Checkpoint,
        Commit(vec![("d", None), ("e", Some(5))]),
        Reopen,
        Commit(vec![("a", Some(1_500)), ("b", Some(3)), ("c", None)]),
        Compact(6),
        Checkpoint,
        Commit(vec![("f", Some(0))]),
        Commit(vec![("a", Some(9)), ("f", Some(512))]),
    ]
}

fn options() -> Options {
    Options {
        retention: Retention {
            max_changes: 100,
            ..Retention::default()
        },
        segment_bytes: 1_000,
        // Only when asked for: so that the steps are the same in each run.
        checkpoint_after_bytes: u64::MAX / 2,
        ..Options::default()
    }
}

fn open(disk: &SimDisk) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open_on(Path::new("/sim"), Arc::new(disk.clone()), options(), || 1_000)
}

/// What is known of the store while the workload runs.
struct Known {
    /// The state after each revision that was, or may have been, committed.
    states: Vec<State>,
    /// Acknowledged up to here.
    acknowledged: usize,
    /// One more may be there: its outcome is unknown.
    unknown: bool,
    /// Acknowledged compactions reach up to here, and asked-for ones up to there.
    compacted: u64,
    compaction_asked: u64,
}

impl Known {
    fn new() -> Self {
        Self {
            states: vec![State::new()],
            acknowledged: 0,
            unknown: false,
            compacted: 0,
            compaction_asked: 0,
        }
    }

    fn state(&self) -> &State {
        &self.states[self.acknowledged]
    }

    async fn commit(&mut self, store: &EmbeddedStore, changes: &[(&str, Option<usize>)]) {
        let mut after = self.state().clone();
        let mut txn = Txn::default();
        for (number, (name, len)) in changes.iter().enumerate() {
            let key = Key::new(*name);
            if !after.contains_key(*name) {
                txn.preconditions.push(Precondition::Absent(key.clone()));
            }
            match len {
                Some(len) => {
                    let value = vec![(self.acknowledged * 7 + number) as u8; *len];
                    after.insert((*name).to_owned(), value.clone());
                    txn.ops.push(Op::Put(key, Bytes::from(value)));
                }
                None if after.remove(*name).is_some() => txn.ops.push(Op::Delete(key)),
                // What would have made it was refused.
                None => return,
            }
        }
        match store.commit(txn).await {
            Ok(revision) => {
                assert!(!self.unknown, "acknowledged {revision} after an unknown outcome");
                self.acknowledged += 1;
                assert_eq!(revision.get(), self.acknowledged as u64);
                self.states.push(after);
            }
            Err(StoreError::Unavailable(_)) => {
                assert!(!self.unknown, "only the commits in flight have an unknown outcome");
                self.unknown = true;
                self.states.push(after);
            }
            Err(StoreError::ReadOnly(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }

    /// What the store says of its own, while it is open.
    async fn check_open(&self, store: &EmbeddedStore) {
        assert_eq!(
            contents(store, None).await,
            *self.state(),
            "reads go on, and show what is acknowledged"
        );
        let read_only = store.stats().read_only.is_some();
        assert!(
            !self.unknown || read_only,
            "after an unknown outcome the store takes no writes"
        );
    }

    /// What a store that was opened again has.
    async fn check_reopened(&mut self, store: &EmbeddedStore) {
        let current = store.current().await.expect("the current revision").get() as usize;
        let most = self.acknowledged + usize::from(self.unknown);
        assert!(
            (self.acknowledged..=most).contains(&current),
            "{current} is not in {}..={most}",
            self.acknowledged
        );
        self.acknowledged = current;
        self.unknown = false;
        self.states.truncate(current + 1);
        assert_eq!(contents(store, None).await, *self.state(), "now, at {current}");
        let oldest = store.stats().oldest;
        assert!(
            oldest.get() >= self.compacted && oldest.get() <= self.compaction_asked,
            "oldest {oldest}"
        );
        for at in oldest.get()..=current as u64 {
            let then = contents(store, Some(Revision::new(at))).await;
            assert_eq!(then, self.states[at as usize], "at {at} of {current}");
        }
        self.check_history(store, oldest).await;
    }

    /// Replaying the watch over the oldest state gives each state up to now.
    async fn check_history(&self, store: &EmbeddedStore, oldest: Revision) {
        let mut state = self.states[oldest.get() as usize].clone();
        for commit in history(store, oldest).await.chunk_by(|a, b| a.revision == b.revision) {
            for event in commit {
                let name = event.key.as_str().to_owned();
                let previous = event.previous.as_ref().map(|v| v.value.to_vec());
                assert_eq!(previous, state.get(&name).cloned(), "{event:?}");
                match &event.current {
                    Some(v) => drop(state.insert(name, v.value.to_vec())),
                    None => drop(state.remove(&name)),
                }
            }
            assert_eq!(state, self.states[commit[0].revision.get() as usize]);
        }
        assert_eq!(state, *self.state());
    }
}

async fn contents(store: &EmbeddedStore, at: Option<Revision>) -> State {
    let page = store.list("", at, None, 0).await.expect("a list");
    page.items
        .into_iter()
        .map(|(key, v)| (key.as_str().to_owned(), v.value.to_vec()))
        .collect()
}

async fn history(store: &EmbeddedStore, from: Revision) -> Vec<Event> {
    use futures::StreamExt;
    let mut watch = store.watch("", from).await.expect("a watch");
    store.request_progress("").await.expect("a request");
    let mut history = Vec::new();
    loop {
        match watch.next().await {
            Some(Ok(WatchItem::Events(events))) => history.extend(events),
            Some(Ok(WatchItem::Progress(_))) => return history,
            end => panic!("{end:?}"),
        }
    }
}

/// Runs the workload, or as much of it as the fault lets.
async fn run(disk: &SimDisk, known: &mut Known, steps: &[Step]) {
    let Ok(mut store) = open(disk) else {
        assert!(disk.happened().is_some(), "it does not open, without a fault");
        return;
    };
    known.check_reopened(&store).await;
    for step in steps {
        match step {
            Step::Commit(changes) => known.commit(&store, changes).await,
            Step::Compact(before) => {
                known.compaction_asked = known.compaction_asked.max(*before);
                match store.compact(Revision::new(*before)).await {
                    Ok(()) => known.compacted = known.compacted.max((*before).min(known.acknowledged as u64)),
                    Err(e) => assert!(disk.happened().is_some(), "{e}"),
                }
            }
            Step::Checkpoint => {
                let result = store.checkpoint().await;
                assert!(result.is_ok() || disk.happened().is_some(), "{result:?}");
            }
            Step::Reopen => {
                drop(store);
                let Ok(reopened) = open(disk) else {
                    assert!(disk.happened().is_some(), "it does not open again, without a fault");
                    return;
                };
                store = reopened;
                known.check_reopened(&store).await;
            }
        }
        known.check_open(&store).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// The next process finds a sound store, and what it shows survives a power cut though nothing was written since; it can write, and
/// the one after finds that too.
async fn check_recovery(disk: &SimDisk, known: &mut Known) {
    known.check_reopened(&open_again(disk)).await;
    let disk = disk.after_power_cut(&mut Random(known.acknowledged as u64));
    for _ in 0..2 {
        let store = open_again(&disk);
        known.check_reopened(&store).await;
        known.commit(&store, &[("z", Some(40)), ("y", Some(900))]).await;
        assert!(!known.unknown, "without a fault a commit succeeds");
        known.check_open(&store).await;
    }
}

fn open_again(disk: &SimDisk) -> EmbeddedStore {
    open(disk).unwrap_or_else(|e| panic!("it does not open again: {e}"))
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    PowerCut(u64),
}

impl End {
    fn disk(self, disk: &SimDisk) -> SimDisk {
        match self {
            // A machine that has stopped has no cache left.
            Self::Kill if disk.crashed() => disk.after_power_cut(&mut Random(0)),
            Self::Kill => disk.after_kill(),
            Self::PowerCut(seed) => disk.after_power_cut(&mut Random(seed)),
        }
    }
}

/// Runs one case in a thread that can panic, to say which case it was.
fn case(what: &str, body: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        eprintln!("the case was: {what}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn no_fault_at_any_step_loses_or_tears_a_commit() {
    let runtime = runtime();
    let steps = workload();
    let whole = SimDisk::default();
    let mut known = Known::new();
    runtime.block_on(run(&whole, &mut known, &steps));
    let commits = steps.iter().filter(|step| matches!(step, Step::Commit(_))).count();
    assert_eq!(
        (known.acknowledged, known.unknown),
        (commits, false),
        "without faults all is acknowledged"
    );
    let total = whole.steps();
    assert!(total > 60, "{total} steps are too few to be the whole workload");
    let mut happened = 0;
    for at in 0..total {
        for fault in FAULTS {
            for end in [End::Kill, End::PowerCut(at as u64), End::PowerCut(!(at as u64))] {
                let (disk, mut known) = (SimDisk::default(), Known::new());
                disk.inject(at, fault);
                case(&format!("{fault:?} at step {at}, then {end:?}"), || {
                    runtime.block_on(run(&disk, &mut known, &steps));
                    happened += usize::from(disk.happened().is_some());
                    runtime.block_on(check_recovery(&end.disk(&disk), &mut known));
                });
                if disk.happened().is_none() {
                    // This kind of fault does not concern this kind of step.
                    break;
                }
            }
        }
    }
    println!("{total} steps, {happened} faults, 0 acknowledged commits lost");
    assert!(happened > total * 3 * 3, "{happened} faults at {total} steps");
}

#[test]
fn a_second_fault_while_recovering_from_the_first_loses_nothing_either() {
    let rounds = std::env::var("SETPOINT_TORTURE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(300_u64);
    let runtime = runtime();
    let steps = workload();
    for seed in 0..rounds {
        let mut random = Random(seed);
        let mut disk = SimDisk::default();
        let mut known = Known::new();
        case(&format!("seed {seed}"), || {
            for _ in 0..3 {
                let (at, fault) = (random.below(70), FAULTS[random.below(FAULTS.len())]);
                disk.inject(at, fault);
                runtime.block_on(run(&disk, &mut known, &steps));
                let end = if random.below(3) == 0 {
                    End::Kill
                } else {
                    End::PowerCut(random.next())
                };
                disk = end.disk(&disk);
            }
            runtime.block_on(check_recovery(&disk, &mut known));
        });
    }
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let store = open(&disk).expect("it opens");
        let mut known = Known::new();
        known.commit(&store, &[("a", Some(10))]).await;
        disk.inject(0, Fault::NoSpace);
        let put = |value| Txn {
            preconditions: vec![],
            ops: vec![Op::Put(Key::new("a"), value)],
        };
        let in_flight = store.commit(put(Bytes::from_static(b"x"))).await;
        assert!(
            matches!(&in_flight, Err(StoreError::Unavailable(why)) if why.contains("no storage space")),
            "{in_flight:?}"
        );
        let later = store.commit(put(Bytes::from_static(b"y"))).await;
        assert!(
            matches!(&later, Err(StoreError::ReadOnly(why)) if why.contains("no storage space")),
            "{later:?}"
        );
        assert!(matches!(
            store.compact(Revision::new(1)).await,
            Err(StoreError::ReadOnly(_))
        ));
        known.check_open(&store).await;
        assert_eq!(
            store.stats().read_only.as_deref(),
            later.err().map(|e| e.to_string()).as_deref()
        );
    });
}

#[test]
fn a_flip_in_any_byte_is_reported_or_harmless() {
    let runtime = runtime();
    let disk = SimDisk::default();
    let mut known = Known::new();
    runtime.block_on(run(&disk, &mut known, &workload()));
    let names = disk.names();
    assert!(names.iter().any(|name| name.starts_with("checkpoint-")), "{names:?}");
    let last_log = names
        .iter()
        .rfind(|name| name.starts_with("log-"))
        .expect("a log")
        .clone();
    for name in names {
        let mut len = 0;
        disk.after_kill().edit(&name, |bytes| len = bytes.len());
        for at in (0..len).step_by(7) {
            let damaged = disk.after_kill();
            damaged.edit(&name, |bytes| bytes[at] ^= 0x20);
            match open(&damaged) {
                Err(OpenError::Corrupt { path, .. }) => {
                    assert_eq!(path, Path::new("/sim").join(&name), "flip at {at} of {name}");
                }
                Err(e) => panic!("flip at {at} of {name}: {e}"),
                // Padding, or the last frame, of which nothing tells whether it was acknowledged; never a wrong value.
                Ok(store) => runtime.block_on(async {
                    let current = store.current().await.expect("the current revision").get() as usize;
                    assert_eq!(
                        contents(&store, None).await,
                        known.states[current],
                        "flip at {at} of {name}"
                    );
                    let lost = known.acknowledged - current;
                    assert!(
                        lost == 0 || (lost == 1 && name == last_log),
                        "flip at {at} of {name} lost {lost}"
                    );
                }),
            }
        }
    }
}
