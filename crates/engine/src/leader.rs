//! Leader election on a Lease: of several servers, one drives the reconcilers.
//!
//! # Guarantees
//! - [`Leadership::may_commit`] is false from [`Election::renew_deadline`] after the last successful renewal, by the monotonic clock of this
//!   process: a process that was paused, or lost the server, stops before another can take the Lease (which takes
//!   [`Election::lease_duration`] by that other's own clock).
//! - Clocks of two machines are never compared: a candidate measures how long *it* has seen the Lease unchanged (as client-go does).
//!
//! # How one could get it wrong
//! A commit that was checked and then delayed can still arrive after the Lease is lost. The precondition on resourceVersion that each part
//! write and deletion carries makes it harmless; a fencing token that the store checks comes with issue 6.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Which Lease, and its times. Defaults are those of client-go: 15 s, 10 s, 2 s.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this process is, different for each process.
    pub identity: String,
    /// Others may take the Lease after having seen it unchanged for so long. Whole seconds.
    pub lease_duration: Duration,
    /// This process stops committing so long after its last renewal. Less than `lease_duration`.
    pub renew_deadline: Duration,
    /// Between two attempts to take or renew.
    pub retry_period: Duration,
}

impl Election {
    /// The election for the Lease `kube-system/setpoint-engine`.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: "setpoint-engine".to_owned(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Whether this process leads, and until when.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Leads for ever: for a server that is alone.
    pub(crate) fn unopposed() -> (watch::Sender<Option<Instant>>, Self) {
        // A century: beyond any process, within any clock.
        let (sender, receiver) = watch::channel(Some(Instant::now() + Duration::from_secs(3_155_760_000)));
        (sender, Self(receiver))
    }

