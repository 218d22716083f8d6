//! A worker's agent: turns the replicas that are bound to it into processes of real model servers, and reports what it sees.
//!
//! # Guarantees
//! - **One process for each replica, at most.** Whatever instant the agent is killed at, its next run finds every process that it
//!   started (by the record on disk, or by marks in the process's environment), adopts those that are still wanted without
//!   restarting them, and stops the others.
//! - **Replicas outlive the agent, and the agent outlives the control plane.** Processes run in groups of their own and write to
//!   files, not to pipes. With the API server gone, what runs is kept running, probed, and restarted when it dies; nothing stops.
//! - **A device never has two owners.** A replica whose device is held by a live process of another replica waits, and says for whom.
//! - **Weights are what the Model says they are.** Nothing is served whose SHA-256 differs; nothing is fetched twice at a time by
//!   agents that share a weights directory.
//! - A replica's finalizer goes only after its last process is gone.
//!
//! # Assumptions
//! - Linux with `/proc`; processes of replicas run as the agent's own user.
//! - One agent a state directory (held by a lock), and one state directory a worker.
//!
//! # How to get it wrong
//! - Trusting a process id. Ids are used again: a process is known by its id *and* its start time *and* the boot.
//! - Treating "the list is empty" like "the list is unknown". Before the first full list from the API server the wish is what was
//!   last recorded; only a complete list may stop anything.
//! - Signalling the leader only. Model servers have children; the group is what is stopped, and marks find who left the group.
//!
//! # Shape
//! [`decide`](decide) is pure: what is wanted, what was observed, now → one action. `tender` is the loop around it for one replica,
//! `supervisor` the set of those loops, [`control`] what the agent needs of the control plane (so that tests need none).

pub mod control;
pub mod decide;
pub mod devices;
mod engines;
mod heartbeat;
mod kube_control;
mod logfile;
mod options;
mod ports;
mod probe;
mod process;
mod procfs;
mod registration;
mod report;
mod state;
pub mod supervisor;
mod tender;
pub mod weights;
mod worker_file;

pub use options::{AgentOptions, OnExit, Timings};
pub use state::StateError;
pub use worker_file::{WorkerFile, WorkerFileError};

use tokio_util::sync::CancellationToken;

/// Why an agent could not start. Once it runs, it does not fail: it retries.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory cannot be used.
    #[error("the agent's state directory cannot be used")]
    State(#[from] StateError),
    /// The weights directory cannot be used.
    #[error("the weights directory cannot be used: {path}")]
    Weights {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A worker's agent.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Runs until `shutdown` is cancelled, then acts as [`AgentOptions::on_exit`] says: with [`OnExit::Stop`] it returns when every
    /// process that it started is gone.
    ///
    /// An API server that is not there (yet, or any more) is no error.
    ///
    /// # Errors
    /// When a directory cannot be used, or another agent has the state directory.
    pub async fn run(
        client: kube::Client,
        options: AgentOptions,
        shutdown: CancellationToken,
    ) -> Result<(), AgentError> {
        let supervisor = supervisor::Supervisor::open(options.clone()).await?;
        let background = CancellationToken::new();
        let guard = background.clone().drop_guard();
        let control = kube_control::KubeControl::new(client.clone(), options.worker.name());
        let heartbeat = heartbeat::run(
            client.clone(),
            options.clone(),
            supervisor.identity().to_owned(),
            control.gate(),
            background.clone(),
        );
        let registration = registration::run(client, options, supervisor.inventory(), background.clone());
        let watch = control.clone().watch(background.clone());
        let tasks = [tokio::spawn(heartbeat), tokio::spawn(registration), tokio::spawn(watch)];
        supervisor.run(control, shutdown).await;
        drop(guard);
        for task in tasks {
            // a panic was printed by its own thread; nothing is left to do for it
            let _ = task.await;
        }
        Ok(())
    }
}
