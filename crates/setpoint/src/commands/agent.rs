//! `setpoint agent`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use setpoint_agent::{Agent, AgentOptions, OnExit, WorkerFile};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::{ClientArguments, stop_signal},
    logging::Logging,
};

/// Runs a worker: fetches weights, starts a model server for each replica that is bound to it, probes them, and reports.
///
/// With the server gone it keeps what runs. After a restart it adopts the processes that it had started.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,
    /// The worker's declaration: a YAML file of kind Worker (see examples/inference/workers/)
    #[arg(long)]
    worker: PathBuf,
    /// Where it keeps records and logs of its processes; the same one across restarts
    #[arg(long)]
    state_dir: PathBuf,
    /// Where weights are kept; may be shared by the agents of a machine
    #[arg(long)]
    weights_dir: PathBuf,
    /// Where engine programs are looked for first
    #[arg(long)]
    engine_dir: Option<PathBuf>,
    /// What happens to the replicas' processes when the agent ends
    #[arg(long, value_enum, default_value_t = Exit::Keep)]
    on_exit: Exit,
    #[command(flatten)]
    logging: Logging,
}

#[derive(Clone, Copy, ValueEnum)]
enum Exit {
    /// They keep serving; the next agent adopts them
    Keep,
    /// They drain and stop
    Stop,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    arguments.logging.start()?;
    let text = std::fs::read_to_string(&arguments.worker)
        .with_context(|| format!("cannot read {}", arguments.worker.display()))?;
    let worker = WorkerFile::from_yaml(&text)
        .with_context(|| format!("{} is not a worker's declaration", arguments.worker.display()))?;
    let name = worker.name().to_owned();
    let options = AgentOptions {
        weights_dir: arguments.weights_dir,
        engine_dir: arguments.engine_dir,
        on_exit: match arguments.on_exit {
            Exit::Keep => OnExit::Keep,
            Exit::Stop => OnExit::Stop,
        },
        state_dir: arguments.state_dir.clone(),
        ..AgentOptions::new(worker, arguments.state_dir)
    };
    let client = arguments.client.client().await?;
    println!("setpoint agent: worker {name}");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        stop.cancel();
    });
    Agent::run(client, options, shutdown).await?;
    Ok(())
}
