//! The set of loops: one for each replica that is bound here, or has a process here.
//!
//! # Guarantees
//! - At most one loop a replica. One that panics is started again from its record; its process is not touched.
//! - Only a complete list from the control plane stops what is not on it. Until there is one, what the records say is kept running.
//! - Processes with this agent's marks that no loop answers for are stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::control::{Bound, ControlPlane};
use crate::decide::{StopCause, Want};
use crate::devices::Devices;
use crate::ports::Ports;
use crate::state::{Record, StateDir};
use crate::tender::{Shared, Tender, Wish};
use crate::weights::WeightsCache;
use crate::{AgentError, AgentOptions, OnExit, logfile, process, procfs};

/// What an agent has: for its Worker's status.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Devices and their owners.
    pub devices: Arc<Devices>,
    /// Weights.
    pub weights: WeightsCache,
}

/// Runs the replicas of one worker.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// The supervisor at work.
struct Running {
    shared: Arc<Shared>,
    control: Arc<dyn ControlPlane>,
    wishes: BTreeMap<String, watch::Sender<Wish>>,
    tasks: JoinSet<()>,
    owners: HashMap<Id, String>,
    /// Uids that were stopped, until the control plane no longer lists them.
    finished: BTreeSet<String>,
    /// Processes of nobody that were sent SIGTERM already.
    strays: BTreeSet<(u32, u64)>,
}

impl Supervisor {
    /// Takes the state directory.
    ///
    /// # Errors
    /// When a directory cannot be used, or another agent has the state directory.
    pub async fn open(options: AgentOptions) -> Result<Self, AgentError> {
        let state = StateDir::open(&options.state_dir).await?;
        let weights =
            WeightsCache::open(&options.weights_dir, &options.python).map_err(|source| AgentError::Weights {
                path: options.weights_dir.clone(),
                source,
            })?;
        let seed = state.mark().display().to_string();
        let ports = Ports::new(options.bind_host(), options.ports.clone(), &seed);
        let shared = Shared {
            options,
            state,
            weights,
            ports,
            devices: Arc::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The random word that tells this agent from another one for the same worker.
    pub fn identity(&self) -> &str {
        self.shared.state.identity()
    }

    /// What the agent has.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            devices: self.shared.devices.clone(),
            weights: self.shared.weights.clone(),
        }
    }

    /// Runs until `shutdown`; see [`AgentOptions::on_exit`]. Dropping the future is what a crash is: processes stay.
    pub async fn run(self, control: Arc<dyn ControlPlane>, shutdown: CancellationToken) {
        let mut running = Running {
            shared: self.shared,
            control,
            wishes: BTreeMap::new(),
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            finished: BTreeSet::new(),
            strays: BTreeSet::new(),
        };
        running.take_up_records();
        let mut bound = running.control.bound();
        let mut sweep = tokio::time::interval(running.shared.options.timings.sweep);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let latest = bound.borrow_and_update().clone();
            running.follow(&latest);
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = bound.changed() => if changed.is_err() {
                    // nobody will tell any more; what runs is kept
                    shutdown.cancelled().await;
                    break;
                },
                Some(ended) = running.tasks.join_next_with_id() => running.note_end(ended),
                _ = sweep.tick() => running.sweep().await,
            }
        }
        if running.shared.options.on_exit == OnExit::Stop {
            running.stop_all().await;
        }
    }
}

impl Running {
    fn take_up_records(&mut self) {
        let records = self.shared.state.records().unwrap_or_else(|error| {
            tracing::error!(%error, "the records cannot be read; running replicas will be stopped and started anew");
            Vec::new()
        });
        for record in records {
            let replica = Arc::new(record.replica.clone());
            let want = want(&record.replica);
            self.begin(Wish { replica, want }, Some(record));
        }
    }

    fn begin(&mut self, wish: Wish, record: Option<Record>) {
        let uid = wish.replica.metadata.uid.clone().unwrap_or_default();
        let (send, receive) = watch::channel(wish);
        let tender = Tender::new(self.shared.clone(), self.control.clone(), receive, record);
        let handle = self.tasks.spawn(tender.run());
        self.owners.insert(handle.id(), uid.clone());
        self.wishes.insert(uid, send);
    }

