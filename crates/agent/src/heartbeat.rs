//! The worker's heartbeat: a `coordination.k8s.io/v1` Lease of its name in the namespace `setpoint-workers`.
//!
//! # Guarantees
//! - Two agents never act for one worker: whoever does not hold the Lease takes up nothing that is bound. (What it adopted from its own
//!   state directory it keeps: that is its own.)
//! - The beat depends on nothing else in the agent, so that a slow disk or a stuck engine does not look like a dead worker.
//!
//! # How to get it wrong
//! Giving up the Lease at every exit: an agent that is restarted (its replicas still serving) must not look dead in between.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use setpoint_inference::kinds::WORKER_NAMESPACE;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::AgentOptions;
use crate::control::ControlError;
use crate::kube_control::{MANAGER, applied, bounded};

/// Between two looks at a Lease that another agent holds.
const CLAIM_RETRY: Duration = Duration::from_millis(500);

/// Claims the Lease, opens `gate`, and beats until `stop`.
pub(crate) async fn run(
    client: Client,
    options: AgentOptions,
    identity: String,
    gate: CancellationToken,
    stop: CancellationToken,
) {
    let leases: Api<Lease> = Api::namespaced(client, WORKER_NAMESPACE);
    let name = options.worker.name().to_owned();
    let holder = format!("{name}/{identity}");
    tokio::select! {
        () = stop.cancelled() => return,
        () = claim(&leases, &name, &holder) => {}
    }
    let mut beat = tokio::time::interval(options.timings.renew);
    // after a pause one beat is enough
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let spec = json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": options.timings.lease.as_secs().max(1),
            "renewTime": MicroTime(Timestamp::now()),
        });
        let body = applied::<Lease>(json!({"name": name, "namespace": WORKER_NAMESPACE}), "spec", spec);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let renewed = tokio::select! {
            () = stop.cancelled() => return,
            renewed = bounded(leases.patch(&name, &params, &patch)) => renewed,
        };
        match renewed {
            Ok(_) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the heartbeat is heard again");
                }
                gate.cancel();
            }
            Err(error) => {
                // once for each outage
                if !failing {
                    tracing::warn!(error = %explain(&error), "the heartbeat is not heard; it is tried again");
                }
                failing = true;
            }
        }
    }
}

/// Waits for as long as another agent holds the Lease and renews it. Who holds it is told once.
async fn claim(leases: &Api<Lease>, name: &str, holder: &str) {
    let mut told = false;
    loop {
        match bounded(leases.get_opt(name)).await {
            Ok(lease) => match lease
                .as_ref()
                .and_then(|lease| held_by_another(lease, holder, Timestamp::now()))
            {
                None => return,
                Some(other) if !told => {
                    told = true;
                    tracing::warn!(
                        worker = name,
                        holder = other,
                        "another agent is this worker; waiting for its heartbeat to end"
                    );
                }
                Some(_) => {}
            },
            Err(error) if !told => {
                told = true;
                tracing::warn!(worker = name, error = %explain(&error), "the worker's Lease cannot be read; it is tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(CLAIM_RETRY).await;
    }
}

/// The other agent that holds a Lease now.
fn held_by_another(lease: &Lease, holder: &str, now: Timestamp) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    let other = spec
        .holder_identity
        .as_deref()
        .filter(|other| *other != holder && !other.is_empty())?;
    let seconds = i64::from(spec.lease_duration_seconds?);
    let silent = now.duration_since(spec.renew_time.as_ref()?.0);
    (silent.as_secs() < seconds).then(|| other.to_owned())
}

fn explain(error: &ControlError) -> String {
    match error {
        ControlError::Gone => format!("there is no namespace {WORKER_NAMESPACE}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    #[test]
    fn a_lease_is_anothers_while_it_is_renewed() {
        let now = Timestamp::now();
        let lease = |holder: Option<&str>, seconds_ago: i64| Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(6),
                renew_time: Some(MicroTime(now - jiff::SignedDuration::from_secs(seconds_ago))),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        let other = |lease: &Lease| held_by_another(lease, "w/me", now);
        assert_eq!(other(&lease(Some("w/you"), 5)).as_deref(), Some("w/you"));
        assert_eq!(other(&lease(Some("w/you"), 6)), None);
        assert_eq!(other(&lease(Some("w/me"), 1)), None);
        assert_eq!(other(&lease(Some(""), 1)), None);
        assert_eq!(other(&lease(None, 1)), None);
        assert_eq!(other(&Lease::default()), None);
    }
}
