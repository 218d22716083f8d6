//! Bounded logs of processes that write for themselves.
//!
//! Engines write straight to a file opened for appending, so that neither the agent's death nor its slowness reaches them. The bound is kept from
//! outside: when the file has grown past it, what it holds is copied to `FILE.1` and the file is cut to nothing, in place; the
//! writers' next bytes land at its new end.
//!
//! # Caveats
//! What is written between the copy and the cut is lost (microseconds, once per bound). While no agent runs, nothing is cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How many logs of ended replicas are kept.
const KEPT_LOGS: usize = 64;

/// Keeps `path` within `bytes`, more or less: it may have grown further since the last call.
pub(crate) fn bound(path: &Path, bytes: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > bytes => {}
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    let mut from = File::open(path)?;
    let length = from.metadata()?.len();
    from.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut to = File::create(previous(path))?;
    io::copy(&mut from, &mut to)?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// The last words in a log, at most `bytes` of them, as one printable line. Looks no further back than `since`, an offset.
pub(crate) fn last_words(path: &Path, since: u64, bytes: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        // a file that is shorter than it was has been cut since
        let since = if since > length { 0 } else { since };
        file.seek(SeekFrom::Start(since.max(length.saturating_sub(bytes))))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let printable = text
        .trim()
        .chars()
        .map(|c| if c == '\n' { '⏎' } else { c })
        .filter(|c| !c.is_control());
    printable.collect()
}

/// The size of a log now: what [`last_words`] takes as `since`.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Removes the oldest logs beyond [`KEPT_LOGS`], except those that `in_use` names.
pub(crate) fn prune(dir: &Path, in_use: impl Fn(&Path) -> bool) -> io::Result<()> {
    let mut logs: Vec<_> = fs::read_dir(dir)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let path = entry.path();
            let ended = path.extension()? == "log" && !in_use(&path);
            ended.then_some((entry.metadata().ok()?.modified().ok()?, path))
        })
        .collect();
    logs.sort();
    let surplus = logs.len().saturating_sub(KEPT_LOGS);
    for (_, path) in &logs[..surplus] {
        // the older half may never have been made
        let _ = fs::remove_file(previous(path));
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_cut_in_place_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(!bound(&path, 10).unwrap());
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(b"0123456789").unwrap();
        assert!(!bound(&path, 10).unwrap());
        writer.write_all(b"abc").unwrap();
        assert!(bound(&path, 10).unwrap());
        writer.write_all(b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_to_string(previous(&path)).unwrap(), "3456789abc");
    }

    #[test]
    fn last_words_are_one_line_of_this_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "old run\nloading\n\x1b[31merror: no\n").unwrap();
        assert_eq!(last_words(&path, 8, 100), "loading⏎[31merror: no");
        assert_eq!(last_words(&path, 0, 4), "no");
        assert_eq!(last_words(&path, 1000, 4), "no");
        assert_eq!(last_words(&dir.path().join("none"), 0, 4), "");
    }

    #[test]
    fn old_logs_go_and_those_in_use_stay() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..KEPT_LOGS + 3 {
            fs::write(dir.path().join(format!("{n}.log")), "").unwrap();
        }
        let in_use = dir.path().join("0.log");
        prune(dir.path(), |path| path == in_use).unwrap();
        assert!(in_use.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEPT_LOGS + 1);
    }
}
