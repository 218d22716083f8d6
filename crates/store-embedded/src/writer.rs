//! The one thread that changes the store: it gathers commits, checks them in order, writes them as one frame, waits for one fsync,
//! and only then shows them to readers and watches and answers the callers.
//!
//! # Guarantees
//! - An answer, also a conflict, is given only after everything it rests on is durable.
//! - After the first failed write or fsync nothing is written again. The commits in flight get [`StoreError::Unavailable`] (their
//!   outcome is unknown until the store is opened again), all later ones [`StoreError::ReadOnly`].
//!
//! # How one could get it wrong
//! - Waiting for company: the next group gathers by itself while the fsync of this one runs.
//! - Checking the second commit of a group against what was before the first: see [`Plan::overlay`].

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering, mpsc::TryRecvError},
    thread::JoinHandle,
    time::Instant,
};

use setpoint_store::{Event, Key, MAX_TXN_BYTES, Op, Revision, StoreError, Txn, Versioned};
use tokio::sync::{mpsc, oneshot};

use crate::{
    checkpoint,
    disk::{Disk, DiskFile, write_all},
    format::{FRAME_HEADER_BYTES, FrameWriter, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name},
    mvcc::{Batch, Mvcc},
    options::Options,
    shared::Shared,
};

/// The writer stops to gather at this many bytes: 4 MiB take a few milliseconds to write.
const BATCH_BYTES: usize = MAX_TXN_BYTES;
/// And at this many operations, which bounds the time that readers wait while they are applied: about 1 ms.
const BATCH_OPS: usize = 1_024;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(crate) enum Request {
    /// A commit that was found valid.
    Commit(Txn, Reply<Revision>),
    /// Forget what lies before the revision.
    Compact(Revision, Reply<()>),
    /// Write a checkpoint now.
    Checkpoint(Reply<()>),
    /// Look whether the running checkpoint is done.
    Wake,
}

impl Request {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Commit(txn, _) => (txn.ops.iter().map(Op::bytes).sum(), txn.ops.len()),
            Self::Compact(..) | Self::Checkpoint(_) | Self::Wake => (0, 1),
        }
    }
}

/// A closed or open part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) name: String,
    /// The revision before its first commit.
    pub(crate) base: Revision,
    pub(crate) bytes: u64,
}

/// The log as the writer holds it.
pub(crate) struct Log {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) next_sequence: u64,
    /// Oldest first; the last one is open.
    pub(crate) segments: Vec<Segment>,
}

impl Log {
    /// Begins a segment and makes it durable.
    pub(crate) fn begin_segment(
        disk: &dyn Disk,
        base: Revision,
        first_sequence: u64,
    ) -> io::Result<(Box<dyn DiskFile>, SegmentHeader, Segment)> {
        let header = SegmentHeader {
            salt: salt(),
            base,
            first_sequence,
        };
        let name = segment_name(base);
        let mut file = disk.create(&name)?;
        write_all(&mut *file, &header.encode())?;
        file.sync()?;
        disk.sync_directory()?;
        Ok((
            file,
            header,
            Segment {
                name,
                base,
                bytes: SEGMENT_HEADER_BYTES as u64,
            },
        ))
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

/// A number that clients cannot guess: the keys of the standard library's hash maps come from the operating system's random source.
fn salt() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The writer's own state.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) now_ms: fn() -> u64,
    pub(crate) last_ms: u64,
    pub(crate) frame: FrameWriter,
    pub(crate) checkpoint: Option<RunningCheckpoint>,
    /// Who asked for a checkpoint that begins after they asked.
    pub(crate) checkpoint_asked: Vec<Reply<()>>,
    /// Log bytes before the window at which the next checkpoint is due.
    pub(crate) checkpoint_due: u64,
    /// To the writer itself; weak, so that the queue closes with the last handle.
    pub(crate) own_queue: mpsc::WeakSender<Request>,
}

/// A checkpoint being written by its own thread.
pub(crate) struct RunningCheckpoint {
    thread: JoinHandle<()>,
    outcome: std::sync::mpsc::Receiver<Result<Revision, StoreError>>,
    asked_by: Vec<Reply<()>>,
}

/// Wakes the writer when the thread ends, also by a panic. A full queue needs no waking.
struct WakeAtEnd(mpsc::WeakSender<Request>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            let _ = queue.try_send(Request::Wake);
        }
    }
}

