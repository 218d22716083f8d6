//! What to do next for one replica: a pure function of what is wanted, what was observed, and now.
//!
//! # Guarantees
//! - Level-triggered: nothing here knows which event led to the look. Deciding twice on the same facts decides the same.
//! - A start needs: wanted, verified weights, no process left of an earlier run, devices that nobody else has, and the back-off over.
//! - A stop goes: off the routes, a moment for gateways to notice, SIGTERM, the drain time, SIGKILL. It ends when nothing is left alive.
//!
//! # How to get it wrong
//! Deciding to start because the leader is dead. Its children may live on, with the port and the device's memory.

use std::time::Duration;

use setpoint_inference::kinds::Replica;
use tokio::time::Instant;

use crate::Timings;

/// Between two looks at processes that were sent SIGKILL.
const KILL_LOOK: Duration = Duration::from_millis(50);

/// What the control plane (or the end of the agent) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It is to run here.
    Run,
    /// It is to stop.
    Stop(StopCause),
}

/// Why a replica is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// It is being deleted: its finalizer is released at the end.
    Deleted,
    /// It is no longer bound here, or is gone altogether.
    Unbound,
    /// The agent ends, and was told to take its replicas with it.
    Shutdown,
}

/// The weights, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Not there, and nobody fetches them.
    Missing,
    /// On their way.
    Fetching {
        /// Bytes that have arrived.
        done: u64,
        /// All have arrived and are being hashed.
        verifying: bool,
    },
    /// There and verified.
    Present,
    /// The last fetch failed.
    Failed(Fault),
}

/// The replica's processes, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// None at all.
    Absent,
    /// The leader is gone, and others of its group, or with its marks, live.
    Leftovers,
    /// The leader lives.
    Running(Running),
}

/// A running process, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Since when, or since its adoption.
    pub since: Instant,
    /// Whether it was healthy once.
    pub ever_ready: bool,
    /// Failed looks in a row.
    pub failures: u32,
    /// What the last failed look saw.
    pub complaint: Option<String>,
}

/// What went wrong last, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A stable word.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Whether only a change of the object or of the worker can help.
    pub permanent: bool,
    /// Not to be tried before.
    pub retry_at: Instant,
}

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// Since when.
    pub since: Instant,
    /// Why, if not because it was asked for.
    pub unhealthy: Option<String>,
    /// Whether gateways may have it in their routes.
    pub routed: bool,
    /// When "not ready" got on record.
    pub withdrawn_at: Option<Instant>,
    /// When SIGTERM was sent.
    pub terminated_at: Option<Instant>,
}

/// Everything that was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The weights.
    pub weights: Weights,
    /// The processes.
    pub process: Process,
    /// A device of this replica that another one has, and which one.
    pub held: Option<(String, String)>,
    /// What went wrong with the last process or the last try to start one.
    pub fault: Option<Fault>,
    /// The stop under way.
    pub stopping: Option<Stopping>,
}

/// What a replica's spec says about times and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a start may take.
    pub startup: Duration,
    /// Failed looks in a row that make it not ready.
    pub failures: u32,
    /// Between SIGTERM and SIGKILL.
    pub drain: Duration,
}

impl Limits {
    /// Those of a replica.
    pub fn of(replica: &Replica) -> Self {
        let (engine, seconds) = (&replica.spec.engine, |s: u32| Duration::from_secs(u64::from(s)));
        Self {
            startup: seconds(engine.startup_timeout_seconds),
            failures: engine.failure_threshold.max(1),
            drain: seconds(replica.spec.drain_seconds),
        }
    }
}

/// The one thing to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Fetch the weights.
    Fetch,
    /// Claim the devices, lease a port, spawn.
    Start,
    /// Begin a stop; with the complaint, if it is to be restarted for its health.
    BeginStop(Option<String>),
    /// SIGTERM to all.
    Terminate,
    /// SIGKILL to all.
    Kill,
    /// Nothing is left: forget the replica (and release it, if it is being deleted).
    Finish,
}

/// An action, and when to look again if nothing happens before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// When to look again at the latest.
    pub look_at: Option<Instant>,
}

impl Running {
    /// Whether it takes requests.
    pub fn is_ready(&self, limits: &Limits) -> bool {
        self.ever_ready && self.failures < limits.failures
    }
}

fn now_do(action: Action, now: Instant) -> Decision {
    Decision {
        action,
        look_at: Some(now),
    }
}

fn wait(look_at: Option<Instant>) -> Decision {
    Decision {
        action: Action::Wait,
        look_at,
    }
}

fn kill(now: Instant) -> Decision {
    Decision {
        action: Action::Kill,
        look_at: Some(now + KILL_LOOK),
    }
}

