//! `setpoint gateway`

use std::net::SocketAddr;

use anyhow::Result;
use setpoint_gateway::{Gateway, Options};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::{ClientArguments, stop_signal},
    logging::Logging,
};

/// Takes OpenAI-compatible requests and passes them on to ready replicas. It keeps routing while the server is away.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7480")]
    listen: SocketAddr,
    /// Its name, unique among gateways
    #[arg(long, default_value = "gateway-0")]
    name: String,
    #[command(flatten)]
    logging: Logging,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    arguments.logging.start()?;
    let client = arguments.client.client().await?;
    let gateway = Gateway::bind(
        client,
        Options {
            name: arguments.name,
            listen: arguments.listen,
        },
    )
    .await?;
    println!("setpoint gateway: serving http://{}", gateway.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        stop.cancel();
    });
    gateway.run(shutdown).await;
    Ok(())
}
