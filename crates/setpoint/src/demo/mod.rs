//! `setpoint demo`: the main job, end to end, on real processes.
//!
//! It starts what an operator would start, as processes of their own: a server, three agents, a gateway; applies `examples/inference/`;
//! shows what is desired, what is observed and what comes next; asks the model something through the gateway; and, when it is told to,
//! stops all of it in order. Nothing in it is a shortcut: everything goes through the API with the kubeconfigs that it writes.

mod chat;
mod engine;
mod manifests;
mod processes;
mod progress;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kube::{Api, Client};
use setpoint_inference::kinds::ModelDeployment;

use crate::clients::{client, stop_signal};
use processes::Processes;

/// The ports that the demo would like; free ones if they are taken.
const API_PORT: u16 = 7443;
const GATEWAY_PORT: u16 = 7480;

/// Runs the whole thing on this machine until Ctrl-C.
///
/// Starts a server on the embedded store, three workers in two regions and a gateway; applies examples/inference/ (5 replicas of a small
/// model in us-west-2, autoscaling between 2 and 20); sends one chat request; and runs until Ctrl-C, which stops everything.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the demo keeps its state; it goes on where it stopped
    #[arg(long, default_value = ".setpoint-demo")]
    data_dir: PathBuf,
    /// Stop after the first answer, with exit code 0
    #[arg(long)]
    exit: bool,
    /// The question
    #[arg(long, default_value = "What is a control plane? Answer in one sentence.")]
    ask: String,
    /// Seconds that the start-up may take (the model, 93 MB, is fetched the first time)
    #[arg(long, default_value_t = 900)]
    timeout: u64,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let stop = tokio::spawn(stop_signal());
    let mut processes = None;
    let outcome = tokio::select! {
        outcome = start_and_ask(&arguments, &mut processes) => outcome.map(|()| false),
        _ = stop => Ok(true),
    };
    let interrupted = match &outcome {
        Ok(interrupted) => *interrupted,
        Err(_) => false,
    };
    if outcome.is_ok() && !interrupted && !arguments.exit {
        eprintln!("\nCtrl-C stops everything.");
        if let Some(processes) = &mut processes {
            tokio::select! {
                () = stop_signal() => {}
                name = processes.ended() => eprintln!("\n{name} ended by itself; its log is in {}", arguments.data_dir.join("logs").display()),
            }
        }
    }
    if let Some(processes) = processes {
        processes.stop().await;
    }
    match outcome {
        Err(error) => Err(error.context(format!(
            "the demo failed; its logs are in {}",
            arguments.data_dir.join("logs").display()
        ))),
        Ok(true) if arguments.exit => bail!("interrupted"),
        Ok(_) => Ok(()),
    }
}

async fn start_and_ask(arguments: &Arguments, slot: &mut Option<Processes>) -> Result<()> {
    let examples = manifests::directory()?;
    let engine_dir = engine::ensure().await?;
    std::fs::create_dir_all(&arguments.data_dir)
        .with_context(|| format!("cannot make {}", arguments.data_dir.display()))?;
    let data_dir = arguments.data_dir.canonicalize()?;
    let processes = slot.insert(Processes::new(&data_dir)?);
    processes.stop_leftovers().await?;
    let server_dir = data_dir.join("server");
    let listen = SocketAddr::from(([127, 0, 0, 1], free(API_PORT)));
    let line = processes
        .start(
            "server",
            &[
                "server",
                "--data-dir",
                text(&server_dir)?,
                "--listen",
                &listen.to_string(),
            ],
        )
        .await?;
    let kubeconfig = server_dir.join("kubeconfig");
    let admin = client(&kubeconfig).await?;
    start_workers(processes, &data_dir, &examples, &engine_dir, &server_dir).await?;
    let gateway_config = credentials(&server_dir, "system:gateway:gateway-0", "system:gateways").await?;
    let gateway = SocketAddr::from(([127, 0, 0, 1], free(GATEWAY_PORT)));
    processes
        .start(
            "gateway",
            &[
                "gateway",
                "--kubeconfig",
                text(&gateway_config)?,
                "--listen",
                &gateway.to_string(),
            ],
        )
        .await?;
    manifests::apply(&admin, &examples).await?;
    let ready = progress::until_ready(&admin, manifests::NAMESPACE, manifests::DEPLOYMENT);
    tokio::select! {
        outcome = tokio::time::timeout(Duration::from_secs(arguments.timeout), ready) => {
            outcome.map_err(|_| anyhow::anyhow!("the deployment did not become ready within {} s", arguments.timeout))??;
        }
        name = processes.ended() => bail!("{name} ended by itself"),
    }
    say(&line, &gateway, &kubeconfig, &admin).await?;
    chat::ask(&gateway, manifests::MODEL, &arguments.ask).await
}

