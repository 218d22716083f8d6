//! `setpoint kubeconfig`

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use setpoint_pki::{Credential, Pki, kubeconfig};

/// Makes credentials with the server's own certificate authority. Needs its data directory.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a kubeconfig with a client certificate for a user
    ///
    /// What the user may do is for RBAC to say: bind a role, as in
    /// kubectl create rolebinding dev --clusterrole=edit --user=alice -n team-a
    Create(Create),
}

#[derive(clap::Args)]
struct Create {
    /// The user name
    user: String,
    /// Groups of the user
    #[arg(long = "group")]
    groups: Vec<String>,
    /// The server's data directory
    #[arg(long)]
    data_dir: PathBuf,
    /// The server's URL; that of DATA-DIR/kubeconfig if not given
    #[arg(long)]
    server: Option<String>,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Where to write it; standard output if not given
    #[arg(short, long)]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let Command::Create(create) = arguments.command;
    if !create.data_dir.join("pki").is_dir() {
        bail!(
            "{} is not the data directory of a server: it has no pki/ (start the server once)",
            create.data_dir.display()
        );
    }
    let server = match create.server {
        Some(server) => server,
        None => admin_server(&create.data_dir)?,
    };
    let pki = Pki::open(&create.data_dir, &[])?;
    let certificate = pki.issue_client(
        &create.user,
        &create.groups,
        Duration::from_secs(u64::from(create.days) * 24 * 3600),
    )?;
    let text = kubeconfig(
        &server,
        pki.ca_pem(),
        Credential::Certificate(&certificate),
        &create.user,
    );
    match create.output {
        Some(path) => write_secret(&path, &text),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// The URL in the administrator's kubeconfig.
fn admin_server(data_dir: &Path) -> Result<String> {
    let path = data_dir.join("kubeconfig");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}; say --server URL", path.display()))?;
    let config: serde_json::Value =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
    let server = config.pointer("/clusters/0/cluster/server").and_then(|s| s.as_str());
    server
        .map(str::to_owned)
        .with_context(|| format!("{} names no server; say --server URL", path.display()))
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
