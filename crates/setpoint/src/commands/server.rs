//! `setpoint server`

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use setpoint_apiserver::{ApiServer, Shutdown};
use setpoint_govern::audit::{self, AuditLog};
use setpoint_pki::{Credential, Pki, kubeconfig};
use setpoint_store::Store;
use setpoint_store_embedded::EmbeddedStore;
use tokio::net::TcpListener;

use crate::{clients::stop_signal, control, logging::Logging};

/// How long the administrator's certificate in DATA-DIR/kubeconfig is valid; each start writes a new one.
const ADMIN_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Serves the API, keeps the store, and runs the reconcilers.
///
/// Prints one line when it serves. DATA-DIR/kubeconfig is the administrator's: kubectl --kubeconfig DATA-DIR/kubeconfig get ns
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Everything that the server keeps: store, certificates, audit log
    #[arg(long)]
    data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Further names and addresses that clients reach the server by
    #[arg(long = "tls-san")]
    sans: Vec<String>,
    /// Where the state is: `embedded` (in DATA-DIR)
    #[arg(long, default_value = "embedded")]
    store: String,
    /// Serve the API only: no reconcilers in this process
    #[arg(long)]
    api_only: bool,
    #[command(flatten)]
    logging: Logging,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    arguments.logging.start()?;
    if arguments.store != "embedded" {
        bail!(
            "--store {:?} is not served by this build: \"embedded\" is",
            arguments.store
        );
    }
    std::fs::create_dir_all(&arguments.data_dir)
        .with_context(|| format!("cannot make the data directory {}", arguments.data_dir.display()))?;
    let data_dir = arguments.data_dir.clone();
    let sans = [arguments.sans.clone(), vec![arguments.listen.ip().to_string()]].concat();
    let pki = tokio::task::spawn_blocking({
        let data_dir = data_dir.clone();
        move || Pki::open(&data_dir, &sans)
    });
    let store = tokio::task::spawn_blocking({
        let directory = data_dir.join("store");
        move || EmbeddedStore::open(directory, setpoint_store_embedded::Options::default())
    });
    let pki = Arc::new(pki.await?.context("cannot open the certificates")?);
    let store: Arc<EmbeddedStore> = Arc::new(store.await?.context("cannot open the store")?);
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = reachable(listener.local_addr()?);
    let shutdown = Shutdown::new();
    let audit = AuditLog::open(
        audit::Options::new(data_dir.join("audit.log")),
        audit::Policy::default(),
    )
    .context("cannot open the audit log")?;
    let erased: Arc<dyn Store> = store.clone();
    let server = ApiServer::builder(erased, pki.clone())
        .manifests(setpoint_inference::kinds::definitions())
        .bootstrap(control::bootstrap())
        .measures(control::measures())
        .audit(audit)
        .advertise(address.to_string())
        .shutdown(shutdown.clone())
        .start()
        .await
        .context("cannot start the API server")?;
    let url = format!("https://{address}");
    let ca_pem = pki.ca_pem().to_owned();
    write_kubeconfig(&pki, &data_dir.join("kubeconfig"), &url)?;
    let serving = tokio::spawn(setpoint_apiserver::serve(
        server.clone(),
        listener,
        pki,
        shutdown.clone(),
    ));
    println!(
        "setpoint: serving {url} (kubeconfig {})",
        data_dir.join("kubeconfig").display()
    );
    let control = (!arguments.api_only).then(|| control::start(&server, &ca_pem, shutdown.clone()));
    stop_signal().await;
    tracing::info!("stopping");
    shutdown.cancel();
    if let Some(control) = control {
        control.stopped().await;
    }
    serving.await??;
    Ok(())
}

/// An address that a client on this machine can dial.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn write_kubeconfig(pki: &Pki, path: &Path, url: &str) -> Result<()> {
    let admin = pki.issue_client("setpoint-admin", &["system:masters"], ADMIN_TTL)?;
    let text = kubeconfig(url, pki.ca_pem(), Credential::Certificate(&admin), "setpoint");
    crate::commands::kubeconfig::write_secret(path, &text)
}
