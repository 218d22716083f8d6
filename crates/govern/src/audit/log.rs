//! [`AuditLog`]: the queue, the thread that empties it, and the files.
//!
//! The queue is one buffer of finished lines. A request appends to it; the writer swaps it for an empty one and writes all of it in
//! one call, so a busy server writes large blocks and an idle one writes at once.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex};

use super::{
    event::{Event, Facts, Level},
    policy::Policy,
};

/// Where the records go, and the bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file that is written; older ones are `PATH.1` (the newest) to `PATH.N`.
    pub path: PathBuf,
    /// A file is rotated before it grows beyond this. A single record that is larger gets a file of its own.
    pub max_file_bytes: u64,
    /// How many rotated files are kept beside the one that is written.
    pub max_old_files: usize,
    /// How much may wait to be written. Twice this is the most memory, since one buffer fills while the other is written.
    pub queue_bytes: usize,
}

impl Options {
    /// 100 MiB a file, 10 old ones (so at most 1.1 GiB on disk), 8 MiB of queue: about 8,000 records of 1 KiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_file_bytes: 100 * 1024 * 1024,
            max_old_files: 10,
            queue_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What became of the records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written to the file.
    pub written: u64,
    /// Reads whose record found the queue full.
    pub dropped: u64,
    /// Lost because the file could not be written.
    pub failed: u64,
}

/// The log. A clone is a handle to the same log; when the last one is dropped, all that waits is written.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Policy,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// The buffer has something, or it is over.
    filled: Condvar,
    /// The buffer was taken, or what was taken is written.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    /// Whether the writer is writing what it took.
    writing: bool,
    closed: bool,
    counts: Counts,
}

impl AuditLog {
    /// Opens the file, making its directory if need be, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(options: Options, policy: Policy) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            capacity: options.queue_bytes,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let mut files = Files::open(options)?;
        let taken = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || taken.write_all_to(&mut files))?;
        Ok(Self {
            inner: Arc::new(Inner {
                policy,
                queue,
                writer: Some(writer),
            }),
        })
    }

    /// Records a request if the policy says so. Waits while the queue is full if the request changes something; otherwise the record
    /// is then dropped and counted.
    pub fn record(&self, facts: &Facts<'_>) {
        let level = self.inner.policy.level(facts);
        if level == Level::None {
            return;
        }
        let event = Event::new(level, facts);
        let Ok(mut line) = serde_json::to_vec(&event) else {
            // Every part is text, number or JSON already, so this cannot happen; if it does, it must not pass unseen.
            self.inner.queue.state.lock().counts.failed += 1;
            return;
        };
        line.push(b'\n');
        self.inner.queue.append(&line, !facts.attributes.is_read_only());
    }

    /// Waits until everything recorded so far is in the file.
    pub fn flush(&self) {
        let queue = &self.inner.queue;
        let mut state = queue.state.lock();
        while !state.buffer.is_empty() || state.writing {
            queue.emptied.wait(&mut state);
        }
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        self.inner.queue.state.lock().counts
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.filled.notify_all();
        if let Some(writer) = self.writer.take() {
            // It can only have panicked; there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

impl Queue {
    fn append(&self, line: &[u8], wait: bool) {
        let mut state = self.state.lock();
        // An empty queue takes any line, or a record larger than the queue would wait for ever.
        while !state.buffer.is_empty() && state.buffer.len() + line.len() > self.capacity {
            if !wait {
                state.counts.dropped += 1;
                return;
            }
            self.emptied.wait(&mut state);
        }
        state.buffer.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.filled.notify_one();
    }

    /// The writer's life: until it is over and nothing waits.
    fn write_all_to(&self, files: &mut Files) {
        let mut batch = Vec::new();
        let mut failing = false;
        loop {
            let lines = {
                let mut state = self.state.lock();
                while state.buffer.is_empty() && !state.closed {
                    self.filled.wait(&mut state);
                }
                if state.buffer.is_empty() {
                    return;
                }
                batch.clear();
                std::mem::swap(&mut batch, &mut state.buffer);
                state.writing = true;
                std::mem::take(&mut state.lines)
            };
            self.emptied.notify_all();
            let result = files.write(&batch);
            // Once for each time that it begins to fail, not for each record.
            if let Err(error) = &result
                && !failing
            {
                tracing::error!(path = %files.options.path.display(), %error, "audit records are lost: cannot write");
            }
            failing = result.is_err();
            // A burst must not hold its memory for ever.
            if batch.capacity() > 1024 * 1024 {
                batch = Vec::new();
            }
            let mut state = self.state.lock();
            state.writing = false;
            match failing {
                true => state.counts.failed += lines,
                false => state.counts.written += lines,
            }
            drop(state);
            self.emptied.notify_all();
        }
    }
}

/// The file that is written, and those before it.
struct Files {
    options: Options,
    file: File,
    bytes: u64,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
}

impl Files {
    fn open(options: Options) -> io::Result<Self> {
        if let Some(directory) = options.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let (file, bytes) = open_for_append(&options.path)?;
        Ok(Self {
            options,
            file,
            bytes,
            torn: false,
        })
    }

    /// Writes whole lines, rotating between lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
        }
        self.torn = true;
        self.write_lines(lines)?;
        self.torn = false;
        Ok(())
    }

    fn write_lines(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let room = self.options.max_file_bytes.saturating_sub(self.bytes);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let end = |newline: usize| newline + 1;
            let fits = match lines.len() <= room {
                true => lines.len(),
                false => lines[..room].iter().rposition(|b| *b == b'\n').map_or(0, end),
            };
            let (now, later) = match (fits, self.bytes) {
                // Not even one line fits an empty file: it gets the file for itself.
                (0, 0) => lines.split_at(lines.iter().position(|b| *b == b'\n').map_or(lines.len(), end)),
                (0, _) => {
                    self.rotate()?;
                    continue;
                }
                _ => lines.split_at(fits),
            };
            self.file.write_all(now)?;
            self.bytes += now.len() as u64;
            lines = later;
        }
        Ok(())
    }

    /// `PATH.N-1` becomes `PATH.N`, and so on; `PATH` becomes `PATH.1`; what falls off the end is deleted.
    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        let name = |n: usize| match n {
            0 => path.clone(),
            n => {
                let mut name = path.clone().into_os_string();
                name.push(format!(".{n}"));
                PathBuf::from(name)
            }
        };
        if self.options.max_old_files == 0 {
            fs::remove_file(path)?;
        }
        for n in (0..self.options.max_old_files).rev() {
            match fs::rename(name(n), name(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.file, self.bytes) = open_for_append(path)?;
        Ok(())
    }
}

