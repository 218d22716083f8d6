use std::sync::Mutex;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::*;
use crate::control::Bound;

const LIMITS: Limits = Limits {
    startup: Duration::from_secs(60),
    failures: 3,
    drain: Duration::from_secs(20),
};

fn absent(weights: Weights) -> Observed {
    Observed {
        weights,
        process: Process::Absent,
        held: None,
        fault: None,
        stopping: None,
    }
}

fn running(ever_ready: bool, failures: u32) -> Observed {
    let complaint = (failures > 0).then(|| "503".to_owned());
    let process = Process::Running(Running {
        since: Instant::now(),
        ever_ready,
        failures,
        complaint,
    });
    Observed {
        process,
        ..absent(Weights::Present)
    }
}

#[test]
fn each_state_has_its_words() {
    let fault = |permanent| Fault {
        reason: "R".into(),
        message: "m".into(),
        permanent,
        retry_at: Instant::now(),
    };
    let fetching = |done, verifying| absent(Weights::Fetching { done, verifying });
    let held = Some(("0".to_owned(), "ns/other".to_owned()));
    let stop = Want::Stop(StopCause::Deleted);
    for (want, observed, phase, reason) in [
        (Want::Run, absent(Weights::Missing), Phase::Pending, None),
        (Want::Run, fetching(3, false), Phase::Fetching, None),
        (Want::Run, fetching(3, true), Phase::Fetching, Some("Verifying")),
        (
            Want::Run,
            absent(Weights::Failed(fault(false))),
            Phase::Fetching,
            Some("R"),
        ),
        (
            Want::Run,
            absent(Weights::Failed(fault(true))),
            Phase::Failed,
            Some("R"),
        ),
        (
            Want::Run,
            Observed {
                held,
                ..absent(Weights::Present)
            },
            Phase::Pending,
            Some("DeviceBusy"),
        ),
        (
            Want::Run,
            Observed {
                fault: Some(fault(false)),
                ..absent(Weights::Present)
            },
            Phase::Starting,
            Some("R"),
        ),
        (
            Want::Run,
            Observed {
                fault: Some(fault(true)),
                ..absent(Weights::Present)
            },
            Phase::Failed,
            Some("R"),
        ),
        (Want::Run, running(false, 0), Phase::Starting, None),
        (Want::Run, running(false, 2), Phase::Starting, Some("WaitingForHealth")),
        (Want::Run, running(true, 2), Phase::Ready, None),
        (Want::Run, running(true, 3), Phase::Starting, Some("Unhealthy")),
        (stop, running(true, 0), Phase::Draining, None),
        (stop, absent(Weights::Present), Phase::Stopped, None),
        (
            Want::Stop(StopCause::Shutdown),
            absent(Weights::Present),
            Phase::Stopped,
            Some("AgentStopped"),
        ),
    ] {
        let facts = Facts {
            endpoint: Some("http://e".into()),
            total_bytes: Some(10),
            ..Facts::default()
        };
        let status = status(want, &observed, &LIMITS, &facts);
        assert_eq!(
            (status.phase, status.reason.as_deref()),
            (phase, reason),
            "{want:?} {observed:?}"
        );
        assert_eq!(status.ready, phase == Phase::Ready);
        assert_eq!(
            status.progress.is_some(),
            phase == Phase::Fetching && observed.fault.is_none() && !matches!(observed.weights, Weights::Failed(_))
        );
        assert_eq!(
            status.endpoint.is_some(),
            matches!(observed.process, Process::Running(_))
        );
    }
    let percent = |done, verifying, total| progress(done, verifying, total).percent;
    assert_eq!(percent(3, false, Some(10)), Some(30));
    assert_eq!(percent(25, false, Some(10)), Some(99));
    assert_eq!(percent(25, true, Some(10)), Some(100));
    assert_eq!((percent(25, false, None), percent(0, false, Some(0))), (None, None));
}

/// Records what is written; refuses while `down`.
#[derive(Default)]
struct Records {
    written: Mutex<Vec<ReplicaStatus>>,
    down: std::sync::atomic::AtomicBool,
}

impl ControlPlane for Records {
    fn bound(&self) -> watch::Receiver<Bound> {
        watch::channel(Bound::Unknown).1
    }
    fn write_status<'a>(
        &'a self,
        _: &'a ReplicaRef,
        status: &'a ReplicaStatus,
    ) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            if self.down.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(ControlError::Unavailable("down".into()));
            }
            self.written.lock().unwrap().push(status.clone());
            Ok(())
        })
    }
    fn release<'a>(&'a self, _: &'a ReplicaRef) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async { Ok(()) })
    }
}

fn fetching(done: u64) -> ReplicaStatus {
    ReplicaStatus {
        phase: Phase::Fetching,
        progress: Some(progress(done, false, Some(100))),
        ..ReplicaStatus::default()
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_coalesced_and_news_goes_at_once() {
    let records = Arc::new(Records::default());
    let replica = ReplicaRef {
        namespace: "n".into(),
        name: "r".into(),
        uid: "u".into(),
    };
    let ready = ReplicaStatus {
        phase: Phase::Ready,
        ready: true,
        ..ReplicaStatus::default()
    };
    let reporter = Reporter::start(records.clone(), replica, Some(ready.clone()), &Timings::default());
    let written = || records.written.lock().unwrap().clone();
    reporter.report(ready.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(written(), [], "on record already");
    // a hundred steps in one period: the first, and what is latest when the period is over
    for done in 0..100 {
        reporter.report(fetching(done));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(written(), [fetching(0), fetching(99)]);
    reporter.report(ready.clone());
    reporter.settle(Duration::from_millis(1)).await;
    assert_eq!(written().last(), Some(&ready));
    // nothing is lost while nobody listens, and only the latest is sent after
    records.down.store(true, std::sync::atomic::Ordering::Relaxed);
    for done in 0..5 {
        reporter.report(fetching(done));
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    records.down.store(false, std::sync::atomic::Ordering::Relaxed);
    reporter.settle(Duration::from_secs(60)).await;
    assert_eq!(written()[3..], [fetching(4)]);
}
