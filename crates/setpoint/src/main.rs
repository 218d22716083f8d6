//! The binary. The only place that names a store backend, the API server and the reconcilers together.

mod clients;
mod commands;
mod control;
mod demo;
mod logging;
mod measures;

use clap::{CommandFactory, Parser, Subcommand};

/// A control plane in one binary: declare, govern, store, reconcile, observe.
///
/// Begin with `setpoint demo`. Everything speaks the Kubernetes API: kubectl works with the kubeconfig that the server writes.
#[derive(Parser)]
#[command(name = "setpoint", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole thing on this machine: server, three workers, gateway, a model, a chat
    Demo(demo::Arguments),
    /// Run a server: API, store and reconcilers
    Server(commands::server::Arguments),
    /// Run the agent of one worker
    Agent(commands::agent::Arguments),
    /// Run a gateway: OpenAI-compatible requests to ready replicas
    Gateway(commands::gateway::Arguments),
    /// Say what is going on with an object, and what would unblock it
    Why(commands::why::Arguments),
    /// Make credentials
    Kubeconfig(commands::kubeconfig::Arguments),
    /// Print the completion script of a shell
    Completion {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

fn main() {
    // kube's client takes the process's provider; ours name theirs
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    if let Err(error) = run(arguments.command) {
        eprintln!("setpoint: {error:#}");
        std::process::exit(1);
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => runtime()?.block_on(demo::run(arguments)),
        Command::Server(arguments) => runtime()?.block_on(commands::server::run(arguments)),
        Command::Agent(arguments) => runtime()?.block_on(commands::agent::run(arguments)),
        Command::Gateway(arguments) => runtime()?.block_on(commands::gateway::run(arguments)),
        Command::Why(arguments) => runtime()?.block_on(commands::why::run(arguments)),
        Command::Kubeconfig(arguments) => commands::kubeconfig::run(arguments),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "setpoint", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
