//! The listener: TLS connections, each served HTTP/1.1 or HTTP/2 by hyper, until shutdown; then a drain.
//!
//! # Bounds
//! Connections, handshake time, header size and time, and streams on a connection are all bounded, so that a client that says little,
//! slowly (slowloris) or opens and cancels without end (rapid reset) costs a little and is cut off.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use setpoint_pki::{PeerIdentity, Pki};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ApiServer, pipeline::Peer};

/// One file descriptor each; well below the usual limit of a service (LimitNOFILE=65536), above any fleet of clients we aim for.
const CONNECTIONS: usize = 20_000;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADER: Duration = Duration::from_secs(10);
/// Kubernetes' limit on streams of a connection.
const STREAMS: u32 = 100;
/// How long open requests may take after shutdown has begun.
const DRAIN: Duration = Duration::from_secs(10);

/// Cancelled when the server is to stop.
pub type Shutdown = CancellationToken;

/// The listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS configuration is unusable.
    #[error("the serving certificate cannot be used")]
    Tls(#[from] setpoint_pki::PkiError),
}

/// Serves `listener` until `shutdown`, then drains.
pub async fn serve(
    server: ApiServer,
    listener: TcpListener,
    pki: Arc<Pki>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(pki.server_config()?);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let (socket, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors, most likely: give connections a moment to end
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let (server, acceptor, shutdown) = (server.clone(), acceptor.clone(), shutdown.clone());
        tracker.spawn(async move {
            let _slot = slot;
            let _ = socket.set_nodelay(true);
            let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await else {
                return;
            };
            connection(server, tls, address, shutdown).await;
        });
    }
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!(
            open = tracker.len(),
            "connections were still open when the drain time was over"
        );
    }
    Ok(())
}

async fn connection(
    server: ApiServer,
    tls: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    address: SocketAddr,
    shutdown: Shutdown,
) {
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|der| PeerIdentity::from_der(der));
    let peer = Arc::new(Peer::Remote { address, certificate });
    let service = hyper::service::service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(server.handle(request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let connection = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}
