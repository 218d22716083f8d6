//! A server of our own, started in an empty directory and stopped at the end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

pub(crate) struct Started {
    child: Child,
    /// From exec to the line that says it serves.
    pub(crate) ready: Duration,
    pub(crate) kubeconfig: PathBuf,
    _directory: TempDir,
}

impl Started {
    pub(crate) async fn start(binary: &Path) -> Result<Self> {
        if !binary.exists() {
            bail!(
                "{} is not there: build it first with cargo build --release",
                binary.display()
            );
        }
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let begun = Instant::now();
        let mut command = Command::new(binary);
        command
            .arg("server")
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", "127.0.0.1:0"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let line = tokio::time::timeout(Duration::from_secs(30), BufReader::new(stdout).lines().next_line())
            .await
            .context("the server did not get ready in 30 s")??;
        let ready = begun.elapsed();
        line.context("the server ended before it was ready")?;
        Ok(Self {
            child,
            ready,
            kubeconfig: data.join("kubeconfig"),
            _directory: directory,
        })
    }

    /// Resident memory now.
    pub(crate) fn rss_mib(&self) -> f64 {
        let pid = self.child.id().unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
    }

    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|p| i32::try_from(p).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = tokio::time::timeout(Duration::from_secs(15), self.child.wait()).await;
    }
}
