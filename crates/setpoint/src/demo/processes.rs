//! The processes that the demo starts: each in a group of its own (Ctrl-C is for the demo, which stops them in order), each marked by its
//! environment, so that what a demo that was killed has left behind is found by the next one.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Marks the processes of the demo in one data directory.
const MARK: &str = "SETPOINT_DEMO";
/// How long a process may take to say that it serves.
const START: Duration = Duration::from_secs(60);
/// How long a process may take to stop: an agent drains its replicas.
const STOP: Duration = Duration::from_secs(75);

struct Process {
    name: String,
    child: Child,
}

pub(super) struct Processes {
    data_dir: PathBuf,
    running: Vec<Process>,
}

impl Processes {
    pub(super) fn new(data_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(data_dir.join("logs"))?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            running: Vec::new(),
        })
    }

    /// Starts this program with these arguments; answers the line with which it says that it serves.
    pub(super) async fn start(&mut self, name: &str, arguments: &[&str]) -> Result<String> {
        let log = self.data_dir.join("logs").join(format!("{name}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .env(MARK, &self.data_dir)
            .env_remove("KUBECONFIG");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        self.running.push(Process {
            name: name.to_owned(),
            child,
        });
        let line = tokio::time::timeout(START, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            let tail = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = tail.lines().rev().take(5).collect();
            bail!(
                "{name} did not start:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        };
        // it must not block on a pipe that nobody reads
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(line)
    }

    /// Resolves with the name of the first process that ends.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            for process in &mut self.running {
                if !matches!(process.child.try_wait(), Ok(None)) {
                    return process.name.clone();
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Stops everything, last started first but the server last of all: the gateway drains, agents stop their replicas and say so to the
    /// server, then it goes.
    pub(super) async fn stop(mut self) {
        eprintln!("stopping");
        let server = self
            .running
            .iter()
            .position(|p| p.name == "server")
            .map(|i| self.running.remove(i));
        let gateway = self
            .running
            .iter()
            .position(|p| p.name == "gateway")
            .map(|i| self.running.remove(i));
        stop_all(gateway.into_iter().collect()).await;
        stop_all(std::mem::take(&mut self.running)).await;
        stop_all(server.into_iter().collect()).await;
    }

    /// Stops what a demo in this directory that was killed has left behind. Replicas are left to the agents, which adopt them.
    pub(super) async fn stop_leftovers(&self) -> Result<()> {
        let leftovers = marked(&self.data_dir);
        if leftovers.is_empty() {
            return Ok(());
        }
        eprintln!(
            "stopping {} processes that an earlier demo left behind",
            leftovers.len()
        );
        // SIGKILL: agents must leave their replicas, which the new agents adopt; nothing that was acknowledged is lost by it
        for pid in &leftovers {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for _ in 0..100 {
            if marked(&self.data_dir).is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("processes of an earlier demo do not go away: {leftovers:?}")
    }
}

/// Processes of this program that are marked with the data directory. Replicas inherit the mark but are another program.
fn marked(data_dir: &Path) -> Vec<Pid> {
    let mark = format!("{MARK}={}", data_dir.display());
    let own = std::env::current_exe().ok();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|b| *b == 0).any(|v| v == mark.as_bytes());
            let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
            // a program that was built anew since shows as "… (deleted)"
            let same = own.as_ref().is_some_and(|own| {
                exe == *own || exe.to_string_lossy().trim_end_matches(" (deleted)") == own.to_string_lossy()
            });
            (ours && same && pid != std::process::id().cast_signed()).then(|| Pid::from_raw(pid))
        })
        .collect()
}

async fn stop_all(mut processes: Vec<Process>) {
    for process in &processes {
        if let Some(pid) = process.child.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
    }
    for process in &mut processes {
        if tokio::time::timeout(STOP, process.child.wait()).await.is_err() {
            eprintln!("{} did not stop within {} s; killing it", process.name, STOP.as_secs());
            let _ = process.child.kill().await;
        }
    }
}
