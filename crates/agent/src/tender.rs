//! The loop for one replica: observe, decide, act, report, and wait for something to happen.
//!
//! # Guarantees
//! - The loop ends ([`Tender::run`] returns) only after the last process of the replica is gone and the record is removed.
//! - Dropping the loop at any await leaves the process alone, with a record that leads to it.
//!
//! # How to get it wrong
//! - Awaiting something slow here. Looks at health, fetches and status writes run in tasks of their own; the loop only sees their results,
//!   so that an exit or a wish is never seen late.
//! - Reporting before the first look after an adoption: gateways would see a replica flap that never stopped serving.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use setpoint_inference::kinds::{Replica, Time};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::control::{ControlError, ControlPlane, ReplicaRef};
use crate::decide::{Action, Fault, Limits, Observed, Process, Running, StopCause, Stopping, Want, Weights, decide};
use crate::devices::Devices;
use crate::engines::{self, Launch};
use crate::ports::{PortLease, Ports};
use crate::probe::{self, ProbeError};
use crate::process::{self, Marks};
use crate::report::{self, Facts, Reporter};
use crate::state::{ProcessId, Record, StateDir};
use crate::weights::{FetchState, Wanted, WeightsCache};
use crate::{AgentOptions, logfile, procfs};

/// The longest time that the loop sleeps: logs are bounded, and leftovers looked for, at least this often.
const TICK: Duration = Duration::from_secs(2);
/// What is quoted of a log when a process ended, in bytes.
const LAST_WORDS: u64 = 400;
/// The wait before a fault is tried again that only a change of the object or the worker can heal.
const PERMANENT_RETRY: Duration = Duration::from_secs(60);
/// How long the end of a replica waits for its last status to get on record.
const SETTLE: Duration = Duration::from_secs(2);

/// What the loops of one agent share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: AgentOptions,
    pub state: StateDir,
    pub weights: WeightsCache,
    pub ports: Arc<Ports>,
    pub devices: Arc<Devices>,
}

/// What is wanted of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub replica: Arc<Replica>,
    pub want: Want,
}

/// The loop's own knowledge.
pub(crate) struct Tender {
    shared: Arc<Shared>,
    control: Arc<dyn ControlPlane>,
    wish: watch::Receiver<Wish>,
    replica: Arc<Replica>,
    key: ReplicaRef,
    marks: Marks,
    log: PathBuf,
    limits: Limits,
    record: Record,
    observed: Observed,
    process: Option<process::Process>,
    port: Option<PortLease>,
    health: Option<Health>,
    fetch: Option<watch::Receiver<FetchState>>,
    reporter: Reporter,
    /// Ends in a row that came too soon after their start.
    streak: u32,
    /// Failed fetches in a row.
    failed_fetches: u32,
    /// The log's size at the last start.
    log_start: u64,
    /// No report before the first look after an adoption.
    silent: bool,
}

/// The task that looks at a process's health.
struct Health {
    results: mpsc::Receiver<Result<(), ProbeError>>,
    _task: AbortOnDropHandle<()>,
}

impl Tender {
    /// Takes up a replica: adopts its process if it has one.
    pub(crate) fn new(
        shared: Arc<Shared>,
        control: Arc<dyn ControlPlane>,
        wish: watch::Receiver<Wish>,
        record: Option<Record>,
    ) -> Self {
        let replica = wish.borrow().replica.clone();
        let key = ReplicaRef::of(&replica);
        let marks = Marks {
            state: shared.state.mark().to_owned(),
            worker: shared.options.worker.name().to_owned(),
            uid: key.uid.clone(),
        };
        let timings = &shared.options.timings;
        let reporter = Reporter::start(control.clone(), key.clone(), replica.status.clone(), timings);
        let mut tender = Self {
            log: shared.state.log_path(&replica),
            limits: Limits::of(&replica),
            record: record.unwrap_or_else(|| Record::new((*replica).clone())),
            observed: Observed {
                weights: Weights::Missing,
                process: Process::Absent,
                held: None,
                fault: None,
                stopping: None,
            },
            process: None,
            port: None,
            health: None,
            fetch: None,
            streak: 0,
            failed_fetches: 0,
            log_start: 0,
            silent: false,
            shared,
            control,
            wish,
            replica,
            key,
            marks,
            reporter,
        };
        tender.adopt();
        tender
    }

    /// Runs until the replica has been stopped for good.
    pub(crate) async fn run(mut self) {
        loop {
            let now = Instant::now();
            let want = self.observe(now);
            let decision = decide(want, &self.observed, &self.limits, &self.shared.options.timings, now);
            if decision.action == Action::Finish {
                return self.finish(want).await;
            }
            self.act(&decision.action, now);
            if !self.silent {
                self.reporter.report(self.status(want));
            }
            let look_at = decision.look_at.unwrap_or(now + TICK).min(now + TICK);
            self.wait(look_at).await;
        }
    }

