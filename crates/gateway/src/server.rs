//! [`Gateway`]: the watches that feed the routes, the listener, and the drain at the end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt, reflector,
        watcher::{self, watcher},
    },
};
use setpoint_inference::kinds::{Autoscaler, ModelRoute, Replica};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{metrics::Metrics, proxy::Proxy, routes::Routes, signals};

/// How long requests in flight may take once the gateway is stopping.
const DRAIN: Duration = Duration::from_secs(30);

/// How a gateway runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name: unique among the gateways of a control plane, since it signs its measurements with it.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// The gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    options: Options,
    client: Client,
}

impl Gateway {
    /// Binds the listener.
    pub async fn bind(client: Client, options: Options) -> Result<Self, GatewayError> {
        let address = options.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| GatewayError::Listen { address, source })?;
        Ok(Self {
            listener,
            options,
            client,
        })
    }

    /// Where it listens: the port that was chosen if the options said 0.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.options.listen)
    }

    /// Routes until shutdown, then lets what is in flight finish.
    pub async fn run(self, shutdown: CancellationToken) {
        let routes = Arc::new(Routes::default());
        let (route_store, route_events) = follow::<ModelRoute>(&self.client);
        let (replica_store, replica_events) = follow::<Replica>(&self.client);
        let (autoscalers, autoscaler_events) = follow::<Autoscaler>(&self.client);
        let table = routes.clone();
        let rebuild = async move {
            let mut events = futures::stream::select(route_events, replica_events);
            // one rebuild for all that has come in the meantime
            while events.next().await.is_some() {
                while futures::future::poll_immediate(events.next()).await.flatten().is_some() {}
                table.rebuild(&route_store.state(), &replica_store.state());
            }
        };
        let report = signals::run(
            self.client.clone(),
            self.options.name.clone(),
            routes.clone(),
            autoscalers,
            shutdown.clone(),
        );
        let proxy = Arc::new(Proxy::new(routes, Metrics::default()));
        tokio::select! {
            () = serve(self.listener, proxy, shutdown.clone()) => {}
            () = async { tokio::join!(rebuild, autoscaler_events.for_each(|()| async {}), report); } => {}
        }
    }
}

/// A watch kept in a store, over every namespace; it outlives a lost API server with what it last saw.
fn follow<K>(client: &Client) -> (reflector::Store<K>, impl Stream<Item = ()> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let api: Api<K> = Api::all(client.clone());
    let events = reflector::reflector(writer, watcher(api, watcher::Config::default()).default_backoff());
    let events = events.filter_map(|event| async move {
        match event {
            // within a re-list the store shows the old state; it is replaced at its end
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(()),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a watch was interrupted; routing by what was last seen");
                None
            }
        }
    });
    (store, Box::pin(events))
}

async fn serve(listener: TcpListener, proxy: Arc<Proxy>, shutdown: CancellationToken) {
    let tracker = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let _ = socket.set_nodelay(true);
        let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
        tracker.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let proxy = proxy.clone();
                async move { Ok::<_, std::convert::Infallible>(proxy.handle(request).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30));
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1_000);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
}
