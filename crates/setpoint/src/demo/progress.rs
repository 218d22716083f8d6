//! What is desired, what is observed, and which step comes next, while the demo starts.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use kube::{Api, Client, api::ListParams};
use setpoint_inference::kinds::{ModelDeployment, Phase, Replica};

/// Shows progress until every desired replica is ready. At a terminal a live line; elsewhere a line for each change.
pub(super) async fn until_ready(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let deployments: Api<ModelDeployment> = Api::namespaced(client.clone(), namespace);
    let replicas: Api<Replica> = Api::namespaced(client.clone(), namespace);
    let bar = ProgressBar::new(1).with_style(
        ProgressStyle::with_template("{spinner} [{bar:25}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut last = String::new();
    loop {
        let deployment = deployments.get(name).await?;
        let wanted = deployment.status.as_ref().map_or(0, |s| s.desired_replicas);
        let all: Vec<Replica> = replicas
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .filter(|r| r.spec.deployment_ref.name == name && r.metadata.deletion_timestamp.is_none())
            .collect();
        let ready = all.iter().filter(|r| r.is_ready()).count();
        let line = describe(wanted, &all, ready);
        bar.set_length(u64::from(wanted.max(1)));
        bar.set_position(ready as u64);
        bar.set_message(line.clone());
        if line != last && bar.is_hidden() {
            eprintln!("{line}");
        }
        last = line;
        let current = deployment.status.as_ref().and_then(|s| s.observed_generation) == deployment.metadata.generation;
        if current && wanted > 0 && ready >= wanted as usize {
            bar.finish_and_clear();
            eprintln!("{last}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn describe(wanted: u32, replicas: &[Replica], ready: usize) -> String {
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waits = BTreeMap::new();
    for replica in replicas.iter().filter(|r| !r.is_ready()) {
        match replica.worker() {
            Some(_) => *phases.entry(replica.phase().as_str()).or_default() += 1,
            None => {
                let reason = replica.binding.as_ref().map_or("", |b| &*b.reason);
                *waits
                    .entry(if reason.is_empty() { "Unscheduled" } else { reason })
                    .or_insert(0) += 1;
            }
        }
    }
    let states: Vec<String> = phases
        .iter()
        .chain(&waits)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let fetched = replicas
        .iter()
        .filter(|r| r.phase() == Phase::Fetching)
        .filter_map(|r| r.status.as_ref()?.progress.as_ref()?.percent)
        .max();
    let next = match () {
        () if wanted == 0 => "the deployment reconciler decides how many replicas",
        () if replicas.len() < wanted as usize => "the deployment reconciler makes replicas",
        () if !waits.is_empty() => "the scheduler places replicas",
        () if phases.contains_key("Fetching") => "workers fetch the weights",
        () if ready < wanted as usize => "workers start the model servers",
        () => "all is as desired",
    };
    let fetched = fetched.map(|p| format!(" ({p} %)")).unwrap_or_default();
    let states = if states.is_empty() {
        String::new()
    } else {
        format!(", {}", states.join(", "))
    };
    format!("desired {wanted}, observed {ready} ready{states}; next: {next}{fetched}")
}