    fn status(&self, want: Want) -> setpoint_inference::kinds::ReplicaStatus {
        let record = &self.record;
        let port = record.port.filter(|_| self.process.is_some());
        let facts = Facts {
            endpoint: port.map(|port| format!("http://{}", authority(self.shared.options.worker.address(), port))),
            pid: self.process.as_ref().map(|process| process.id().pid),
            started_at: record.started_at.clone(),
            ready_at: record.ready_at.clone(),
            restarts: record.restarts,
            total_bytes: self.replica.spec.model.size_bytes,
        };
        report::status(want, &self.observed, &self.limits, &facts)
    }

    /// Sleeps until something happens, or `look_at`.
    async fn wait(&mut self, look_at: Instant) {
        let exit = self.process.as_ref().map(process::Process::watch_exit);
        let exited = async {
            match exit {
                Some(mut exit) => {
                    let _ = exit.wait_for(Option::is_some).await;
                }
                None => std::future::pending().await,
            }
        };
        let fetch = self.fetch.as_mut();
        let fetched = async {
            match fetch {
                // an error means that the fetch was given up: that too is news
                Some(fetch) => {
                    let _ = fetch.changed().await;
                }
                None => std::future::pending().await,
            }
        };
        let mut recorded = self.reporter.recorded().clone();
        let withdrawing = matches!(&self.observed.stopping, Some(s) if s.routed && s.withdrawn_at.is_none());
        let withdrawn = async {
            match withdrawing {
                true => drop(
                    recorded
                        .wait_for(|status| status.as_ref().is_some_and(|s| !s.ready))
                        .await,
                ),
                false => std::future::pending().await,
            }
        };
        let mut devices = self.shared.devices.watch();
        let waits_for_device = self.observed.held.is_some();
        let health = async {
            match &mut self.health {
                Some(health) => health.results.recv().await,
                None => std::future::pending().await,
            }
        };
        let looked = tokio::select! {
            _ = self.wish.changed() => None,
            () = exited => None,
            () = fetched => None,
            () = withdrawn => None,
            _ = devices.changed(), if waits_for_device => None,
            result = health => result,
            () = tokio::time::sleep_until(look_at) => None,
        };
        if let Some(result) = looked {
            self.note_health(result);
        }
    }

    fn note_health(&mut self, result: Result<(), ProbeError>) {
        self.silent = false;
        let was_ready = self.is_ready();
        if let Process::Running(running) = &mut self.observed.process {
            match result {
                Ok(()) => {
                    running.ever_ready = true;
                    running.failures = 0;
                    running.complaint = None;
                }
                Err(error) => {
                    running.failures = running.failures.saturating_add(1);
                    running.complaint = Some(error.to_string());
                }
            }
        }
        let is_ready = self.is_ready();
        if was_ready != is_ready || (is_ready && self.record.ready_at.is_none()) {
            self.record.ready_at = is_ready.then(now_time);
            self.remember();
        }
    }

    fn is_ready(&self) -> bool {
        matches!(&self.observed.process, Process::Running(running) if running.is_ready(&self.limits))
    }

    /// Brings what was observed up to date, without waiting for anything.
    fn observe(&mut self, now: Instant) -> Want {
        let wish = self.wish.borrow_and_update().clone();
        self.replica = wish.replica;
        self.limits = Limits::of(&self.replica);
        if let Some(exit) = self.process.as_ref().and_then(process::Process::exit) {
            self.note_exit(exit, now);
        }
        if matches!(self.observed.process, Process::Leftovers) && self.members().is_empty() {
            self.observed.process = Process::Absent;
            self.port = None;
            self.record.process = None;
            self.record.port = None;
            self.remember();
        }
        if matches!(self.observed.process, Process::Absent) {
            self.observed.stopping = None;
            self.observe_weights(now);
            let devices = self.devices();
            self.observed.held = self.shared.devices.holder(&self.key.uid, &devices);
        }
        if let Some(stopping) = &mut self.observed.stopping
            && stopping.withdrawn_at.is_none()
            && self
                .reporter
                .recorded()
                .borrow()
                .as_ref()
                .is_some_and(|status| !status.ready)
        {
            stopping.withdrawn_at = Some(now);
        }
        if let Err(error) = logfile::bound(&self.log, self.shared.options.log_bytes) {
            tracing::warn!(replica = %self.key, %error, "the log could not be cut");
        }
        wish.want
    }

