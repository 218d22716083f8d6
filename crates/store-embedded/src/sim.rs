//! A disk in memory that keeps apart what was written and what is durable, fails where it is told to, and loses power.
//!
//! # What it models
//! - Writes go to a cache; `sync` makes the file's dirty sectors and its length durable; `sync_directory` the names.
//! - A power cut keeps, of what is not durable, any subset: each sector for itself, any length between, each change of a name
//!   for itself.
//! - A failed sync may mark the lost sectors clean: a second sync then "succeeds", and the data is gone (what Linux does).
//! - A kill of the process keeps the cache; reading lost sectors again shows what the device has.
//!
//! It panics when a log file is written or synced after its sync has failed: that is what must never happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// What goes wrong, at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error, and nothing was done.
    Fail,
    /// An error, though all was done.
    FailAfter,
    /// A write that writes half, and says so.
    ShortWrite,
    /// Half is written, then the disk is full, and stays so.
    NoSpace,
    /// A sync that fails and forgets what it should have written.
    LostSync,
    /// Nothing works any more: the machine has stopped, with the step half done.
    Crash,
}

/// Every fault, for tests that try them all.
pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Fail,
    Fault::FailAfter,
    Fault::ShortWrite,
    Fault::NoSpace,
    Fault::LostSync,
    Fault::Crash,
];

/// A small random number generator (SplitMix64): each seed gives one history.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[derive(Clone, Default)]
struct Contents {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    sync_failed: bool,
}

impl Contents {
    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    fn write(&mut self, bytes: &[u8]) {
        let at = self.cached.len();
        self.cached.extend_from_slice(bytes);
        self.touch(at, self.cached.len());
    }

    fn set_len(&mut self, len: usize) {
        let before = self.cached.len();
        self.cached.resize(len, 0);
        self.touch(before.min(len), before.max(len));
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(sector, &self.cached, &mut self.durable);
        }
    }

    /// What is read when the clean part of the cache is dropped first.
    fn drop_clean(&mut self) {
        for sector in 0..self.cached.len().div_ceil(SECTOR) {
            if !self.dirty.contains(&sector) {
                copy_sector(sector, &self.durable, &mut self.cached);
            }
        }
    }

    fn cut_power(&mut self, random: &mut Random) {
        let (short, long) = (
            self.durable.len().min(self.cached.len()),
            self.durable.len().max(self.cached.len()),
        );
        let len = match random.below(3) {
            _ if self.dirty.is_empty() => self.durable.len(),
            0 => self.durable.len(),
            1 => self.cached.len(),
            _ => short + random.below(long - short + 1),
        };
        let mut after = self.durable.clone();
        after.resize(len, 0);
        for sector in &self.dirty {
            if random.coin() {
                copy_sector(*sector, &self.cached, &mut after);
            }
        }
        *self = Self {
            cached: after.clone(),
            durable: after,
            ..Self::default()
        };
    }
}

/// Copies a sector as far as `to` reaches; what `from` does not have is zero.
fn copy_sector(sector: usize, from: &[u8], to: &mut [u8]) {
    let (begin, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(to.len()));
    for (at, byte) in to.iter_mut().enumerate().take(end).skip(begin) {
        *byte = from.get(at).copied().unwrap_or_default();
    }
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, usize),
    Rename(String, String),
    Remove(String),
}

type Names = BTreeMap<String, usize>;

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Default)]
struct State {
    files: Vec<Contents>,
    names: Names,
    durable_names: Names,
    changes: Vec<Change>,
    steps: usize,
    fault: Option<(usize, Fault)>,
    full: bool,
    crashed: bool,
    /// The step at which the fault happened, in words.
    happened: Option<String>,
}

/// The disk. A clone is the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

/// What a step does, as far as faults differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Create,
    Sync,
    Other,
}

enum Verdict {
    Go,
    Half,
    Done(io::Error),
    Failed(io::Error),
    Lost(io::Error),
    HalfThen(io::Error),
}

impl State {
    fn step(&mut self, kind: Kind, what: &str) -> Verdict {
        let error = |why: &str| io::Error::other(format!("injected: {why}"));
        if self.crashed {
            return Verdict::Failed(error("the machine has stopped"));
        }
        let step = self.steps;
        self.steps += 1;
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        if self.full && matches!(kind, Kind::Write | Kind::Create) {
            return Verdict::Failed(full());
        }
        let Some((_, fault)) = self.fault.filter(|(at, _)| *at == step) else {
            return Verdict::Go;
        };
        let verdict = match (fault, kind) {
            (Fault::Fail, _) => Verdict::Failed(error("failed")),
            (Fault::FailAfter, _) => Verdict::Done(error("failed after it was done")),
            (Fault::ShortWrite, Kind::Write) => Verdict::Half,
            (Fault::NoSpace, Kind::Write | Kind::Create) => {
                self.full = true;
                Verdict::HalfThen(full())
            }
            (Fault::LostSync, Kind::Sync) => Verdict::Lost(error("sync failed, and the data is lost")),
            (Fault::Crash, _) => {
                self.crashed = true;
                Verdict::HalfThen(error("the machine stopped"))
            }
            _ => return Verdict::Go,
        };
        self.happened = Some(format!("{fault:?} at step {step} ({what})"));
        verdict
    }

