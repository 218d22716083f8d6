//! Opening a directory: the newest checkpoint, then the log after it.
//!
//! # Guarantees
//! - Works from whatever a crash left at any point; the result has every acknowledged commit, and each commit whole or not at all.
//! - What it serves is durable: the last segment is made durable again before it is used, as its tail may never have been.
//! - Damage to what was acknowledged is [`OpenError::Corrupt`] with the file and the offset. Nothing is repaired by guessing.
//!
//! # What a crash can leave
//! - `*.tmp`: a checkpoint that was not finished. Removed.
//! - Two checkpoints, or segments before the checkpoint: removal had not happened yet. The newest checkpoint counts; it got its name
//!   only when it was whole. Removed.
//! - A last segment without a whole header, and nothing after it: it was being made; nothing was written to it. Made again.
//! - A torn frame at the end of the last segment. Cut off. (See `format` for how it is told from corruption.)

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use setpoint_store::{Event, Key, Op, Revision, Versioned};

use crate::{
    OpenError, checkpoint,
    disk::Disk,
    format::{
        BlockHeader, CHECKPOINT_HEADER_BYTES, Frame, Item, Next, SEGMENT_HEADER_BYTES, SegmentHeader, decode_block,
        decode_block_header, decode_checkpoint_header, next_frame, parse_checkpoint_name, parse_segment_name,
    },
    mvcc::{Batch, Mvcc},
    options::Retention,
    writer::{Log, Segment},
};

/// What was found.
pub(crate) struct Recovered {
    pub(crate) state: Mvcc,
    pub(crate) log: Log,
    /// When the last frame was written; 0 when there is none.
    pub(crate) last_ms: u64,
    /// Bytes of a torn frame that were cut off.
    pub(crate) torn_bytes: u64,
}

/// Opens what is in the directory.
pub(crate) fn recover(path: &Path, disk: &dyn Disk, retention: &Retention) -> Result<Recovered, OpenError> {
    Recovery { path, disk, retention }.run()
}

struct Recovery<'a> {
    path: &'a Path,
    disk: &'a dyn Disk,
    retention: &'a Retention,
}

/// A replay of the log.
struct Replay {
    state: Mvcc,
    /// The sequence that the next frame must have; known from the first segment on.
    next_sequence: Option<u64>,
    last_ms: u64,
}

