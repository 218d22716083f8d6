//! The state directory: what the agent must remember of its processes across its own death.
//!
//! ```text
//! STATE/lock                    held for as long as the agent lives
//! STATE/identity                a random word, made once: who holds the worker's Lease
//! STATE/replicas/UID.json       one record for each replica that has, or may have, a process
//! STATE/logs/NAMESPACE_NAME_UID.log(.1)
//! ```
//!
//! # Guarantees
//! - A record is written *before* its process is spawned (without the process) and again after (with it), each time as a whole, so that
//!   there is no instant at which a process can exist that neither a record nor its marks lead to.
//! - The lock is only free when no process of this agent is between fork and exec: a forked child holds the lock's descriptor until its
//!   exec closes it. Whoever gets the lock therefore sees every process's final environment.
//!
//! # Assumptions
//! Records need no fsync: what a power cut takes from the disk, it takes from the process table too. A record that cannot be read is set
//! aside; the processes that it was about are then found by their marks and stopped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use setpoint_inference::kinds::{Replica, Time};

/// How long a start waits for a predecessor's lock. A killed predecessor's forked child needs microseconds; a predecessor that
/// is being shut down beside us, a little more.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent has it.
    #[error("another agent runs on {0}; stop it, or give this one a state directory of its own")]
    Locked(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError + '_ {
    move |source| StateError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What is remembered of one replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The replica as it was last seen: what to run when no API server says otherwise.
    pub replica: Replica,
    /// The port that its process listens on, or is about to.
    #[serde(default)]
    pub port: Option<u16>,
    /// The process; absent before the spawn, and in the instant after it.
    #[serde(default)]
    pub process: Option<ProcessId>,
    /// When the process was started.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// When it last became ready; absent when it is not.
    #[serde(default)]
    pub ready_at: Option<Time>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
}

impl Record {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            replica,
            port: None,
            process: None,
            started_at: None,
            ready_at: None,
            restarts: 0,
        }
    }

    pub(crate) fn uid(&self) -> &str {
        self.replica.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// A process, told apart from every other that ever had its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessId {
    /// The process id, which is also the id of its group.
    pub pid: u32,
    /// Its start, in clock ticks since the boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

/// The open state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    identity: String,
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it if need be, and takes its lock.
    pub(crate) async fn open(root: &Path) -> Result<Self, StateError> {
        for dir in [root.to_owned(), root.join("replicas"), root.join("logs")] {
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        let root = fs::canonicalize(root).map_err(at(root))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StateError::Locked(root)),
                Err(TryLockError::Error(source)) => return Err(at(&path)(source)),
            }
        }
        let identity = identity(&root)?;
        Ok(Self {
            root,
            identity,
            _lock: lock,
        })
    }

    /// The directory's absolute path: the mark that processes of this agent carry.
    pub(crate) fn mark(&self) -> &Path {
        &self.root
    }

    /// The random word that tells this agent from another one for the same worker.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Where a replica's output goes.
    pub(crate) fn log_path(&self, replica: &Replica) -> PathBuf {
        let meta = &replica.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default().replace('/', "_");
        let name = format!("{}_{}_{}.log", part(&meta.namespace), part(&meta.name), part(&meta.uid));
        self.root.join("logs").join(name)
    }

    /// Where logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    fn record_path(&self, uid: &str) -> PathBuf {
        self.root
            .join("replicas")
            .join(format!("{}.json", uid.replace('/', "_")))
    }

    /// Every record. One that cannot be read is renamed to `*.unreadable` and left out.
    pub(crate) fn records(&self) -> Result<Vec<Record>, StateError> {
        let dir = self.root.join("replicas");
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = entry.map_err(at(&dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record = fs::read(&path)
                .and_then(|text| serde_json::from_slice::<Record>(&text).map_err(io::Error::from))
                .ok()
                .filter(|record| self.record_path(record.uid()) == path);
            match record {
                Some(record) => records.push(record),
                None => {
                    tracing::warn!(path = %path.display(), "a record cannot be read and is set aside; its processes will be stopped");
                    let _ = fs::rename(&path, path.with_extension("unreadable"));
                }
            }
        }
        Ok(records)
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), StateError> {
        let path = self.record_path(record.uid());
        let next = path.with_extension("next");
        let text = serde_json::to_vec(record).map_err(io::Error::from).map_err(at(&path))?;
        fs::write(&next, text).map_err(at(&next))?;
        fs::rename(&next, &path).map_err(at(&path))
    }

    /// Removes a replica's record, if there is one.
    pub(crate) fn remove(&self, uid: &str) -> Result<(), StateError> {
        let path = self.record_path(uid);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(&path)(source)),
            _ => Ok(()),
        }
    }
}

/// The directory's random word, made at the first call.
fn identity(root: &Path) -> Result<String, StateError> {
    let path = root.join("identity");
    if let Ok(text) = fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let word = fs::read_to_string(source).map_err(at(source))?;
    fs::write(&path, &word).map_err(at(&path))?;
    Ok(word.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(uid: &str) -> Record {
        let mut replica = Replica::default();
        replica.metadata.uid = Some(uid.to_owned());
        Record::new(replica)
    }

    #[tokio::test]
    async fn records_survive_and_unreadable_ones_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).await.unwrap();
        let identity = state.identity().to_owned();
        let mut one = record("one");
        state.write(&one).unwrap();
        one.port = Some(20_001);
        state.write(&one).unwrap();
        state.write(&record("two")).unwrap();
        state.remove("two").unwrap();
        state.remove("two").unwrap();
        fs::write(dir.path().join("replicas/three.json"), "{").unwrap();
        drop(state);

        let state = StateDir::open(dir.path()).await.unwrap();
        assert_eq!(state.records().unwrap(), [one]);
        assert_eq!(state.identity(), identity);
        assert!(dir.path().join("replicas/three.unreadable").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn one_agent_only() {
        let dir = tempfile::tempdir().unwrap();
        let _state = StateDir::open(dir.path()).await.unwrap();
        let path = dir.path().join("lock");
        let second = OpenOptions::new().write(true).open(path).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
    }
}