    fn observe_weights(&mut self, now: Instant) {
        let state = self.fetch.as_ref().map(|fetch| {
            let ended = fetch.has_changed().is_err();
            (fetch.borrow().clone(), ended)
        });
        let weights = match state {
            None => match (
                &self.observed.weights,
                self.shared.weights.get(&self.replica.spec.model.digest),
            ) {
                (_, Some(_)) => Weights::Present,
                (Weights::Failed(fault), None) => Weights::Failed(fault.clone()),
                (_, None) => Weights::Missing,
            },
            Some((FetchState::Done(_), _)) => Weights::Present,
            Some((FetchState::Failed(error), _)) => {
                self.failed_fetches = self.failed_fetches.saturating_add(1);
                let again = match error.is_permanent() {
                    true => PERMANENT_RETRY,
                    false => self.backoff(self.failed_fetches),
                };
                Weights::Failed(Fault {
                    reason: error.reason().to_owned(),
                    message: error.to_string(),
                    permanent: error.is_permanent(),
                    retry_at: now + again,
                })
            }
            // given up in the instant of joining it
            Some((_, true)) => Weights::Missing,
            Some((FetchState::Fetching { done }, false)) => Weights::Fetching { done, verifying: false },
            Some((FetchState::Verifying, false)) => Weights::Fetching {
                done: self.replica.spec.model.size_bytes.unwrap_or(0),
                verifying: true,
            },
        };
        if !matches!(weights, Weights::Fetching { .. }) {
            self.fetch = None;
        }
        if weights == Weights::Present {
            self.failed_fetches = 0;
        }
        self.observed.weights = weights;
    }

    fn note_exit(&mut self, exit: process::Exit, now: Instant) {
        let since = match &self.observed.process {
            Process::Running(running) => running.since,
            _ => now,
        };
        let lived = now.duration_since(since);
        let timings = &self.shared.options.timings;
        self.streak = if lived >= timings.stable_after {
            1
        } else {
            self.streak.saturating_add(1)
        };
        let again = self.backoff(self.streak);
        let unhealthy = self
            .observed
            .stopping
            .as_ref()
            .and_then(|stopping| stopping.unhealthy.clone());
        let asked = self.observed.stopping.is_some() && unhealthy.is_none();
        let (reason, message) = match unhealthy {
            Some(complaint) => ("Unhealthy", format!("it was stopped to be started again: {complaint}")),
            None => {
                let words = logfile::last_words(&self.log, self.log_start, LAST_WORDS);
                let said = if words.is_empty() {
                    String::new()
                } else {
                    format!("; its last words: {words}")
                };
                (
                    "Exited",
                    format!("the model server {exit} after {:.1} s{said}", lived.as_secs_f64()),
                )
            }
        };
        tracing::info!(replica = %self.key, %exit, asked, "a process ended");
        if !asked {
            self.observed.fault = Some(Fault {
                reason: reason.to_owned(),
                message: format!("{message}. It is started again in {:.1} s", again.as_secs_f64()),
                permanent: false,
                retry_at: now + again,
            });
            self.record.restarts = self.record.restarts.saturating_add(1);
        }
        self.process = None;
        self.health = None;
        self.silent = false;
        self.observed.process = Process::Leftovers;
        self.record.ready_at = None;
        self.remember();
    }

    /// The wait before try `n` (from 1): doubling, bounded, and spread by up to a quarter so that replicas that died together do not
    /// start together. The spread is drawn from the uid, not from chance.
    fn backoff(&self, n: u32) -> Duration {
        let timings = &self.shared.options.timings;
        let doubled = timings
            .restart_first
            .saturating_mul(1_u32 << n.saturating_sub(1).min(16));
        let base = doubled.min(timings.restart_most);
        let mut hasher = DefaultHasher::new();
        (&self.key.uid, n).hash(&mut hasher);
        base + base.mul_f64((hasher.finish() % 250) as f64 / 1000.0)
    }

