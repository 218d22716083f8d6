//! Tasks of the repository: `cargo xtask --help`.
//!
//! One entry for everything that a person or CI runs, so that what CI does can be repeated by hand, word for word.

mod needs;
mod protobuf;
mod schemas;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Setpoint repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test, installing what they need (Debian packages when root; else says what is skipped and why)
    Test {
        /// Only the tests of this crate (the name without `setpoint-`)
        #[arg(short = 'p', long = "package")]
        package: Option<String>,
        /// Leave out the run of the demo on the real model
        #[arg(long)]
        no_demo: bool,
    },
    /// What CI runs: formatting, lints, tidy, then `test`
    Ci,
    /// Check the rules of the house: crate edges, file lengths, registries
    Tidy,
    /// Write the golden files anew; read the difference before you commit it
    Golden,
    /// Generate the OpenAPI definitions of Kubernetes' kinds anew (downloads a package by pip)
    Schemas,
    /// Generate the table of Kubernetes' protobuf fields anew
    Protobuf,
    /// Measure the server on this machine: start-up, memory, create, get, list, watch
    Bench {
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    let root = root();
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))?;
    match Arguments::parse().task {
        Task::Test { package, no_demo } => test(package.as_deref(), no_demo),
        Task::Ci => ci(),
        Task::Tidy => tidy::run(),
        Task::Golden => golden(),
        Task::Schemas => schemas::run(),
        Task::Protobuf => protobuf::run(),
        Task::Bench { arguments } => bench(&arguments),
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

fn ci() -> Result<()> {
    run("formatting", cargo(&["fmt", "--all", "--check"]))?;
    run("tidy", cargo(&["xtask", "tidy"]))?;
    run(
        "lints",
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    )?;
    test(None, false)
}

fn test(package: Option<&str>, no_demo: bool) -> Result<()> {
    needs::install();
    if let Some(package) = package {
        return run("tests", cargo(&["test", "-p", &format!("setpoint-{package}")]));
    }
    // the end-to-end tests start these as processes
    run(
        "binaries",
        cargo(&["build", "-p", "setpoint", "-p", "setpoint-testkit"]),
    )?;
    run("tests", cargo(&["test", "--workspace", "--no-fail-fast"]))?;
    if no_demo || !needs::demo() {
        return Ok(());
    }
    run("the demo", cargo(&["run", "--release", "--", "demo", "--exit"]))
}

fn golden() -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command
        .env("UPDATE_EXPECT", "1")
        .env("UPDATE_GOLDEN", "1")
        .env("INSTA_UPDATE", "always");
    run("golden files", command)
}

fn bench(arguments: &[String]) -> Result<()> {
    run("the server", cargo(&["build", "--release", "-p", "setpoint"]))?;
    let mut command = cargo(&["run", "--release", "-p", "setpoint-bench", "--"]);
    command.args(arguments);
    run("benchmark", command)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Runs a step, says what it is and how long it took.
fn run(name: &str, mut command: Command) -> Result<()> {
    eprintln!("── {name}: {}", show(&command));
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("{name}: cannot run {}", show(&command)))?;
    if !status.success() {
        bail!("{name} failed ({status}); to repeat it: {}", show(&command));
    }
    eprintln!("── {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy());
    let text = words.collect::<Vec<_>>().join(" ");
    match text.split_once('/') {
        // the full path of cargo says nothing
        Some(_) if text.starts_with('/') => format!("cargo {}", text.split_once(' ').map_or("", |(_, rest)| rest)),
        _ => text,
    }
}
