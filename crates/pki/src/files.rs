//! Small secret files, written whole or not at all, readable by their owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use crate::PkiError;

/// No file here comes near this; a larger one is not ours (a chain of 10 RSA-4096 certificates is about 20 KiB).
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Creates the directory, mode 0700, unless it is there.
pub(crate) fn create_directory(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| io_error("create", path, source))
}

/// The file's text, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", path, source)),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            return Err(PkiError::damaged(path, "far too large for a key or certificate"));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path)
        .map(Some)
        .map_err(|source| io_error("read", path, source))
}

/// Replaces the file with `text`, mode 0600: written beside it, synced, then renamed over it. The rename itself is durable after
/// [`sync_directory`].
pub(crate) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    // One writer a directory (see the crate's assumptions), so a fixed name suffices, and a crash leaves at most one such file.
    let temporary = path.with_extension("tmp");
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // create_new: the mode applies only to a file that this call makes, and a planted link is not followed.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| io_error("write", path, source))
}

/// Makes renames in the directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), PkiError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| io_error("sync", path, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