impl Recovery<'_> {
    fn io(&self, name: &str, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        let path = self.file(name);
        move |source| OpenError::Io { path, what, source }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn corrupt(&self, name: &str, offset: u64, why: impl Into<String>) -> OpenError {
        OpenError::Corrupt {
            path: self.file(name),
            offset,
            why: why.into(),
        }
    }

    fn run(&self) -> Result<Recovered, OpenError> {
        let mut names = self.disk.list().map_err(self.io("", "list the directory"))?;
        names.sort();
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            self.disk.remove(name).map_err(self.io(name, "remove"))?;
        }
        let newest = names
            .iter()
            .filter_map(|name| parse_checkpoint_name(name).map(|at| (name, at)))
            .next_back();
        let state = match newest {
            Some((name, at)) => {
                // A process that was killed may have left the name not durable; what it replaces is removed below.
                self.disk.sync_directory().map_err(self.io("", "make durable"))?;
                self.load_checkpoint(name, at)?
            }
            None => Mvcc::default(),
        };
        let segments: Vec<(String, Revision)> = names
            .iter()
            .filter_map(|name| Some((name.clone(), parse_segment_name(name)?)))
            .collect();
        let recovered = self.replay(state, segments, newest.is_none())?;
        if let Some((_, at)) = newest {
            checkpoint::remove_older(self.disk, at);
        }
        Ok(recovered)
    }

    fn load_checkpoint(&self, name: &str, at: Revision) -> Result<Mvcc, OpenError> {
        let file = self.disk.read(name).map_err(self.io(name, "open"))?;
        let mut reader = CheckpointReader {
            file: io::BufReader::with_capacity(1 << 20, file),
            offset: 0,
        };
        match reader.load() {
            Ok((revision, entries)) if revision == at => Ok(Mvcc::from_checkpoint(revision, entries)),
            Ok((revision, _)) => Err(self.corrupt(name, 0, format!("it holds revision {revision}"))),
            Err(ReadError::Damage(why)) => Err(self.corrupt(name, reader.offset, why)),
            Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt(name, reader.offset, "it ends early"))
            }
            Err(ReadError::Io(e)) => Err(self.io(name, "read")(e)),
        }
    }

    fn replay(&self, state: Mvcc, segments: Vec<(String, Revision)>, fresh: bool) -> Result<Recovered, OpenError> {
        let at = state.revision();
        // The last segment that begins at or before the checkpoint holds what comes first after it.
        let first = segments.iter().rposition(|(_, base)| *base <= at);
        let Some(first) = first else {
            if let Some((name, _)) = segments.first() {
                return Err(self.corrupt(
                    name,
                    0,
                    format!("the log between revision {at} and its beginning is missing"),
                ));
            }
            if !fresh {
                return Err(self.corrupt(
                    "",
                    0,
                    format!("the log after the checkpoint of revision {at} is missing"),
                ));
            }
            return self.begin(state, 1, 0, Vec::new());
        };
        let mut replay = Replay {
            state,
            next_sequence: None,
            last_ms: 0,
        };
        let mut whole = Vec::new();
        let last = segments.len() - 1;
        let mut end = None;
        for (index, (name, base)) in segments.iter().enumerate().skip(first) {
            let contents = self.read_segment(name)?;
            let header = match SegmentHeader::decode(&contents) {
                Ok(header) if header.base == *base => header,
                Ok(header) => return Err(self.corrupt(name, 0, format!("it begins at revision {}", header.base))),
                // It was being made when the machine stopped: nothing can have been written to it.
                Err(_)
                    if index == last && contents.len() <= SEGMENT_HEADER_BYTES && *base == replay.state.revision() =>
                {
                    break;
                }
                Err(why) => return Err(self.corrupt(name, 0, why)),
            };
            let len = self.replay_segment(&mut replay, name, header, &contents, index == last)?;
            whole.push(Segment {
                name: name.clone(),
                base: *base,
                bytes: len,
            });
            end = Some((header, contents.len() as u64 - len));
        }
        for (name, _) in &segments[..first] {
            self.disk.remove(name).map_err(self.io(name, "remove"))?;
        }
        let next_sequence = replay.next_sequence.unwrap_or(1);
        match (end, whole.last()) {
            (Some((header, torn_bytes)), Some(open)) if whole.len() == segments.len() - first => {
                let mut file = self.disk.append(&open.name).map_err(self.io(&open.name, "open"))?;
                if torn_bytes > 0 {
                    file.set_len(open.bytes).map_err(self.io(&open.name, "cut"))?;
                }
                file.sync().map_err(self.io(&open.name, "make durable"))?;
                self.disk.sync_directory().map_err(self.io("", "make durable"))?;
                let log = Log {
                    file,
                    header,
                    next_sequence,
                    segments: whole,
                };
                Ok(Recovered {
                    state: replay.state,
                    log,
                    last_ms: replay.last_ms,
                    torn_bytes,
                })
            }
            _ => self.begin(replay.state, next_sequence, replay.last_ms, whole),
        }
    }

    fn begin(
        &self,
        state: Mvcc,
        next_sequence: u64,
        last_ms: u64,
        mut segments: Vec<Segment>,
    ) -> Result<Recovered, OpenError> {
        let base = state.revision();
        let (file, header, segment) =
            Log::begin_segment(self.disk, base, next_sequence).map_err(self.io("", "begin the log"))?;
        segments.push(segment);
        let log = Log {
            file,
            header,
            next_sequence,
            segments,
        };
        Ok(Recovered {
            state,
            log,
            last_ms,
            torn_bytes: 0,
        })
    }

    fn read_segment(&self, name: &str) -> Result<Vec<u8>, OpenError> {
        let mut contents = Vec::new();
        let mut file = self.disk.read(name).map_err(self.io(name, "open"))?;
        file.read_to_end(&mut contents).map_err(self.io(name, "read"))?;
        Ok(contents)
    }

    /// Applies the frames of a segment. Answers how many of its bytes are whole.
    fn replay_segment(
        &self,
        replay: &mut Replay,
        name: &str,
        header: SegmentHeader,
        contents: &[u8],
        last: bool,
    ) -> Result<u64, OpenError> {
        if replay
            .next_sequence
            .is_some_and(|expected| expected != header.first_sequence)
        {
            return Err(self.corrupt(name, 0, "frames are missing before it"));
        }
        let mut sequence = header.first_sequence;
        let mut offset = SEGMENT_HEADER_BYTES;
        loop {
            match next_frame(contents, header.salt, offset, sequence) {
                Next::Frame(frame) => {
                    let bytes = frame.bytes;
                    replay
                        .apply(frame, self.retention)
                        .map_err(|why| self.corrupt(name, offset as u64, why))?;
                    offset += bytes;
                    sequence += 1;
                }
                Next::End => break,
                // The next segment is begun only after all of this one was durable.
                Next::Torn if last => break,
                Next::Torn => {
                    return Err(self.corrupt(name, offset as u64, "a frame is damaged before the end of the log"));
                }
                Next::Damaged(why) => return Err(self.corrupt(name, offset as u64, why)),
            }
        }
        replay.next_sequence = Some(sequence);
        Ok(offset as u64)
    }
}