    /// Makes the loops be those that the list asks for.
    fn follow(&mut self, bound: &Bound) {
        let Bound::Known(replicas) = bound else {
            return;
        };
        self.finished.retain(|uid| replicas.contains_key(uid));
        for (uid, replica) in replicas {
            let want = want(replica);
            let wish = Wish {
                replica: replica.clone(),
                want,
            };
            match self.wishes.get(uid) {
                Some(sender) => {
                    sender.send_if_modified(|current| {
                        let differs = current.want != want || !Arc::ptr_eq(&current.replica, replica);
                        *current = wish;
                        differs
                    });
                }
                None if self.finished.contains(uid) => {}
                None => self.begin(wish, None),
            }
        }
        for (uid, sender) in &self.wishes {
            if !replicas.contains_key(uid) {
                let unbound = Want::Stop(StopCause::Unbound);
                sender.send_if_modified(|wish| std::mem::replace(&mut wish.want, unbound) != unbound);
            }
        }
    }

    fn note_end(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let (id, panicked) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), true),
        };
        let Some(uid) = self.owners.remove(&id) else {
            return;
        };
        let wish = self.wishes.remove(&uid).map(|sender| sender.borrow().clone());
        match wish {
            Some(wish) if panicked => {
                tracing::error!(
                    uid,
                    "the loop of a replica panicked and is started again from its record"
                );
                let records = self.shared.state.records().unwrap_or_default();
                let record = records.into_iter().find(|record| record.uid() == uid);
                self.begin(wish, record);
            }
            _ => {
                self.finished.insert(uid);
                self.prune_logs();
            }
        }
    }

    fn prune_logs(&self) {
        let in_use: BTreeSet<_> = self
            .wishes
            .values()
            .map(|wish| self.shared.state.log_path(&wish.borrow().replica))
            .collect();
        if let Err(error) = logfile::prune(&self.shared.state.logs(), |path| in_use.contains(path)) {
            tracing::warn!(%error, "old logs could not be removed");
        }
    }

    /// Stops processes that carry this agent's marks and belong to no loop: SIGTERM at the first sight, SIGKILL at the second.
    async fn sweep(&mut self) {
        let mark = self.shared.state.mark().to_owned();
        let Ok(marked) = tokio::task::spawn_blocking(move || procfs::marked(&mark)).await else {
            return;
        };
        let mut seen = BTreeSet::new();
        for stray in marked.iter().filter(|marked| !self.wishes.contains_key(&marked.uid)) {
            let id = (stray.stat.pid, stray.stat.start_ticks);
            let signal = if self.strays.contains(&id) {
                Signal::KILL
            } else {
                Signal::TERM
            };
            tracing::warn!(
                pid = id.0,
                uid = stray.uid,
                ?signal,
                "a process that belongs to no replica is stopped"
            );
            process::signal_all(std::slice::from_ref(&stray.stat), None, signal);
            seen.insert(id);
        }
        self.strays = seen;
    }

    async fn stop_all(&mut self) {
        for sender in self.wishes.values() {
            let shutdown = Want::Stop(StopCause::Shutdown);
            sender.send_if_modified(|wish| {
                // one that is being deleted is still released at its end
                let stops = wish.want == Want::Run;
                if stops {
                    wish.want = shutdown;
                }
                stops
            });
        }
        // every loop ends: after its drain time at the latest its processes are killed
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Err(error) = &ended
                && error.is_panic()
                && let Some(uid) = self.owners.get(&error.id()).cloned()
                && let Some(sender) = self.wishes.get(&uid)
            {
                let wish = Wish {
                    want: Want::Stop(StopCause::Shutdown),
                    ..sender.borrow().clone()
                };
                let records = self.shared.state.records().unwrap_or_default();
                let record = records.into_iter().find(|record| record.uid() == uid);
                self.begin(wish, record);
            }
        }
        // what no loop knew: twice, so that what ignores SIGTERM is killed
        self.wishes.clear();
        self.sweep().await;
        if !self.strays.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            self.sweep().await;
        }
    }
}

fn want(replica: &setpoint_inference::kinds::Replica) -> Want {
    match replica.metadata.deletion_timestamp {
        Some(_) => Want::Stop(StopCause::Deleted),
        None => Want::Run,
    }
}