    /// A step on names.
    fn change(&mut self, kind: Kind, what: &str, change: Change) -> io::Result<()> {
        let verdict = self.step(kind, what);
        let (done, result) = match verdict {
            Verdict::Go | Verdict::Half => (true, Ok(())),
            Verdict::Done(e) => (true, Err(e)),
            Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => (false, Err(e)),
        };
        if done {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        result
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SimDisk {
    /// Lets `fault` happen at the step of this number, counted from now.
    pub(crate) fn inject(&self, at: usize, fault: Fault) {
        let mut state = self.0.lock();
        state.fault = Some((state.steps + at, fault));
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> usize {
        self.0.lock().steps
    }

    /// What fault happened, if one did.
    pub(crate) fn happened(&self) -> Option<String> {
        self.0.lock().happened.clone()
    }

    /// Whether the machine has stopped.
    pub(crate) fn crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// What the next process finds after this one was killed. Faults are over.
    pub(crate) fn after_kill(&self) -> Self {
        let state = self.0.lock();
        let mut files = state.files.clone();
        files.iter_mut().for_each(|file| file.sync_failed = false);
        let (names, durable_names, changes) = (state.names.clone(), state.durable_names.clone(), state.changes.clone());
        Self(Arc::new(Mutex::new(State {
            files,
            names,
            durable_names,
            changes,
            ..State::default()
        })))
    }

    /// What the next process finds after a power cut. Faults are over.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Self {
        let state = self.0.lock();
        let mut files = state.files.clone();
        files.iter_mut().for_each(|file| file.cut_power(random));
        let mut names = state.durable_names.clone();
        state
            .changes
            .iter()
            .filter(|_| random.coin())
            .for_each(|change| change.apply(&mut names));
        Self(Arc::new(Mutex::new(State {
            files,
            durable_names: names.clone(),
            names,
            ..State::default()
        })))
    }

    /// The contents of a file, to be damaged.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let file = state.names[name];
        edit(&mut state.files[file].durable);
        let durable = state.files[file].durable.clone();
        state.files[file].cached = durable;
    }

    /// The names of the files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        match state.step(Kind::Other, "list") {
            Verdict::Go => Ok(state.names.keys().cloned().collect()),
            Verdict::Half => unreachable!("only a write is cut short"),
            Verdict::Done(e) | Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => Err(e),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let file = match state.names.get(name) {
            Some(file) => *file,
            None => {
                state.files.push(Contents::default());
                state.files.len() - 1
            }
        };
        state.change(
            Kind::Create,
            &format!("create {name}"),
            Change::Add(name.to_owned(), file),
        )?;
        state.files[file].set_len(0);
        // What was lost is written anew.
        state.files[file].sync_failed = false;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
            file,
        }))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let file = state.find(name)?;
        match state.step(Kind::Other, &format!("open {name}")) {
            Verdict::Go => {
                // Whoever opens it has read what the device has.
                state.files[file].sync_failed = false;
                Ok(Box::new(SimFile {
                    disk: self.clone(),
                    name: name.to_owned(),
                    file,
                }))
            }
            Verdict::Half => unreachable!("only a write is cut short"),
            Verdict::Done(e) | Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => Err(e),
        }
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        let mut state = self.0.lock();
        let file = state.find(name)?;
        match state.step(Kind::Other, &format!("read {name}")) {
            Verdict::Go => {
                state.files[file].drop_clean();
                Ok(Box::new(io::Cursor::new(state.files[file].cached.clone())))
            }
            Verdict::Half => unreachable!("only a write is cut short"),
            Verdict::Done(e) | Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => Err(e),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let change = Change::Rename(from.to_owned(), to.to_owned());
        self.0.lock().change(Kind::Other, &format!("rename {from}"), change)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.find(name)?;
        state.change(Kind::Other, &format!("remove {name}"), Change::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let verdict = state.step(Kind::Sync, "sync the directory");
        let (done, result) = match verdict {
            Verdict::Go | Verdict::Half => (true, Ok(())),
            Verdict::Done(e) => (true, Err(e)),
            Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => (false, Err(e)),
        };
        if done {
            state.durable_names = state.names.clone();
            state.changes.clear();
        }
        result
    }
}

struct SimFile {
    disk: SimDisk,
    name: String,
    file: usize,
}

impl SimFile {
    fn assert_usable(&self, state: &State) {
        let failed = state.files[self.file].sync_failed && !state.crashed;
        assert!(!failed, "{} is used again after its sync failed", self.name);
    }
}

impl DiskFile for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        self.assert_usable(&state);
        let verdict = state.step(Kind::Write, &format!("write {}", self.name));
        let half = bytes.len().div_ceil(2);
        let (written, result) = match verdict {
            Verdict::Go => (bytes.len(), Ok(bytes.len())),
            Verdict::Half => (half, Ok(half)),
            Verdict::Done(e) => (bytes.len(), Err(e)),
            Verdict::HalfThen(e) => (half, Err(e)),
            Verdict::Failed(e) | Verdict::Lost(e) => (0, Err(e)),
        };
        state.files[self.file].write(&bytes[..written]);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.assert_usable(&state);
        let verdict = state.step(Kind::Sync, &format!("sync {}", self.name));
        let file = &mut state.files[self.file];
        let result = match verdict {
            Verdict::Go | Verdict::Half => {
                file.sync();
                Ok(())
            }
            Verdict::Done(e) => {
                file.sync();
                Err(e)
            }
            Verdict::Lost(e) => {
                file.dirty.clear();
                Err(e)
            }
            Verdict::Failed(e) | Verdict::HalfThen(e) => Err(e),
        };
        file.sync_failed |= result.is_err();
        result
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let verdict = state.step(Kind::Other, &format!("cut {}", self.name));
        let (done, result) = match verdict {
            Verdict::Go | Verdict::Half => (true, Ok(())),
            Verdict::Done(e) => (true, Err(e)),
            Verdict::Failed(e) | Verdict::Lost(e) | Verdict::HalfThen(e) => (false, Err(e)),
        };
        if done {
            state.files[self.file].set_len(usize::try_from(len).unwrap_or(usize::MAX));
        }
        result
    }
}
