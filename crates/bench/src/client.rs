//! HTTP/2 over TLS with the credentials of a kubeconfig; no client library between the measurement and the wire.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;

/// A server and how to get in.
#[derive(Clone)]
pub(crate) struct Target {
    authority: String,
    host: String,
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
}

impl Target {
    /// Reads the current context of a kubeconfig.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))?;
        let current = config["current-context"].as_str().unwrap_or_default();
        let named = |list: &str, name: &str, inner: &str| {
            config[list]
                .as_array()
                .into_iter()
                .flatten()
                .find(|e| e["name"] == name)
                .map(|e| e[inner].clone())
        };
        let context = named("contexts", current, "context").context("the kubeconfig has no current context")?;
        let cluster = named("clusters", context["cluster"].as_str().unwrap_or_default(), "cluster")
            .context("the context names no cluster")?;
        let user = named("users", context["user"].as_str().unwrap_or_default(), "user")
            .context("the context names no user")?;
        let pem = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem(&cluster["certificate-authority-data"])) {
            roots.add(certificate.context("the cluster's CA is not PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut tls = match &user["client-certificate-data"] {
            Value::Null => builder.with_no_client_auth(),
            certificate => {
                let chain = CertificateDer::pem_slice_iter(&pem(certificate)).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"]))?)?
            }
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let server = cluster["server"].as_str().unwrap_or_default();
        let Some(authority) = server.strip_prefix("https://") else {
            bail!("the server {server:?} is not https")
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let host = authority
            .rsplit_once(':')
            .map_or(&*authority, |(h, _)| h)
            .trim_matches(['[', ']'])
            .to_owned();
        Ok(Self {
            authority,
            host,
            tls: Arc::new(tls),
            token: user["token"].as_str().map(str::to_owned),
        })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let socket = tokio::net::TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("cannot connect to {}", self.authority))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let tls = tokio_rustls::TlsConnector::from(self.tls.clone())
            .connect(name, socket)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(tls))
            .await?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            target: self.clone(),
        })
    }
}

/// One connection; requests on it run at the same time.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Sends a request; the answer's head.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let uri = format!("https://{}{path}", self.target.authority);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, content_type);
        if let Some(token) = &self.target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends a request; the whole answer, which must be a success.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        let response = self.send(method, path, "application/json", body).await?;
        let code = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if !code.is_success() {
            bail!(
                "{path}: {code}: {}",
                String::from_utf8_lossy(&answer[..answer.len().min(500)])
            );
        }
        Ok(answer)
    }
}