impl Replay {
    fn apply(&mut self, frame: Frame, retention: &Retention) -> Result<(), String> {
        self.last_ms = self.last_ms.max(frame.unix_ms);
        let mut revision = frame.base;
        let mut events = Vec::new();
        let mut before = None;
        if frame.base > self.state.revision() {
            return Err(format!(
                "revisions {} to {} are missing",
                self.state.revision().next(),
                frame.base
            ));
        }
        // Keys that the frame has changed already; a frame is applied as one batch, as it was when it was written.
        let mut overlay = std::collections::HashMap::new();
        for item in frame.items {
            match item {
                Item::Compact(at) => before = before.max(Some(at)),
                Item::Commit(ops) => {
                    revision = revision.next();
                    if revision > self.state.revision() {
                        ops.into_iter()
                            .for_each(|op| events.push(self.event(&mut overlay, revision, op)));
                    }
                }
            }
        }
        if !events.is_empty() {
            self.state.apply(Arc::new(Batch::new(events, revision, self.last_ms)));
        }
        if let Some(before) = before {
            self.state.compact(before);
        }
        // By the frame's own time, as when it was written: so the memory used here is bounded as it was then.
        self.state.retain(retention, self.last_ms);
        while self.state.purge(None) {}
        Ok(())
    }

    fn event(
        &self,
        overlay: &mut std::collections::HashMap<Key, Option<Versioned>>,
        revision: Revision,
        op: Op,
    ) -> Event {
        let (key, previous) = match (overlay.get_key_value(op.key()), self.state.newest(op.key())) {
            (Some((key, previous)), _) => (key.clone(), previous.clone()),
            (None, Some((key, previous))) => (key.clone(), Some(previous)),
            (None, None) => (op.key().clone(), None),
        };
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
        overlay.insert(key.clone(), current.clone());
        Event {
            key,
            revision,
            current,
            previous,
        }
    }
}

enum ReadError {
    Io(io::Error),
    Damage(String),
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<&str> for ReadError {
    fn from(why: &str) -> Self {
        Self::Damage(why.to_owned())
    }
}

struct CheckpointReader<R> {
    file: R,
    /// Where what is being read begins.
    offset: u64,
}

impl<R: Read> CheckpointReader<R> {
    fn load(&mut self) -> Result<(Revision, Vec<(Key, Versioned)>), ReadError> {
        let mut header = [0; CHECKPOINT_HEADER_BYTES];
        self.file.read_exact(&mut header)?;
        let revision = decode_checkpoint_header(&header)?;
        self.offset = header.len() as u64;
        let mut entries = Vec::new();
        let mut block = Vec::new();
        loop {
            let mut header = [0; 8];
            self.file.read_exact(&mut header)?;
            let (len, crc, end) = match decode_block_header(header)? {
                BlockHeader::Block { len, crc } => (len, crc, false),
                BlockHeader::End { crc } => (8, crc, true),
            };
            block.resize(len, 0);
            self.file.read_exact(&mut block)?;
            if crc32c::crc32c(&block) != crc {
                return Err(ReadError::Damage("a block's checksum is wrong".into()));
            }
            if end {
                return match block == (entries.len() as u64).to_le_bytes() && self.file.read(&mut [0])? == 0 {
                    true => Ok((revision, entries)),
                    false => Err(ReadError::Damage(
                        "entries are missing, or something follows the end".into(),
                    )),
                };
            }
            decode_block(&block, |key, versioned| entries.push((key, versioned)))?;
            self.offset += (header.len() + len) as u64;
        }
    }
}