impl Writer {
    /// Serves requests until all senders are gone.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        let mut purging = false;
        loop {
            // While there is something to free, it is done between groups, a batch at a time.
            let first = match requests.try_recv() {
                Ok(request) => Some(request),
                Err(_) if purging => None,
                Err(_) => match requests.blocking_recv() {
                    Some(request) => Some(request),
                    None => break,
                },
            };
            if let Some(first) = first {
                gather(first, &mut requests, &mut group);
                self.serve(group.drain(..));
            }
            purging = self.shared.purge() && self.shared.purge();
            self.roll_segment();
            self.mind_checkpoint();
        }
        if let Some(running) = self.checkpoint.take() {
            let outcome = running.outcome.recv();
            self.finish_checkpoint(running, outcome.unwrap_or_else(|_| Err(panicked())));
        }
    }

    fn serve(&mut self, group: impl Iterator<Item = Request>) {
        self.frame.begin();
        let plan = {
            let state = self.shared.state.read();
            let mut plan = Plan::new(&state);
            for request in group {
                match request {
                    Request::Commit(txn, reply) => plan.commit(&state, &mut self.frame, txn, reply),
                    Request::Compact(before, reply) => plan.compact(&mut self.frame, before, reply),
                    Request::Checkpoint(reply) => self.checkpoint_asked.push(reply),
                    Request::Wake => {}
                }
            }
            plan
        };
        self.settle(plan);
    }

    /// Makes the plan durable, shows it, and answers.
    fn settle(&mut self, mut plan: Plan) {
        if let Some(refusal) = self.shared.refusal() {
            return plan.answer_all(&refusal);
        }
        if !self.frame.is_empty() {
            let now = (self.now_ms)().max(self.last_ms);
            self.last_ms = now;
            if let Err(e) = self.write_frame(plan.base, now) {
                let why = format!("writing {} failed: {e}", self.open_segment().name);
                self.shared.refuse_writes(why.clone());
                self.discard_tail();
                let unknown = StoreError::Unavailable(format!(
                    "{why}; whether the commit is kept shows when the store is opened again"
                ));
                return plan.answer_all(&unknown);
            }
            self.publish(&mut plan, now);
        }
        plan.answer();
    }

    fn write_frame(&mut self, base: Revision, now: u64) -> io::Result<()> {
        let bytes = self
            .frame
            .finish(self.log.header.salt, self.log.next_sequence, base, now);
        let len = bytes.len() as u64;
        write_all(&mut *self.log.file, bytes)?;
        let begun = Instant::now();
        self.log.file.sync()?;
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counters = &self.shared.counters;
        counters.last_fsync_nanos.store(nanos, Ordering::Relaxed);
        counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.log.next_sequence += 1;
        if let Some(open) = self.log.segments.last_mut() {
            open.bytes += len;
        }
        counters.log_bytes.store(self.log.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn open_segment(&self) -> &Segment {
        // There is always one: `Log` is made with it, and only closed segments are dropped.
        &self.log.segments[self.log.segments.len() - 1]
    }

    /// After a failure, tries to take the frame out of the file, so that what a restart finds is what was acknowledged. It is a
    /// courtesy: nothing depends on it, and the outcome stays unknown.
    fn discard_tail(&mut self) {
        let len = self.open_segment().bytes;
        if let Err(e) = self.log.file.set_len(len) {
            tracing::warn!(error = %e, "the unacknowledged tail could not be cut off");
        }
    }

    fn publish(&mut self, plan: &mut Plan, now: u64) {
        let counters = &self.shared.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters.commits.fetch_add(plan.commits, Ordering::Relaxed);
        counters.conflicts.fetch_add(plan.conflicts, Ordering::Relaxed);
        counters.largest_batch.fetch_max(plan.commits, Ordering::Relaxed);
        let events = std::mem::take(&mut plan.events);
        let batch = (!events.is_empty()).then(|| Arc::new(Batch::new(events, plan.revision, now)));
        let mut state = self.shared.state.write();
        let mut to_ring = Vec::new();
        if let Some(batch) = batch {
            to_ring = self.shared.watchers.note(&batch.events);
            state.apply(batch);
        }
        if let Some(before) = plan.compact {
            state.compact(before);
        }
        state.retain(&self.options.retention, now);
        drop(state);
        to_ring.iter().for_each(|bell| bell.ring());
    }

    /// Closes the open segment and begins the next, when it is long enough.
    fn roll_segment(&mut self) {
        if self.open_segment().bytes < self.options.segment_bytes || self.shared.refusal().is_some() {
            return;
        }
        let base = self.shared.state.read().revision();
        if base == self.open_segment().base {
            // Only compactions since: two segments cannot have one name.
            return;
        }
        match Log::begin_segment(&*self.disk, base, self.log.next_sequence) {
            Ok((file, header, segment)) => {
                self.log.file = file;
                self.log.header = header;
                self.log.segments.push(segment);
            }
            Err(e) => self
                .shared
                .refuse_writes(format!("beginning {} failed: {e}", segment_name(base))),
        }
    }

    /// Log bytes that a checkpoint at the start of the window would make unneeded.
    fn reclaimable(&self, oldest: Revision) -> u64 {
        let unneeded = checkpoint::unneeded(&self.log.segments, oldest);
        self.log.segments[..unneeded].iter().map(|s| s.bytes).sum()
    }

    /// Finishes a checkpoint that is done; begins one that is asked for or due.
    fn mind_checkpoint(&mut self) {
        if let Some(running) = self.checkpoint.take() {
            match running.outcome.try_recv() {
                Ok(outcome) => self.finish_checkpoint(running, outcome),
                Err(TryRecvError::Disconnected) => self.finish_checkpoint(running, Err(panicked())),
                Err(TryRecvError::Empty) => {
                    self.checkpoint = Some(running);
                    return;
                }
            }
        }
        let (oldest, live) = {
            let state = self.shared.state.read();
            (state.oldest(), state.sizes().live_bytes)
        };
        let due = self.reclaimable(oldest) >= self.checkpoint_due.max(live / 2) && self.shared.refusal().is_none();
        if due || !self.checkpoint_asked.is_empty() {
            self.begin_checkpoint();
        }
    }

    fn begin_checkpoint(&mut self) {
        let asked_by = std::mem::take(&mut self.checkpoint_asked);
        let (shared, disk, now) = (Arc::clone(&self.shared), Arc::clone(&self.disk), (self.now_ms)());
        let segments = self.log.segments.clone();
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        let wake = WakeAtEnd(self.own_queue.clone());
        let write = move || {
            // Dropped last, when the outcome can be seen.
            let _wake = wake;
            let _ = done.send(checkpoint::write(&shared, &*disk, now, &segments));
        };
        match std::thread::Builder::new().name("store-checkpoint".into()).spawn(write) {
            Ok(thread) => {
                self.checkpoint = Some(RunningCheckpoint {
                    thread,
                    outcome,
                    asked_by,
                })
            }
            Err(e) => {
                self.checkpoint_due += self.options.checkpoint_after_bytes;
                let error = StoreError::Unavailable(format!("no thread for a checkpoint: {e}"));
                asked_by
                    .into_iter()
                    .for_each(|reply| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    fn finish_checkpoint(&mut self, running: RunningCheckpoint, result: Result<Revision, StoreError>) {
        let _ = running.thread.join();
        let counters = &self.shared.counters;
        match &result {
            Ok(at) => {
                counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.checkpoint_due = self.options.checkpoint_after_bytes;
                self.forget_segments(*at);
            }
            Err(e) => {
                counters.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
                // The log has everything, so nothing is lost. Not again at once: a full disk would be filled again and again.
                let reclaimable = self.reclaimable(self.shared.state.read().oldest());
                self.checkpoint_due = reclaimable + self.options.checkpoint_after_bytes;
                tracing::warn!(error = %e, "a checkpoint failed; the log grows until one succeeds");
            }
        }
        let result = result.map(|_| ());
        running
            .asked_by
            .into_iter()
            .for_each(|reply| drop(reply.send(result.clone())));
    }

    /// Forgets the segments that the checkpoint at `at` has removed.
    fn forget_segments(&mut self, at: Revision) {
        let gone = checkpoint::unneeded(&self.log.segments, at);
        self.log.segments.drain(..gone);
        self.shared
            .counters
            .log_bytes
            .store(self.log.bytes(), Ordering::Relaxed);
    }
}

fn panicked() -> StoreError {
    StoreError::Unavailable("the checkpoint's thread panicked".into())
}

/// Takes what is queued behind `first`, up to the bounds.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>, group: &mut Vec<Request>) {
    let (mut bytes, mut ops) = first.size();
    group.push(first);
    while bytes < BATCH_BYTES && ops < BATCH_OPS {
        let Ok(request) = requests.try_recv() else {
            return;
        };
        let size = request.size();
        (bytes, ops) = (bytes + size.0, ops + size.1);
        group.push(request);
    }
}

/// What a group will do once it is durable.
struct Plan {
    base: Revision,
    revision: Revision,
    events: Vec<Event>,
    /// The state of the keys that the group has changed so far: later commits of the group are checked against it.
    overlay: HashMap<Key, Option<Versioned>>,
    compact: Option<Revision>,
    commits: u64,
    conflicts: u64,
    answers: Vec<(Reply<Revision>, Result<Revision, StoreError>)>,
    compactions: Vec<Reply<()>>,
}

impl Plan {
    fn new(state: &Mvcc) -> Self {
        Self {
            base: state.revision(),
            revision: state.revision(),
            events: Vec::new(),
            overlay: HashMap::new(),
            compact: None,
            commits: 0,
            conflicts: 0,
            answers: Vec::new(),
            compactions: Vec::new(),
        }
    }

    /// The state of a key after what the group has done so far, and the key to keep: the store's own copy where it has one.
    fn current(&self, state: &Mvcc, key: &Key) -> (Key, Option<Versioned>) {
        if let Some((key, current)) = self.overlay.get_key_value(key) {
            return (key.clone(), current.clone());
        }
        match state.newest(key) {
            Some((key, current)) => (key.clone(), Some(current)),
            None => (key.clone(), None),
        }
    }

    fn commit(&mut self, state: &Mvcc, frame: &mut FrameWriter, txn: Txn, reply: Reply<Revision>) {
        let result = self.check(state, &txn);
        if result.is_ok() {
            frame.commit(&txn.ops);
            self.apply(state, txn.ops);
        } else {
            self.conflicts += 1;
        }
        self.answers.push((reply, result.map(|()| self.revision)));
    }

    fn check(&self, state: &Mvcc, txn: &Txn) -> Result<(), StoreError> {
        for precondition in &txn.preconditions {
            let (key, current) = self.current(state, precondition.key());
            if !precondition.holds(current.as_ref()) {
                return Err(StoreError::Conflict { key, current });
            }
        }
        let absent = |op: &&Op| matches!(op, Op::Delete(key) if self.current(state, key).1.is_none());
        match txn.ops.iter().find(absent) {
            Some(op) => Err(StoreError::Invalid(format!(
                "it deletes {}, which does not exist",
                op.key()
            ))),
            None => Ok(()),
        }
    }

    fn apply(&mut self, state: &Mvcc, ops: Vec<Op>) {
        self.commits += 1;
        self.revision = self.revision.next();
        let revision = self.revision;
        for op in ops {
            let (key, previous) = self.current(state, op.key());
            let current = match op {
                Op::Put(_, value) => {
                    let created = previous.as_ref().map_or(revision, |v| v.created);
                    Some(Versioned {
                        value,
                        created,
                        modified: revision,
                    })
                }
                Op::Delete(_) => None,
            };
            self.overlay.insert(key.clone(), current.clone());
            self.events.push(Event {
                key,
                revision,
                current,
                previous,
            });
        }
    }

    fn compact(&mut self, frame: &mut FrameWriter, before: Revision, reply: Reply<()>) {
        let before = before.min(self.revision);
        frame.compact(before);
        self.compact = self.compact.max(Some(before));
        self.compactions.push(reply);
    }

    fn answer(self) {
        // A caller that is gone does not want the answer.
        for (reply, result) in self.answers {
            let _ = reply.send(result);
        }
        for reply in self.compactions {
            let _ = reply.send(Ok(()));
        }
    }

    fn answer_all(self, error: &StoreError) {
        for (reply, _) in self.answers {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.compactions {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

const _: () = assert!(
    BATCH_BYTES + MAX_TXN_BYTES + (BATCH_OPS + 128) * 16 + FRAME_HEADER_BYTES <= crate::format::MAX_FRAME_BYTES,
    "the longest group fits in the longest frame"
);