/// Decides.
pub fn decide(want: Want, observed: &Observed, limits: &Limits, timings: &Timings, now: Instant) -> Decision {
    match (&observed.process, &observed.stopping, want) {
        (Process::Absent, _, Want::Stop(_)) => now_do(Action::Finish, now),
        (Process::Leftovers, ..) => kill(now),
        (Process::Running(_), Some(stopping), _) => stop(stopping, limits, timings, now),
        (Process::Running(_), None, Want::Stop(_)) => now_do(Action::BeginStop(None), now),
        (Process::Running(running), None, Want::Run) => keep(running, limits, timings, now),
        (Process::Absent, _, Want::Run) => start(observed, now),
    }
}

/// A running process that is wanted.
fn keep(running: &Running, limits: &Limits, timings: &Timings, now: Instant) -> Decision {
    let complaint = || {
        running
            .complaint
            .clone()
            .unwrap_or_else(|| "it never answered".to_owned())
    };
    if running.ever_ready {
        let most = limits.failures.saturating_mul(timings.liveness_factor);
        if running.failures >= most {
            let complaint = format!("{} failed looks in a row: {}", running.failures, complaint());
            return now_do(Action::BeginStop(Some(complaint)), now);
        }
        return wait(None);
    }
    let deadline = running.since + limits.startup;
    if now >= deadline {
        let complaint = format!("not ready after {} s: {}", limits.startup.as_secs(), complaint());
        return now_do(Action::BeginStop(Some(complaint)), now);
    }
    wait(Some(deadline))
}

/// A process that is to go.
fn stop(stopping: &Stopping, limits: &Limits, timings: &Timings, now: Instant) -> Decision {
    if let Some(terminated_at) = stopping.terminated_at {
        let drain = match stopping.unhealthy {
            Some(_) => limits.drain.min(timings.unhealthy_drain),
            None => limits.drain,
        };
        let deadline = terminated_at + drain;
        return if now >= deadline {
            kill(now)
        } else {
            wait(Some(deadline))
        };
    }
    if stopping.routed {
        let noticed = match stopping.withdrawn_at {
            Some(at) => at + timings.withdraw_grace,
            None => stopping.since + timings.withdraw_limit,
        };
        if now < noticed {
            return wait(Some(noticed));
        }
    }
    now_do(Action::Terminate, now)
}