    fn act(&mut self, action: &Action, now: Instant) {
        match action {
            Action::Wait | Action::Finish => {}
            Action::Fetch => {
                let model = &self.replica.spec.model;
                let wanted = Wanted {
                    uri: model.uri.clone(),
                    digest: model.digest.clone(),
                };
                self.observed.weights = Weights::Fetching {
                    done: 0,
                    verifying: false,
                };
                self.fetch = Some(self.shared.weights.fetch(&wanted));
            }
            Action::Start => self.start(now),
            Action::BeginStop(complaint) => {
                let on_record = self
                    .reporter
                    .recorded()
                    .borrow()
                    .as_ref()
                    .is_some_and(|status| status.ready);
                self.observed.stopping = Some(Stopping {
                    since: now,
                    unhealthy: complaint.clone(),
                    routed: on_record,
                    withdrawn_at: None,
                    terminated_at: None,
                });
                self.health = None;
                self.silent = false;
            }
            Action::Terminate => {
                process::signal(&self.marks, self.record.process.as_ref(), Signal::TERM);
                if let Some(stopping) = &mut self.observed.stopping {
                    stopping.terminated_at = Some(now);
                }
            }
            Action::Kill => {
                process::signal(&self.marks, self.record.process.as_ref(), Signal::KILL);
            }
        }
    }

    fn devices(&self) -> Vec<String> {
        let binding = self.replica.binding.as_ref();
        binding.map(|binding| binding.devices.clone()).unwrap_or_default()
    }

    fn members(&self) -> Vec<procfs::Stat> {
        process::members(&self.marks, self.record.process.as_ref())
    }