async fn start_workers(
    processes: &mut Processes,
    data_dir: &Path,
    examples: &Path,
    engine_dir: &Path,
    server_dir: &Path,
) -> Result<()> {
    for file in manifests::workers(examples)? {
        let name = file
            .file_stem()
            .and_then(|s| s.to_str())
            .context("a worker file without a name")?
            .to_owned();
        let kubeconfig = credentials(server_dir, &format!("system:worker:{name}"), "system:workers").await?;
        let state = data_dir.join("workers").join(&name);
        let weights = data_dir.join("weights");
        let arguments = [
            "agent",
            "--kubeconfig",
            text(&kubeconfig)?,
            "--worker",
            text(&file)?,
            "--state-dir",
            text(&state)?,
            "--weights-dir",
            text(&weights)?,
            "--engine-dir",
            text(engine_dir)?,
            "--on-exit",
            "stop",
        ];
        processes.start(&name, &arguments).await?;
    }
    Ok(())
}

async fn say(line: &str, gateway: &SocketAddr, kubeconfig: &Path, admin: &Client) -> Result<()> {
    let deployments: Api<ModelDeployment> = Api::namespaced(admin.clone(), manifests::NAMESPACE);
    let deployment = deployments.get(manifests::DEPLOYMENT).await?;
    let status = deployment.status.unwrap_or_default();
    eprintln!("\n{line}");
    eprintln!(
        "  API          {}",
        line.split_whitespace()
            .find(|w| w.starts_with("https://"))
            .unwrap_or_default()
    );
    eprintln!("  gateway      http://{gateway}/v1/chat/completions");
    eprintln!("  kubeconfig   {}", kubeconfig.display());
    eprintln!(
        "  replicas     {} ready of {} desired",
        status.ready_replicas, status.desired_replicas
    );
    eprintln!(
        "\n  kubectl --kubeconfig {} get modeldeployments,replicas,workers -A",
        kubeconfig.display()
    );
    eprintln!(
        "  setpoint why modeldeployment/{} -n {} --kubeconfig {}\n",
        manifests::DEPLOYMENT,
        manifests::NAMESPACE,
        kubeconfig.display()
    );
    Ok(())
}

/// A kubeconfig for a user of the server, written beside its data.
async fn credentials(server_dir: &Path, user: &str, group: &str) -> Result<PathBuf> {
    let path = server_dir.join(format!("{}.kubeconfig", user.rsplit(':').next().unwrap_or(user)));
    let program = std::env::current_exe()?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(["kubeconfig", "create", user, "--group", group, "--data-dir"])
        .arg(server_dir)
        .arg("--output")
        .arg(&path);
    let output = command
        .output()
        .await
        .context("cannot run setpoint kubeconfig create")?;
    if !output.status.success() {
        bail!(
            "setpoint kubeconfig create {user} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(path)
}

/// The port, if it is free; otherwise another.
fn free(port: u16) -> u16 {
    let taken = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|l| l.local_addr());
    taken(port).or_else(|_| taken(0)).map_or(port, |a| a.port())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not a path that can be written as text", path.display()))
}
