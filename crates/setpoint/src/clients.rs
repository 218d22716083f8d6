//! Clients of a control plane, from a kubeconfig.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Which control plane, and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArguments {
    /// The kubeconfig (a server writes one to DATA-DIR/kubeconfig)
    #[arg(long, env = "KUBECONFIG")]
    pub(crate) kubeconfig: PathBuf,
}

impl ClientArguments {
    /// A client.
    pub(crate) async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }
}

/// A client by this kubeconfig.
pub(crate) async fn client(path: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?;
    // watches end by the server's word; a read that hangs is a broken connection
    config.read_timeout = Some(std::time::Duration::from_secs(295));
    Client::try_from(config).context("cannot make a client")
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn stop_signal() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