    /// Does not lead yet.
    pub(crate) fn contested() -> (watch::Sender<Option<Instant>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Whether a commit may begin now.
    pub fn may_commit(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns once this process leads.
    pub(crate) async fn gained(&mut self) {
        if self
            .0
            .wait_for(|until| until.is_some_and(|until| Instant::now() < until))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once this process does not lead any more.
    pub(crate) async fn lost(&mut self) {
        loop {
            let Some(until) = *self.0.borrow_and_update() else {
                return;
            };
            tokio::select! {
                changed = self.0.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(until.into()) => if !self.may_commit() { return },
            }
        }
    }
}

/// What one attempt has to do, decided from the Lease as read and when this process first saw it so.
#[derive(Debug, PartialEq)]
enum Step {
    Create,
    /// Take or renew: the Lease is ours, free, or expired.
    Write {
        transitions: i32,
        acquired: Option<MicroTime>,
    },
    Wait,
}

struct Seen {
    version: Option<String>,
    since: Instant,
}

fn step(lease: Option<&Lease>, seen: &mut Option<Seen>, election: &Election, now: Instant) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or(0);
    if holder == election.identity {
        return Step::Write {
            transitions,
            acquired: spec.acquire_time,
        };
    }
    let version = lease.metadata.resource_version.clone();
    let unchanged = match seen {
        Some(seen) if seen.version == version => now.duration_since(seen.since),
        _ => {
            *seen = Some(Seen { version, since: now });
            Duration::ZERO
        }
    };
    let announced = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let expires = announced.map_or(election.lease_duration, Duration::from_secs);
    if holder.is_empty() || unchanged >= expires {
        Step::Write {
            transitions: transitions.saturating_add(1),
            acquired: None,
        }
    } else {
        Step::Wait
    }
}

fn lease(election: &Election, current: Option<Lease>, transitions: i32, acquired: Option<MicroTime>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let mut lease = current.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(election.name.clone()),
            namespace: Some(election.namespace.clone()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    });
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.lease_duration.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

/// Takes and renews the Lease until dropped; what it holds shows in `leading`.
pub(crate) async fn campaign(client: Client, election: Election, leading: watch::Sender<Option<Instant>>) {
    let api = Api::<Lease>::namespaced(client, &election.namespace);
    let mut seen = None;
    loop {
        // The deadline counts from before the request: the server may have written it at once.
        let asked = Instant::now();
        match tokio::time::timeout(election.renew_deadline / 2, attempt(&api, &election, &mut seen)).await {
            Ok(Ok(true)) => {
                leading.send_replace(Some(asked + election.renew_deadline));
            }
            Ok(Ok(false)) => {
                leading.send_replace(None);
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    lease = election.name,
                    error = &error as &dyn std::error::Error,
                    "lease not renewed"
                );
            }
            Err(_) => tracing::warn!(lease = election.name, "lease not renewed: no answer"),
        }
        tokio::time::sleep(election.retry_period).await;
    }
}

/// Whether the Lease is held afterwards. An error leaves it open.
async fn attempt(api: &Api<Lease>, election: &Election, seen: &mut Option<Seen>) -> kube::Result<bool> {
    let current = api.get_opt(&election.name).await?;
    let written = match step(current.as_ref(), seen, election, Instant::now()) {
        Step::Wait => return Ok(false),
        Step::Create => {
            api.create(&PostParams::default(), &lease(election, None, 0, None))
                .await
        }
        Step::Write { transitions, acquired } => {
            // It carries the resourceVersion as read: of two candidates one succeeds.
            let lease = lease(election, current, transitions, acquired);
            api.replace(&election.name, &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Shows in the metrics whether this process leads, until dropped.
pub(crate) async fn show(mut leadership: Leadership, metrics: Metrics) {
    loop {
        metrics.leader.set(0);
        leadership.gained().await;
        metrics.leader.set(1);
        leadership.lost().await;
    }
}

/// Gives the Lease up, so that another need not wait for it to expire. Best effort.
pub(crate) async fn release(client: Client, election: Election) {
    let api = Api::<Lease>::namespaced(client, &election.namespace);
    let Ok(Some(mut current)) = api.get_opt(&election.name).await else {
        return;
    };
    let Some(spec) = &mut current.spec else { return };
    if spec.holder_identity.as_deref() == Some(&election.identity) {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = api.replace(&election.name, &PostParams::default(), &current).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "lease not given up; it expires"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, version: &str) -> Lease {
        let mut held = lease(&Election::new(holder), None, 3, None);
        held.metadata.resource_version = Some(version.to_owned());
        held
    }

    #[test]
    fn an_expired_lease_is_taken_only_after_having_been_seen_unchanged() {
        let election = Election::new("me");
        let mut seen = None;
        let now = Instant::now();
        assert_eq!(step(None, &mut seen, &election, now), Step::Create);
        assert_eq!(
            step(Some(&held_by("other", "1")), &mut seen, &election, now),
            Step::Wait
        );
        let later = now + Duration::from_secs(14);
        assert_eq!(
            step(Some(&held_by("other", "2")), &mut seen, &election, later),
            Step::Wait
        );
        let much_later = now + Duration::from_secs(20);
        assert_eq!(
            step(Some(&held_by("other", "2")), &mut seen, &election, much_later),
            Step::Wait
        );
        let expired = later + Duration::from_secs(15);
        let taken = step(Some(&held_by("other", "2")), &mut seen, &election, expired);
        assert_eq!(
            taken,
            Step::Write {
                transitions: 4,
                acquired: None
            }
        );
    }

    #[test]
    fn a_held_lease_is_renewed_and_a_free_one_taken_at_once() {
        let election = Election::new("me");
        let mut seen = None;
        let now = Instant::now();
        let renewed = step(Some(&held_by("me", "1")), &mut seen, &election, now);
        assert!(matches!(
            renewed,
            Step::Write {
                transitions: 3,
                acquired: Some(_)
            }
        ));
        let taken = step(Some(&held_by("", "1")), &mut seen, &election, now);
        assert_eq!(
            taken,
            Step::Write {
                transitions: 4,
                acquired: None
            }
        );
    }

    #[tokio::test]
    async fn a_process_stops_at_its_own_deadline_without_being_told() {
        let (sender, receiver) = watch::channel(Some(Instant::now() + Duration::from_millis(30)));
        let mut leadership = Leadership(receiver);
        assert!(leadership.may_commit());
        leadership.lost().await;
        assert!(!leadership.may_commit());
        sender.send_replace(Some(Instant::now() + Duration::from_secs(60)));
        leadership.gained().await;
        assert!(leadership.may_commit());
        sender.send_replace(None);
        leadership.lost().await;
        assert!(!leadership.may_commit());
    }
}
