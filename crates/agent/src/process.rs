//! The process driver: starts, adopts, signals and watches the processes of one replica.
//!
//! # Guarantees
//! - A process leads a group of its own: a terminal's Ctrl-C and the agent's death do not reach it. Its output goes to a file, because
//!   a pipe would kill it (SIGPIPE) or stall it when its reader dies.
//! - Everything that carries the replica's marks, or is in its group, counts as the replica's. "Gone" means all of it.
//!
//! # How to get it wrong
//! - Dropping a handle must not kill: that is what an agent's crash looks like from here.
//! - A group's number stays taken while the group has a member, and not a moment longer. So a group is only signalled while its leader, or
//!   a member with the replica's marks, is seen alive.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use crate::procfs;
use crate::state::ProcessId;

/// How often an adopted process is looked at: it is nobody's child here, so nobody is told of its end. One look is one small read in `/proc`
/// (about 10 µs): a hundred replicas take 1 % of a core. (A process descriptor would tell at once, but tokio takes one only in unsafe code.)
const POLL: Duration = Duration::from_millis(100);

/// A program with its arguments and variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
}

/// The marks by which a process is found again.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    pub state: PathBuf,
    pub worker: String,
    pub uid: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was no child of this agent, so nobody told.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Unknown => f.write_str("ended while no agent watched"),
        }
    }
}

/// A running (or just ended) process of a replica. Dropping it leaves the process alone.
#[derive(Debug)]
pub(crate) struct Process {
    id: ProcessId,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Starts a program in a group of its own, with the marks and the output file.
    pub(crate) fn spawn(command: &CommandLine, marks: &Marks, log: &Path) -> io::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut start = tokio::process::Command::new(&command.program);
        for (variable, _) in std::env::vars_os() {
            // the agent's own orders and credentials are not the model server's business
            let name = variable.to_string_lossy();
            if name.starts_with("SETPOINT_") || name == "KUBECONFIG" {
                start.env_remove(&variable);
            }
        }
        start
            .args(&command.args)
            .envs(&command.env)
            .env(procfs::REPLICA_VARIABLE, &marks.uid)
            .env(procfs::STATE_VARIABLE, &marks.state)
            .env(procfs::WORKER_VARIABLE, &marks.worker)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(false);
        let mut child = start.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the process has no id"))?;
        // not reaped yet, so it is there, as a zombie if need be
        let start_ticks = procfs::stat(pid).map_or(0, |stat| stat.start_ticks);
        let (ended, exit) = watch::channel(None);
        tokio::spawn(async move {
            use std::os::unix::process::ExitStatusExt as _;
            let exit = match child.wait().await {
                Ok(status) => match (status.code(), status.signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Unknown,
                },
                Err(_) => Exit::Unknown,
            };
            ended.send_replace(Some(exit));
        });
        let id = ProcessId {
            pid,
            start_ticks,
            boot: procfs::boot_id(),
        };
        Ok(Self { id, exit })
    }

    /// Takes over a process that an earlier agent started, if it still lives.
    pub(crate) fn adopt(id: &ProcessId) -> Option<Self> {
        if id.boot != procfs::boot_id() {
            return None;
        }
        procfs::live(id.pid, id.start_ticks)?;
        let (ended, exit) = watch::channel(None);
        let (pid, start_ticks) = (id.pid, id.start_ticks);
        tokio::spawn(async move {
            while procfs::live(pid, start_ticks).is_some() {
                tokio::time::sleep(POLL).await;
            }
            ended.send_replace(Some(Exit::Unknown));
        });
        Some(Self { id: id.clone(), exit })
    }

    /// Which process it is.
    pub(crate) fn id(&self) -> &ProcessId {
        &self.id
    }

    /// How it ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// A receiver that changes when the process ends.
    pub(crate) fn watch_exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }
}

/// The live processes of a replica: those of its group and those with its marks, each once.
pub(crate) fn members(marks: &Marks, leader: Option<&ProcessId>) -> Vec<procfs::Stat> {
    let mut found: Vec<procfs::Stat> = procfs::marked(&marks.state)
        .into_iter()
        .filter(|marked| marked.uid == marks.uid)
        .map(|marked| marked.stat)
        .collect();
    if let Some(leader) = leader.filter(|leader| leader.boot == procfs::boot_id()) {
        let ours =
            procfs::live(leader.pid, leader.start_ticks).is_some() || found.iter().any(|stat| stat.group == leader.pid);
        if ours {
            for stat in procfs::group(leader.pid) {
                if !found.iter().any(|known| known.pid == stat.pid) {
                    found.push(stat);
                }
            }
        }
    }
    found
}

