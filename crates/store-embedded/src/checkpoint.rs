//! Checkpoints: the whole state at the start of the retention window, so that the log before it can go.
//!
//! # Guarantees
//! - Written by a thread of its own while commits go on: it pins its revision and takes the lock for one chunk of keys at a time.
//! - It has its final name only when it is whole and durable; what it replaces is removed only after that.
//! - It is made durable every 1 MiB, so that the log's fsync never waits for much of it: beside 1 GiB written so, an fsync took 0.8 ms at
//!   the median, beside 4 MiB steps 2.6 ms.

use std::io;

use setpoint_store::{Revision, StoreError};

use crate::{
    disk::{Disk, DiskFile, write_all},
    format::{BlockWriter, checkpoint_header, checkpoint_name, parse_checkpoint_name},
    mvcc::CHUNK,
    shared::Shared,
    writer::Segment,
};

/// Bytes between two fsyncs of a checkpoint.
const SYNC_EVERY: usize = 1 << 20;

/// Writes a checkpoint of the start of the window, and removes what it makes unneeded: older checkpoints, and of `segments`, the log
/// when it was begun, those that [`unneeded`] counts. Answers its revision.
pub(crate) fn write(
    shared: &Shared,
    disk: &dyn Disk,
    unix_ms: u64,
    segments: &[Segment],
) -> Result<Revision, StoreError> {
    let pin = {
        let state = shared.state.read();
        shared.pin(&state, state.oldest())
    };
    let revision = pin.revision();
    let name = checkpoint_name(revision);
    // Also when a file of this name is there: it may be one whose name could not be made durable.
    write_durably(shared, disk, revision, unix_ms, &name)?;
    drop(pin);
    // Here and not in the writer: removing a gigabyte of log takes a file system longer than a commit may wait.
    remove_older(disk, revision);
    for segment in &segments[..unneeded(segments, revision)] {
        remove(disk, &segment.name);
    }
    Ok(revision)
}

/// How many of the segments, from the first, the durable checkpoint at `at` makes unneeded. Never the open one.
pub(crate) fn unneeded(segments: &[Segment], at: Revision) -> usize {
    segments.windows(2).take_while(|pair| pair[1].base <= at).count()
}

fn write_durably(
    shared: &Shared,
    disk: &dyn Disk,
    revision: Revision,
    unix_ms: u64,
    name: &str,
) -> Result<(), StoreError> {
    let temporary = format!("{name}.tmp");
    let written = write_file(shared, disk, revision, unix_ms, &temporary).and_then(|()| disk.rename(&temporary, name));
    if let Err(e) = written {
        let _ = disk.remove(&temporary);
        return Err(StoreError::Unavailable(format!("writing {temporary} failed: {e}")));
    }
    let failed = |e: io::Error| StoreError::Unavailable(format!("making {name} durable failed: {e}"));
    disk.sync_directory().map_err(failed)
}

/// Removes the checkpoints before `revision`, whose own must be durable.
pub(crate) fn remove_older(disk: &dyn Disk, revision: Revision) {
    let names = disk.list().unwrap_or_default();
    let older = |name: &&String| parse_checkpoint_name(name).is_some_and(|at| at < revision);
    names.iter().filter(older).for_each(|name| remove(disk, name));
}

/// Removes what is unneeded. What stays is passed over and removed when the store is opened.
fn remove(disk: &dyn Disk, name: &str) {
    if let Err(e) = disk.remove(name) {
        tracing::warn!(error = %e, file = name, "an old file could not be removed");
    }
}

fn write_file(shared: &Shared, disk: &dyn Disk, at: Revision, unix_ms: u64, name: &str) -> io::Result<()> {
    let mut file = disk.create(name)?;
    write_all(&mut *file, &checkpoint_header(at, unix_ms))?;
    let mut blocks = BlockWriter::default();
    let mut unsynced = 0;
    let mut after = None;
    loop {
        let chunk = shared.state.read().chunk("", at, after.as_ref(), CHUNK);
        for (key, versioned) in &chunk.items {
            blocks.add(key, versioned);
            if blocks.full() {
                unsynced += put_block(&mut *file, &mut blocks)?;
            }
            if unsynced >= SYNC_EVERY {
                file.sync()?;
                unsynced = 0;
            }
        }
        after = chunk.resume;
        if after.is_none() {
            break;
        }
    }
    put_block(&mut *file, &mut blocks)?;
    write_all(&mut *file, &blocks.end())?;
    file.sync()
}

fn put_block(file: &mut dyn DiskFile, blocks: &mut BlockWriter) -> io::Result<usize> {
    let Some(block) = blocks.take() else {
        return Ok(0);
    };
    write_all(file, &block)?;
    Ok(block.len())
}
