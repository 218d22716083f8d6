//! File I/O behind a trait, so that tests put faults under it. [`Directory`] is the real one.
//!
//! # Guarantees
//! The trait has just the steps whose order matters for durability, one for each system call. Nothing above it touches a file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::OpenError;

/// One directory of files.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; one of the same name loses its contents.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, to write at its end.
    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, to read what the device has, not what a failed write left in a cache.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read>>;
    /// Gives the file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A file open for writing at its end.
pub(crate) trait DiskFile: Send {
    /// Writes some of the bytes; says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes what was written durable. After an error nothing is known, and it must not be tried again.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

/// Writes all the bytes.
pub(crate) fn write_all(file: &mut dyn DiskFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

const LOCK_NAME: &str = "LOCK";

/// A real directory, locked for this process while it is held.
pub(crate) struct Directory {
    path: PathBuf,
    /// The lock goes with the file description: the kernel drops it when the process dies, however it dies.
    lock: File,
}

impl Directory {
    /// Opens the directory, making it (readable by its owner only: it holds Secrets) if it does not exist, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |what: &'static str| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, what, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("create the directory"))?;
        if let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
            // So that a crash does not lose the directory itself. A parent that we may not open is not ours to make durable.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_NAME))
            .map_err(failed("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = lock
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock the directory")(source)),
        }
        // Who holds it is for people; the lock itself does not depend on it.
        let pid = std::process::id().to_string();
        lock.set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| lock.write_all(pid.as_bytes()))
            .map_err(failed("write the lock file"))?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is between fork and exec still has it, and with it the lock.
        if let Err(e) = self.lock.unlock() {
            tracing::warn!(error = %e, "the directory could not be unlocked; it is free when this process ends");
        }
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .filter(|name| !matches!(name, Ok(name) if name == LOCK_NAME))
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(self.path.join(name))?))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        let file = File::open(self.path.join(name))?;
        // After a failed fsync the kernel marks the lost pages clean, and would show them to us until it forgets them. A file
        // system that ignores the advice leaves us where every other program is.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}
