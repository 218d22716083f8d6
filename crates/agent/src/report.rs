//! What is reported of a replica: a pure function for the words, a task for getting them on record.
//!
//! # Guarantees
//! - What is on record is written only when it differs, and always the latest: a report that was overtaken is never sent.
//! - Bytes of a download change the record at most once each [`Timings::progress_period`]; everything else goes at once.
//! - No end of tries: an unreachable control plane delays a report, and holds back nothing else.

use std::sync::Arc;
use std::time::Duration;

use setpoint_inference::kinds::{Phase, Progress, ReplicaStatus, Time};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::Timings;
use crate::control::{ControlError, ControlPlane, ReplicaRef};
use crate::decide::{Fault, Limits, Observed, Process, Running, StopCause, Want, Weights};

/// The waits between tries: they double from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Facts that a report carries and no decision needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub endpoint: Option<String>,
    pub pid: Option<u32>,
    pub started_at: Option<Time>,
    pub ready_at: Option<Time>,
    pub restarts: u32,
    pub total_bytes: Option<u64>,
}

/// The status that says what was observed.
pub(crate) fn status(want: Want, observed: &Observed, limits: &Limits, facts: &Facts) -> ReplicaStatus {
    let mut status = ReplicaStatus {
        restarts: facts.restarts,
        ..ReplicaStatus::default()
    };
    let mut say = |phase: Phase, reason: Option<&str>, message: Option<String>| {
        status.phase = phase;
        status.reason = reason.map(str::to_owned);
        status.message = message;
    };
    match (&observed.process, want) {
        (Process::Absent, Want::Stop(StopCause::Shutdown)) => {
            say(
                Phase::Stopped,
                Some("AgentStopped"),
                Some("the worker's agent was stopped, and its replicas with it".to_owned()),
            );
        }
        (Process::Absent, Want::Stop(_)) => say(Phase::Stopped, None, None),
        (_, Want::Stop(_)) => say(Phase::Draining, None, None),
        (Process::Leftovers, Want::Run) => {
            say(
                Phase::Starting,
                Some("CleaningUp"),
                Some("child processes of the last run are being ended".to_owned()),
            );
        }
        (Process::Running(running), Want::Run) => match (&observed.stopping, running.is_ready(limits)) {
            (Some(stopping), _) => say(Phase::Starting, Some("Unhealthy"), stopping.unhealthy.clone()),
            (None, true) => say(Phase::Ready, None, None),
            (None, false) if running.ever_ready => say(Phase::Starting, Some("Unhealthy"), running.complaint.clone()),
            (None, false) => say(Phase::Starting, starting_reason(running), None),
        },
        (Process::Absent, Want::Run) => absent(observed, &mut say),
    }
    status.ready = status.phase == Phase::Ready;
    if let (Process::Absent, Want::Run, Weights::Fetching { done, verifying }) =
        (&observed.process, want, &observed.weights)
    {
        status.progress = Some(progress(*done, *verifying, facts.total_bytes));
    }
    if let Process::Running(_) = observed.process {
        status.pid = facts.pid;
        status.endpoint.clone_from(&facts.endpoint);
        status.started_at.clone_from(&facts.started_at);
        if status.ready {
            status.ready_at.clone_from(&facts.ready_at);
        }
    }
    status
}

fn starting_reason(running: &Running) -> Option<&'static str> {
    (running.failures > 0).then_some("WaitingForHealth")
}

fn absent(observed: &Observed, say: &mut impl FnMut(Phase, Option<&str>, Option<String>)) {
    let fault = |fault: &Fault, otherwise: Phase| {
        let phase = if fault.permanent { Phase::Failed } else { otherwise };
        (phase, Some(fault.reason.clone()), Some(fault.message.clone()))
    };
    let (phase, reason, message) = match (&observed.weights, &observed.held, &observed.fault) {
        (Weights::Missing, ..) => (Phase::Pending, None, None),
        (Weights::Fetching { verifying: true, .. }, ..) => (Phase::Fetching, Some("Verifying".to_owned()), None),
        (Weights::Fetching { .. }, ..) => (Phase::Fetching, None, None),
        (Weights::Failed(failed), ..) => fault(failed, Phase::Fetching),
        (Weights::Present, Some((device, holder)), _) => {
            let message =
                format!("device {device} is still held by the processes of {holder}; it starts when they are gone");
            (Phase::Pending, Some("DeviceBusy".to_owned()), Some(message))
        }
        (Weights::Present, None, Some(failed)) => fault(failed, Phase::Starting),
        (Weights::Present, None, None) => (Phase::Starting, None, None),
    };
    say(phase, reason.as_deref(), message);
}

