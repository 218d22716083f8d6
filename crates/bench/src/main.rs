//! `cargo xtask bench`: what a server does on this machine, measured from outside, over TLS, with durability on.
//!
//! It starts the server that was built beside it in an empty directory (or takes `--kubeconfig` of any Kubernetes API), and measures
//! start-up, memory, and closed-loop throughput of create, get, list and watch with 64 clients over 4 HTTP/2 connections.

mod client;
mod load;
mod server;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;

/// Measures a server on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
pub(crate) struct Arguments {
    /// Measure the server that this kubeconfig names, rather than one started here
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The binary to start
    #[arg(long, default_value = "target/release/setpoint")]
    binary: PathBuf,
    /// Clients that send one request after another
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Connections that they share
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Bytes of an object
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Watchers in the watch measurement
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut rows = Vec::new();
    let started = match &arguments.kubeconfig {
        Some(_) => None,
        None => Some(server::Started::start(&arguments.binary).await?),
    };
    if let Some(server) = &started {
        rows.push(load::Row::value(
            "exec to ready",
            server.ready.as_secs_f64() * 1000.0,
            "ms",
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
        rows.push(load::Row::value("idle RSS", server.rss_mib(), "MiB"));
    }
    let kubeconfig = arguments
        .kubeconfig
        .clone()
        .or_else(|| started.as_ref().map(|s| s.kubeconfig.clone()));
    let target = client::Target::read(&kubeconfig.unwrap_or_default())?;
    rows.extend(load::run(arguments, &target).await?);
    if let Some(server) = started {
        rows.push(load::Row::value("RSS after the run", server.rss_mib(), "MiB"));
        server.stop().await;
    }
    load::print(&rows, arguments.json);
    Ok(())
}
