//! Reports what this gateway measures into `Autoscaler.signals`, one entry under its own field manager (server-side apply).
//!
//! A report is sent when the load has changed, and otherwise every [`HEARTBEAT`], so that zero is told apart from silence at little cost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use serde_json::json;
use setpoint_inference::kinds::{API_VERSION, Autoscaler};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    load::{Averages, LONG, SHORT},
    routes::{DeploymentKey, Routes},
};

/// Half of the time after which a signal counts as stale (30 s), with room for a slow answer.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// At most one report in this time for a deployment.
const PERIOD: Duration = Duration::from_secs(1);

struct Reported {
    averages: Averages,
    at: Instant,
}

/// Measures once a second and reports, until shutdown.
pub(crate) async fn run(
    client: Client,
    name: String,
    routes: Arc<Routes>,
    autoscalers: Store<Autoscaler>,
    shutdown: CancellationToken,
) {
    let mut reported: HashMap<DeploymentKey, Reported> = HashMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let loads = routes.loads();
        reported.retain(|key, _| loads.iter().any(|(k, _)| k == key));
        for (key, load) in loads {
            let averages = load.measure();
            if !worth_reporting(reported.get(&key), &averages) {
                continue;
            }
            let Some(autoscaler) = autoscaler_of(&autoscalers, &key) else {
                continue;
            };
            match report(&client, &name, &key.0, &autoscaler, &averages).await {
                Ok(()) => drop(reported.insert(
                    key,
                    Reported {
                        averages,
                        at: Instant::now(),
                    },
                )),
                Err(error) => tracing::debug!(%error, autoscaler, "a report was not taken; the next one will be"),
            }
        }
    }
}

fn worth_reporting(last: Option<&Reported>, now: &Averages) -> bool {
    let Some(last) = last else { return true };
    let moved = |a: f64, b: f64| (a - b).abs() > 0.05 * a.max(b).max(0.2);
    last.at.elapsed() >= HEARTBEAT
        || moved(last.averages.short, now.short)
        || moved(last.averages.long, now.long)
        || last.averages.queued != now.queued
}

fn autoscaler_of(autoscalers: &Store<Autoscaler>, (namespace, deployment): &DeploymentKey) -> Option<String> {
    let found =
        autoscalers.find(|a| a.metadata.namespace.as_ref() == Some(namespace) && a.spec.target.name == *deployment)?;
    found.metadata.name.clone()
}

async fn report(
    client: &Client,
    gateway: &str,
    namespace: &str,
    autoscaler: &str,
    averages: &Averages,
) -> Result<(), kube::Error> {
    let round = |x: f64| (x * 1000.0).round() / 1000.0;
    let signal = json!({
        "source": gateway,
        "observedAt": format!("{:.6}", jiff::Timestamp::now()),
        "windowSeconds": SHORT,
        "concurrency": round(averages.short),
        "stableWindowSeconds": LONG,
        "stableConcurrency": round(averages.long),
        "requestsPerSecond": round(averages.requests_per_second),
        "queued": averages.queued,
    });
    let patch =
        json!({"apiVersion": API_VERSION, "kind": "Autoscaler", "metadata": {"name": autoscaler}, "signals": [signal]});
    let api: Api<Autoscaler> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(&format!("gateway-{gateway}")).force();
    let answer = tokio::time::timeout(
        Duration::from_secs(5),
        api.patch_subresource("signals", autoscaler, &parameters, &Patch::Apply(&patch)),
    )
    .await;
    answer
        .map_err(|_| kube::Error::Service("the report timed out".into()))?
        .map(drop)
}