fn progress(done: u64, verifying: bool, total: Option<u64>) -> Progress {
    // a wheel and what is unpacked from it may both lie there: what has arrived is then more than the whole
    let done = total.map_or(done, |total| done.min(total));
    let percent = total.filter(|total| *total > 0).map(|total| match verifying {
        true => 100,
        // 100 is said by the verified file only
        false => u32::try_from(u128::from(done) * 100 / u128::from(total))
            .unwrap_or(99)
            .min(99),
    });
    Progress {
        done_bytes: done,
        total_bytes: total,
        percent,
    }
}

/// Gets one replica's reports on record. Dropping it gives up.
#[derive(Debug)]
pub(crate) struct Reporter {
    wanted: watch::Sender<ReplicaStatus>,
    recorded: watch::Receiver<Option<ReplicaStatus>>,
    _task: AbortOnDropHandle<()>,
}

impl Reporter {
    /// Begins with what is on record already.
    pub(crate) fn start(
        control: Arc<dyn ControlPlane>,
        replica: ReplicaRef,
        on_record: Option<ReplicaStatus>,
        timings: &Timings,
    ) -> Self {
        let (wanted, receive) = watch::channel(on_record.clone().unwrap_or_default());
        let (send, recorded) = watch::channel(on_record);
        let task = write_all(control, replica, receive, send, timings.progress_period);
        Self {
            wanted,
            recorded,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// The latest word.
    pub(crate) fn report(&self, status: ReplicaStatus) {
        self.wanted.send_if_modified(|current| {
            let differs = *current != status;
            *current = status;
            differs
        });
    }

    /// What is on record, as far as is known.
    pub(crate) fn recorded(&self) -> &watch::Receiver<Option<ReplicaStatus>> {
        &self.recorded
    }

    /// Waits until the latest word is on record, or for as long as `most`.
    pub(crate) async fn settle(&self, most: Duration) {
        let wanted = self.wanted.borrow().clone();
        let mut recorded = self.recorded.clone();
        // late is late: the next agent writes it
        let _ = tokio::time::timeout(most, recorded.wait_for(|status| status.as_ref() == Some(&wanted))).await;
    }
}

async fn write_all(
    control: Arc<dyn ControlPlane>,
    replica: ReplicaRef,
    mut wanted: watch::Receiver<ReplicaStatus>,
    recorded: watch::Sender<Option<ReplicaStatus>>,
    progress_period: Duration,
) {
    let mut delay = RETRY.0;
    while wanted.changed().await.is_ok() {
        loop {
            let status = wanted.borrow_and_update().clone();
            if recorded.borrow().as_ref() == Some(&status) {
                break;
            }
            match control.write_status(&replica, &status).await {
                Ok(()) | Err(ControlError::Gone) => {
                    let only_progress = recorded
                        .borrow()
                        .as_ref()
                        .is_some_and(|old| same_but_progress(old, &status));
                    recorded.send_replace(Some(status.clone()));
                    delay = RETRY.0;
                    if status.progress.is_some() || only_progress {
                        let news = wanted.wait_for(|next| !same_but_progress(next, &status));
                        // news goes at once; more bytes wait for their time
                        let _ = tokio::time::timeout(progress_period, news).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%replica, error = %error, "a status could not be written; it is tried again");
                    let refused = matches!(error, ControlError::Refused(_));
                    tokio::time::sleep(if refused { RETRY.1 } else { delay }).await;
                    delay = (delay * 2).min(RETRY.1);
                }
            }
        }
    }
}

fn same_but_progress(a: &ReplicaStatus, b: &ReplicaStatus) -> bool {
    let without = |status: &ReplicaStatus| ReplicaStatus {
        progress: None,
        ..status.clone()
    };
    without(a) == without(b)
}

#[cfg(test)]
mod tests;