/// Sends a signal to all of a replica's processes; says how many there were.
///
/// The group is signalled as one, so that a child that is being forked at this moment gets the signal too; members of other groups (they
/// called `setsid`) are signalled one by one.
pub(crate) fn signal(marks: &Marks, leader: Option<&ProcessId>, signal: Signal) -> usize {
    let members = members(marks, leader);
    signal_all(&members, leader.map(|leader| leader.pid), signal);
    members.len()
}

/// Sends a signal to these processes, and to the whole of `group` if one of them is in it.
pub(crate) fn signal_all(members: &[procfs::Stat], group: Option<u32>, signal: Signal) {
    let raw = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
    // ESRCH: it ended in between, which is what was wanted
    if let Some(group) = group.filter(|group| members.iter().any(|stat| stat.group == *group)) {
        let _ = raw(group).map(|group| rustix::process::kill_process_group(group, signal));
    }
    for stat in members {
        if group != Some(stat.group) && procfs::live(stat.pid, stat.start_ticks).is_some() {
            let _ = raw(stat.pid).map(|pid| rustix::process::kill_process(pid, signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandLine {
        CommandLine {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::new(),
        }
    }

    fn marks(dir: &Path, uid: &str) -> Marks {
        Marks {
            state: dir.to_owned(),
            worker: "w".into(),
            uid: uid.into(),
        }
    }

    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }

    #[tokio::test]
    async fn an_exit_is_told_with_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let marks = marks(dir.path(), "u");
        let process = Process::spawn(&shell("echo out; echo err >&2; exit 3"), &marks, &log).unwrap();
        let mut exit = process.watch_exit();
        exit.wait_for(Option::is_some).await.unwrap();
        assert_eq!(process.exit(), Some(Exit::Code(3)));
        assert_eq!(std::fs::read_to_string(log).unwrap(), "out\nerr\n");
        let missing = CommandLine {
            program: "/no/such/program".into(),
            ..CommandLine::default()
        };
        let error = Process::spawn(&missing, &marks, &dir.path().join("log")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_and_what_left_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks(dir.path(), "u");
        // a grandchild in the group, and one that left it
        let script = "sleep 600 & setsid sleep 600 & echo ready; wait";
        let process = Process::spawn(&shell(script), &marks, &dir.path().join("log")).unwrap();
        until("three processes", || members(&marks, Some(process.id())).len() == 3).await;
        // the leader dies alone: the others are still the replica's
        let leader = [procfs::stat(process.id().pid).unwrap()];
        signal_all(&leader, None, Signal::KILL);
        process.watch_exit().wait_for(Option::is_some).await.unwrap();
        assert_eq!(process.exit(), Some(Exit::Signal(9)));
        assert_eq!(members(&marks, Some(process.id())).len(), 2);
        assert_eq!(signal(&marks, Some(process.id()), Signal::KILL), 2);
        until("nothing left", || members(&marks, Some(process.id())).is_empty()).await;
    }

    #[tokio::test]
    async fn an_adopted_process_is_watched_and_a_strangers_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let marks = marks(dir.path(), "u");
        let process = Process::spawn(&shell("exec sleep 600"), &marks, &dir.path().join("log")).unwrap();
        let id = process.id().clone();
        drop(process);
        let adopted = Process::adopt(&id).expect("it lives");
        let other = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id.clone()
        };
        assert!(Process::adopt(&other).is_none(), "same number, other process");
        let other = ProcessId {
            boot: "other".into(),
            ..id.clone()
        };
        assert!(Process::adopt(&other).is_none(), "same number, other boot");
        let stranger = Marks {
            uid: "another".into(),
            ..marks.clone()
        };
        assert_eq!(signal(&stranger, Some(&other), Signal::KILL), 0);
        assert_eq!(adopted.exit(), None);
        assert_eq!(signal(&marks, Some(&id), Signal::KILL), 1);
        adopted.watch_exit().wait_for(Option::is_some).await.unwrap();
        assert_eq!(adopted.exit(), Some(Exit::Unknown));
    }
}
