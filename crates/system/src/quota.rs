//! The status of ResourceQuotas: what is used of what is allowed. Enforcement is admission's, which knows to the unit; this tells.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::{api::core::v1::ResourceQuota, apimachinery::pkg::api::resource::Quantity};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::Shutdown;

/// What a namespace uses, by key: as admission counts it.
pub type Used = Arc<dyn Fn(String) -> BoxFuture<'static, BTreeMap<String, String>> + Send + Sync>;

/// How soon after a change of use the status says so.
const PERIOD: Duration = Duration::from_millis(500);

/// Writes the status whenever it differs, until shutdown.
pub async fn run(client: Client, used: Used, shutdown: Shutdown) {
    let all: Api<ResourceQuota> = Api::all(client.clone());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let quotas = match all.list(&ListParams::default().match_any()).await {
            Ok(quotas) => quotas.items,
            Err(error) => {
                tracing::debug!(%error, "quotas cannot be listed; trying again");
                continue;
            }
        };
        for quota in quotas.iter().filter(|q| q.metadata.deletion_timestamp.is_none()) {
            if let Err(error) = tell(&client, quota, &used).await {
                tracing::debug!(%error, quota = quota.name_any(), "the status of a quota could not be written; trying again");
            }
        }
    }
}

async fn tell(client: &Client, quota: &ResourceQuota, used: &Used) -> kube::Result<()> {
    let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let namespace = quota.namespace().unwrap_or_default();
    let mut now = used(namespace.clone()).await;
    let used: BTreeMap<String, Quantity> = hard
        .keys()
        .map(|key| (key.clone(), Quantity(now.remove(key).unwrap_or_else(|| "0".into()))))
        .collect();
    let status = quota.status.as_ref();
    if status.and_then(|s| s.hard.as_ref()) == Some(&hard) && status.and_then(|s| s.used.as_ref()) == Some(&used) {
        return Ok(());
    }
    let api: Api<ResourceQuota> = Api::namespaced(client.clone(), &namespace);
    // a merge patch would keep keys that are no longer limited
    let mut old: BTreeMap<&String, Option<&Quantity>> = status
        .and_then(|s| s.used.as_ref())
        .into_iter()
        .flatten()
        .map(|(k, _)| (k, None))
        .collect();
    old.extend(used.iter().map(|(k, v)| (k, Some(v))));
    let mut limits: BTreeMap<&String, Option<&Quantity>> = status
        .and_then(|s| s.hard.as_ref())
        .into_iter()
        .flatten()
        .map(|(k, _)| (k, None))
        .collect();
    limits.extend(hard.iter().map(|(k, v)| (k, Some(v))));
    let patch = json!({"status": {"hard": limits, "used": old}});
    api.patch_status(&quota.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}