/// No process, and one is wanted.
fn start(observed: &Observed, now: Instant) -> Decision {
    match &observed.weights {
        Weights::Missing => return now_do(Action::Fetch, now),
        Weights::Fetching { .. } => return wait(None),
        Weights::Failed(fault) if now < fault.retry_at => return wait(Some(fault.retry_at)),
        Weights::Failed(_) => return now_do(Action::Fetch, now),
        Weights::Present => {}
    }
    if observed.held.is_some() {
        return wait(None);
    }
    match &observed.fault {
        Some(fault) if now < fault.retry_at => wait(Some(fault.retry_at)),
        _ => now_do(Action::Start, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits {
        startup: Duration::from_secs(60),
        failures: 3,
        drain: Duration::from_secs(20),
    };
    const DELETED: Want = Want::Stop(StopCause::Deleted);

    fn absent(weights: Weights) -> Observed {
        Observed {
            weights,
            process: Process::Absent,
            held: None,
            fault: None,
            stopping: None,
        }
    }

    fn running(since: Instant, ever_ready: bool, failures: u32) -> Observed {
        let complaint = (failures > 0).then(|| "/health answers 503".to_owned());
        let process = Process::Running(Running {
            since,
            ever_ready,
            failures,
            complaint,
        });
        Observed {
            process,
            ..absent(Weights::Present)
        }
    }

    fn stopping(since: Instant) -> Stopping {
        Stopping {
            since,
            unhealthy: None,
            routed: true,
            withdrawn_at: None,
            terminated_at: None,
        }
    }

    fn check(want: Want, observed: &Observed, now: Instant, action: Action, look_in: Option<Duration>) {
        let decision = decide(want, observed, &LIMITS, &Timings::default(), now);
        let expected = Decision {
            action,
            look_at: look_in.map(|after| now + after),
        };
        assert_eq!(decision, expected, "{want:?} {observed:?}");
    }

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn from_nothing_to_a_process() {
        let t = Instant::now();
        let fault = |retry_at| Fault {
            reason: "X".into(),
            message: String::new(),
            permanent: false,
            retry_at,
        };
        check(Want::Run, &absent(Weights::Missing), t, Action::Fetch, NOW);
        check(
            Want::Run,
            &absent(Weights::Fetching {
                done: 1,
                verifying: false,
            }),
            t,
            Action::Wait,
            None,
        );
        check(
            Want::Run,
            &absent(Weights::Failed(fault(t + S))),
            t,
            Action::Wait,
            Some(S),
        );
        check(Want::Run, &absent(Weights::Failed(fault(t))), t, Action::Fetch, NOW);
        check(Want::Run, &absent(Weights::Present), t, Action::Start, NOW);
        let held = Some(("0".to_owned(), "ns/other".to_owned()));
        check(
            Want::Run,
            &Observed {
                held,
                ..absent(Weights::Present)
            },
            t,
            Action::Wait,
            None,
        );
        let failed = |at| Observed {
            fault: Some(fault(at)),
            ..absent(Weights::Present)
        };
        check(Want::Run, &failed(t + S), t, Action::Wait, Some(S));
        check(Want::Run, &failed(t), t, Action::Start, NOW);
        let leftovers = Observed {
            process: Process::Leftovers,
            ..absent(Weights::Present)
        };
        check(Want::Run, &leftovers, t, Action::Kill, Some(KILL_LOOK));
    }

    #[test]
    fn a_wanted_process_is_kept_until_it_is_hopeless() {
        let t = Instant::now();
        check(Want::Run, &running(t, false, 5), t + S, Action::Wait, Some(59 * S));
        let late = Action::BeginStop(Some("not ready after 60 s: /health answers 503".into()));
        check(Want::Run, &running(t, false, 5), t + 60 * S, late, NOW);
        check(Want::Run, &running(t, true, 0), t + 999 * S, Action::Wait, None);
        check(Want::Run, &running(t, true, 29), t, Action::Wait, None);
        let ill = Action::BeginStop(Some("30 failed looks in a row: /health answers 503".into()));
        check(Want::Run, &running(t, true, 30), t, ill, NOW);
        // long before it is restarted, it has left the routes
        let ready = |failures| match running(t, true, failures).process {
            Process::Running(running) => running.is_ready(&LIMITS),
            _ => unreachable!(),
        };
        assert_eq!([0, 2, 3, 29].map(ready), [true, true, false, false]);
    }

    #[test]
    fn a_stop_drains() {
        let t = Instant::now();
        check(DELETED, &running(t, true, 0), t, Action::BeginStop(None), NOW);
        let at = |stopping: Stopping| Observed {
            stopping: Some(stopping),
            ..running(t, true, 0)
        };
        let begun = stopping(t);
        check(DELETED, &at(begun.clone()), t + S, Action::Wait, Some(4 * S));
        check(DELETED, &at(begun.clone()), t + 5 * S, Action::Terminate, NOW);
        let withdrawn = Stopping {
            withdrawn_at: Some(t + S),
            ..begun.clone()
        };
        check(DELETED, &at(withdrawn.clone()), t + S, Action::Wait, Some(S));
        check(DELETED, &at(withdrawn.clone()), t + 2 * S, Action::Terminate, NOW);
        let unrouted = Stopping { routed: false, ..begun };
        check(DELETED, &at(unrouted), t, Action::Terminate, NOW);
        let terminated = Stopping {
            terminated_at: Some(t + 2 * S),
            ..withdrawn
        };
        check(DELETED, &at(terminated.clone()), t + 3 * S, Action::Wait, Some(19 * S));
        check(
            DELETED,
            &at(terminated.clone()),
            t + 22 * S,
            Action::Kill,
            Some(KILL_LOOK),
        );
        let unhealthy = Stopping {
            unhealthy: Some("ill".into()),
            ..terminated
        };
        check(
            Want::Run,
            &at(unhealthy.clone()),
            t + 7 * S,
            Action::Kill,
            Some(KILL_LOOK),
        );
        // once begun, a stop is gone through with, whatever is wanted meanwhile
        let begun = Stopping {
            terminated_at: None,
            routed: false,
            ..unhealthy
        };
        check(Want::Run, &at(begun), t, Action::Terminate, NOW);
    }

    #[test]
    fn nothing_is_finished_while_something_lives() {
        let t = Instant::now();
        for cause in [StopCause::Deleted, StopCause::Unbound, StopCause::Shutdown] {
            let want = Want::Stop(cause);
            check(want, &absent(Weights::Missing), t, Action::Finish, NOW);
            check(
                want,
                &absent(Weights::Fetching {
                    done: 0,
                    verifying: false,
                }),
                t,
                Action::Finish,
                NOW,
            );
            let leftovers = Observed {
                process: Process::Leftovers,
                stopping: Some(stopping(t)),
                ..absent(Weights::Present)
            };
            check(want, &leftovers, t, Action::Kill, Some(KILL_LOOK));
        }
    }
}