/// Opens the file, mode 0600, and its size. If a crash tore its last line, a line break keeps the next record whole.
fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::{Attributes, UserInfo};

    fn record(log: &AuditLog, id: &str, verb: &str, code: u16) {
        let jane = UserInfo::new("jane", [""; 0]);
        let attributes = Attributes::resource(&jane, verb, "", "configmaps").in_namespace("n");
        log.record(&Facts::new(id, attributes, Timestamp::UNIX_EPOCH, code));
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).expect("read");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
        lines
            .map(|event| event["auditID"].as_str().expect("id").to_owned())
            .collect()
    }

    #[test]
    fn what_the_policy_selects_is_written_once_and_in_order() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("logs/audit.log");
        let log = AuditLog::open(Options::new(&path), Policy::default()).expect("open");
        record(&log, "1", "create", 201);
        record(&log, "2", "get", 200);
        record(&log, "3", "get", 403);
        log.flush();
        assert_eq!(ids(&path), ["1", "3"]);
        assert_eq!(
            log.counts(),
            Counts {
                written: 2,
                ..Counts::default()
            }
        );
        assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        record(&log, "4", "delete", 200);
        drop(log);
        assert_eq!(ids(&path), ["1", "3", "4"], "dropping writes what waits");
        // A crash tore the last line: the log goes on behind it.
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("open")
            .write_all(b"{\"torn")
            .expect("write");
        let log = AuditLog::open(Options::new(&path), Policy::default()).expect("open");
        record(&log, "5", "create", 201);
        drop(log);
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains("\n{\"torn\n{\"kind\""), "{text}");
    }

    #[test]
    fn files_rotate_by_size_and_old_ones_go() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("audit.log");
        let options = Options {
            max_file_bytes: 2000,
            max_old_files: 2,
            ..Options::new(&path)
        };
        let log = AuditLog::open(options, Policy::default()).expect("open");
        for n in 0..40 {
            record(&log, &format!("{n:03}"), "create", 201);
            if n % 7 == 0 {
                log.flush();
            }
        }
        drop(log);
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
        let mut kept = Vec::new();
        for name in names.iter().rev() {
            let path = directory.path().join(name);
            assert!(fs::metadata(&path).expect("file").len() <= 2000);
            kept.extend(ids(&path));
        }
        let newest: Vec<_> = (40 - kept.len()..40).map(|n| format!("{n:03}")).collect();
        assert_eq!(kept, newest, "the newest, whole and in order");
        assert!(kept.len() > 6);
    }

    /// A queue whose writer is held back, so that it fills.
    #[test]
    fn a_full_queue_makes_writes_wait_and_drops_reads() {
        let queue = Arc::new(Queue {
            capacity: 10,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        queue.append(b"1234567\n", true);
        queue.append(b"read\n", false);
        assert_eq!(queue.state.lock().counts.dropped, 1);
        let waiting = Arc::clone(&queue);
        let (sender, done) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || {
            waiting.append(b"write\n", true);
            sender.send(()).expect("receiver");
        });
        assert!(
            done.recv_timeout(std::time::Duration::from_millis(20)).is_err(),
            "it waits"
        );
        let directory = tempfile::tempdir().expect("directory");
        let mut files = Files::open(Options::new(directory.path().join("a"))).expect("open");
        queue.state.lock().closed = true;
        let emptying = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                // twice: the second time for what came after the first batch
                queue.write_all_to(&mut files);
                files
            }
        });
        done.recv().expect("room");
        writer.join().expect("writer");
        let mut files = emptying.join().expect("emptied");
        queue.write_all_to(&mut files);
        let text = fs::read_to_string(directory.path().join("a")).expect("read");
        assert_eq!(text, "1234567\nwrite\n");
        assert_eq!(
            queue.state.lock().counts,
            Counts {
                written: 2,
                dropped: 1,
                failed: 0
            }
        );
    }

    #[test]
    fn a_record_larger_than_every_bound_is_still_written() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("audit.log");
        let options = Options {
            max_file_bytes: 10,
            max_old_files: 3,
            queue_bytes: 10,
            ..Options::new(&path)
        };
        let log = AuditLog::open(options, Policy::default()).expect("open");
        for n in ["1", "2", "3"] {
            record(&log, n, "create", 201);
        }
        drop(log);
        assert_eq!(ids(&path), ["3"]);
        assert_eq!(ids(&directory.path().join("audit.log.1")), ["2"]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_counted_and_stops_nothing() {
        let path = PathBuf::from("/dev/full");
        let Ok(log) = AuditLog::open(Options::new(&path), Policy::default()) else {
            return; // no such device on this system
        };
        record(&log, "1", "create", 201);
        log.flush();
        assert_eq!(
            log.counts(),
            Counts {
                failed: 1,
                ..Counts::default()
            }
        );
    }
}
