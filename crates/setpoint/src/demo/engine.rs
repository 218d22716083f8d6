//! The model server that the replicas run: built if it is not there.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// The program.
const PROGRAM: &str = "setpoint-engine-candle";

/// The directory with the engine, which is built first if need be. Always in release: unoptimized it is too slow to be of use.
pub(super) async fn ensure() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program is nowhere")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // a checkout: cargo knows best whether it is up to date
    if root.join("Cargo.toml").is_file() && root.join("engines/candle").is_dir() {
        build(&root).await?;
        let target = beside
            .parent()
            .map(|t| t.join("release"))
            .filter(|r| r.join(PROGRAM).is_file());
        return target
            .or_else(|| Some(root.join("target/release")))
            .filter(|d| d.join(PROGRAM).is_file())
            .context("the engine was built but is not where it should be");
    }
    if beside.join(PROGRAM).is_file() {
        return Ok(beside.to_owned());
    }
    bail!(
        "{PROGRAM} is not beside {}: run the demo in a checkout of Setpoint, or put it there",
        own.display()
    )
}

async fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "-p", PROGRAM])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .context("cannot run cargo to build the model server")?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} building the model server ({elapsed}): {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            bar.set_message(line.trim().to_owned());
            said.push(line);
        }
    }
    let status = child.wait().await?;
    bar.finish_and_clear();
    if !status.success() {
        bail!(
            "the model server does not build:\n{}",
            said.iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}
