//! A small OpenAI-compatible model server on the processor: GGUF models of the Llama architecture, by candle.
//!
//! It is the engine that runs anywhere: no GPU, no network, no library beyond Rust's. The agent starts it as it starts any other
//! engine command, and nothing of Setpoint is linked into it.

mod http;
mod model;
mod scheduler;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use clap::Parser;

/// Serves one GGUF model over the OpenAI API.
#[derive(Parser)]
#[command(name = "setpoint-engine-candle", version)]
struct Arguments {
    /// The model: a GGUF file of the Llama architecture with its tokenizer inside
    #[arg(long)]
    model: PathBuf,
    /// The name under which clients ask for it
    #[arg(long, default_value = "model")]
    name: String,
    /// Port to listen on
    #[arg(long)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Conversations that are generated at a time; more wait in a queue
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Conversations that may wait; more are refused with 429
    #[arg(long, default_value_t = 256)]
    queue: usize,
    /// Threads of the matrix kernels
    #[arg(long, default_value_t = default_threads())]
    threads: usize,
}

/// Half of the cores: several replicas share a machine.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()
        .context("cannot start the kernel threads")?;
    let started = Instant::now();
    let model =
        model::Model::load(&arguments.model).with_context(|| format!("cannot load {}", arguments.model.display()))?;
    eprintln!(
        "loaded {} in {:.1} s",
        arguments.model.display(),
        started.elapsed().as_secs_f64()
    );
    let scheduler = scheduler::Scheduler::start(model, arguments.parallel.max(1), arguments.queue.max(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    runtime.block_on(http::serve(
        address,
        Arc::new(http::State {
            name: arguments.name,
            scheduler,
        }),
    ))
}