    /// Writes the record; a failure is told, and the next change tries again.
    fn remember(&mut self) -> bool {
        self.record.replica = (*self.replica).clone();
        match self.shared.state.write(&self.record) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(replica = %self.key, error = %error, "the record could not be written");
                false
            }
        }
    }

    fn start(&mut self, now: Instant) {
        if let Err((reason, message, permanent)) = self.try_start(now) {
            tracing::warn!(replica = %self.key, reason, message, "a replica could not be started");
            self.streak = self.streak.saturating_add(1);
            let again = if permanent {
                PERMANENT_RETRY
            } else {
                self.backoff(self.streak)
            };
            self.port = None;
            self.observed.fault = Some(Fault {
                reason: reason.to_owned(),
                message,
                permanent,
                retry_at: now + again,
            });
        }
    }

    fn try_start(&mut self, now: Instant) -> Result<(), (&'static str, String, bool)> {
        let devices = self.devices();
        let name = self.key.to_string();
        if let Err(held) = self.shared.devices.claim(&self.key.uid, &name, &devices) {
            self.observed.held = Some(held);
            return Ok(());
        }
        let model = self.shared.weights.get(&self.replica.spec.model.digest);
        let model = model.ok_or(("WeightsGone", "the weights vanished from the cache".to_owned(), false))?;
        let lease = self.shared.ports.lease().ok_or_else(|| {
            let range = &self.shared.options.ports;
            let message = format!(
                "every port from {} to {} of this worker is taken",
                range.start(),
                range.end()
            );
            ("NoPort", message, false)
        })?;
        let options = &self.shared.options;
        let launch = Launch {
            replica: &self.replica,
            model: &model,
            host: options.bind_host(),
            port: lease.port(),
            engine_dir: options.engine_dir.as_deref(),
        };
        let command = engines::command_line(&launch).map_err(|e| ("BadEngine", e.to_string(), true))?;
        // the record first: should we die between the next two steps, it leads to what was spawned
        self.record.port = Some(lease.port());
        self.record.process = None;
        self.record.started_at = Some(now_time());
        self.record.ready_at = None;
        if !self.remember() {
            let message = format!(
                "the state directory {} cannot be written",
                self.shared.state.mark().display()
            );
            return Err(("StateUnwritable", message, false));
        }
        self.log_start = logfile::size(&self.log);
        let spawned = process::Process::spawn(&command, &self.marks, &self.log).map_err(|error| {
            let message = format!("{} cannot be run: {error}", command.program.display());
            let permanent = matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            );
            ("CannotRun", message, permanent)
        })?;
        self.port = Some(lease);
        self.record.process = Some(spawned.id().clone());
        self.remember();
        tracing::info!(replica = %self.key, pid = spawned.id().pid, port = self.record.port, "a process was started");
        self.take_up(spawned, now, false);
        Ok(())
    }

    /// Finds what an earlier agent left running of this replica.
    fn adopt(&mut self) {
        let recorded = self.record.process.clone().and_then(|id| process::Process::adopt(&id));
        let found = recorded.or_else(|| {
            // killed between spawn and record: the marks lead to the leader
            let members = procfs::marked(self.shared.state.mark());
            let mut leaders = members
                .iter()
                .filter(|m| m.uid == self.key.uid && m.stat.group == m.stat.pid);
            let leader = leaders
                .next()
                .filter(|_| self.record.process.is_none() && self.record.port.is_some())?;
            process::Process::adopt(&ProcessId {
                pid: leader.stat.pid,
                start_ticks: leader.stat.start_ticks,
                boot: procfs::boot_id(),
            })
        });
        let devices = self.devices();
        let name = self.key.to_string();
        match (found, self.record.port) {
            (Some(process), Some(port)) => {
                if let Err((device, holder)) = self.shared.devices.claim(&self.key.uid, &name, &devices) {
                    tracing::error!(replica = %self.key, device, holder, "two adopted replicas have one device; this one is stopped");
                    self.record.process = Some(process.id().clone());
                    self.observed.process = Process::Leftovers;
                    return;
                }
                tracing::info!(replica = %self.key, pid = process.id().pid, "a running process was adopted");
                self.port = Some(self.shared.ports.keep(port));
                self.record.process = Some(process.id().clone());
                let was_ready = self.record.ready_at.is_some();
                self.remember();
                self.take_up(process, Instant::now(), was_ready);
                self.silent = true;
            }
            _ => {
                if self.record.process.is_some() {
                    // it ended while nobody watched: its next start is a restart like any other
                    self.record.restarts = self.record.restarts.saturating_add(1);
                    self.record.ready_at = None;
                }
                if !self.members().is_empty() {
                    self.observed.process = Process::Leftovers;
                }
            }
        }
    }

    fn take_up(&mut self, process: process::Process, now: Instant, ever_ready: bool) {
        self.observed.process = Process::Running(Running {
            since: now,
            ever_ready,
            failures: 0,
            complaint: None,
        });
        self.observed.fault = None;
        self.process = Some(process);
        let port = self.record.port.unwrap_or_default();
        let looks = Looks {
            address: SocketAddr::new(reachable(self.shared.options.bind_host()), port),
            path: self.replica.spec.engine.health_path.clone(),
            starting: self.shared.options.timings.probe_starting,
            period: Duration::from_secs(u64::from(self.replica.spec.engine.probe_period_seconds.max(1))),
            timeout: self.shared.options.timings.probe_timeout,
            marks: self.marks.clone(),
            leader: self.record.process.clone(),
        };
        let (send, results) = mpsc::channel(1);
        let task = AbortOnDropHandle::new(tokio::spawn(looks.run(send)));
        self.health = Some(Health { results, _task: task });
    }

    /// Nothing is left alive.
    async fn finish(mut self, want: Want) {
        self.fetch = None;
        self.port = None;
        self.shared.devices.release(&self.key.uid);
        if want == Want::Stop(StopCause::Shutdown) {
            // the replica stays bound here: whoever comes next should read why it does not run
            self.reporter.report(self.status(want));
            self.reporter.settle(SETTLE).await;
        }
        if let Err(error) = self.shared.state.remove(&self.key.uid) {
            tracing::error!(replica = %self.key, %error, "the record could not be removed");
        }
        if want == Want::Stop(StopCause::Deleted) {
            let mut delay = Duration::from_millis(200);
            while let Err(error) = self.control.release(&self.key).await {
                if matches!(error, ControlError::Gone) {
                    break;
                }
                tracing::warn!(replica = %self.key, %error, "the finalizer could not be removed; it is tried again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
        }
        tracing::info!(replica = %self.key, "a replica has ended");
    }
}

/// The orders of a task that looks at health.
struct Looks {
    address: SocketAddr,
    path: String,
    starting: Duration,
    period: Duration,
    timeout: Duration,
    marks: Marks,
    leader: Option<ProcessId>,
}

impl Looks {
    async fn run(self, results: mpsc::Sender<Result<(), ProbeError>>) {
        let mut ready = false;
        loop {
            let began = Instant::now();
            let mut result = probe::look(self.address, &self.path, self.timeout).await;
            if result.is_ok() && !ready {
                // somebody answers; the first time it is asked who
                let (marks, leader, port) = (self.marks.clone(), self.leader.clone(), self.address.port());
                let who = tokio::task::spawn_blocking(move || {
                    let pids: Vec<u32> = process::members(&marks, leader.as_ref())
                        .iter()
                        .map(|stat| stat.pid)
                        .collect();
                    procfs::listener(port, &pids)
                });
                if matches!(who.await, Ok(procfs::Listener::Other)) {
                    result = Err(ProbeError::Stranger(self.address));
                }
            }
            ready |= result.is_ok();
            if results.send(result).await.is_err() {
                return;
            }
            let period = if ready { self.period } else { self.starting };
            tokio::time::sleep_until(began + period).await;
        }
    }
}

/// Where a listener on `host` is reached from this machine.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    }
}

/// `HOST:PORT` as a URL has it.
fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

fn now_time() -> Time {
    // Kubernetes' Time has whole seconds
    let seconds = jiff::Timestamp::now().as_second();
    Time(jiff::Timestamp::from_second(seconds).unwrap_or_default())
}
