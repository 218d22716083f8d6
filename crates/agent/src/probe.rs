//! One look at an engine's health path.
//!
//! Healthy is any status from 200 to 399, as in Kubernetes' HTTP probes. Each look makes its own connection: one that was kept open would
//! say that a server lives which takes no new ones.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

/// Why a look failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("nothing listens on {0}")]
    Connect(SocketAddr),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection broke before an answer")]
    Broken,
    #[error("{path} answers {status}")]
    Status { path: String, status: u16 },
    #[error("another program listens on {0}")]
    Stranger(SocketAddr),
}

/// Asks `address` for `path` once.
pub(crate) async fn look(address: SocketAddr, path: &str, timeout: Duration) -> Result<(), ProbeError> {
    match tokio::time::timeout(timeout, ask(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::Timeout(timeout)),
    }
}

async fn ask(address: SocketAddr, path: &str) -> Result<(), ProbeError> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|_| ProbeError::Connect(address))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| ProbeError::Broken)?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "setpoint-agent")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Broken)?;
    let answer = async {
        let response = sender.send_request(request).await;
        response.map(|response| response.status().as_u16())
    };
    // the connection is driven for as long as the answer's head takes; the body is not read
    let mut answer = std::pin::pin!(answer);
    let status = tokio::select! {
        biased;
        status = answer.as_mut() => status,
        // a connection that is closed after the answer has delivered it first
        _ = connection => answer.await,
    }
    .map_err(|_| ProbeError::Broken)?;
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(ProbeError::Status {
        path: path.to_owned(),
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use setpoint_testkit::engine::{EngineOptions, TestEngine};

    #[tokio::test]
    async fn tells_what_it_sees() {
        let engine = TestEngine::start(EngineOptions::default()).await.unwrap();
        let address = engine.address();
        let second = Duration::from_secs(5);
        assert_eq!(look(address, "/health", second).await, Ok(()));
        engine.set_failing(true);
        let unhealthy = look(address, "/health", second).await;
        assert_eq!(unhealthy.unwrap_err().to_string(), "/health answers 503");
        drop(engine);
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let short = Duration::from_millis(50);
        assert_eq!(look(address, "/", short).await, Err(ProbeError::Timeout(short)));
        drop(silent);
        assert_eq!(look(address, "/", second).await, Err(ProbeError::Connect(address)));
    }
}
