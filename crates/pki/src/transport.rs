//! The two TLS configurations: the listener's and a client's. Both name their crypto provider; neither touches the process default.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{ClientCert, PkiError, authority::Authority, serving::Serving};

/// TLS 1.3 first. TLS 1.2 stays for older clients; rustls offers only its AEAD suites with forward secrecy.
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn server_config(authority: &Authority, serving: Arc<Serving>) -> Result<Arc<ServerConfig>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone()).map_err(PkiError::tls)?;
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        // No certificate is no offence: bearer tokens and anonymous requests come without one.
        .allow_unauthenticated()
        .build()
        .map_err(PkiError::tls)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(PkiError::tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client's configuration that trusts `ca_pem` only and presents `credential` if there is one. ALPN is left empty: an HTTP
/// library sets its own.
///
/// # Errors
/// [`PkiError::Tls`] for PEM that holds no certificate or key, or a key that does not fit its certificate.
pub fn client_config(ca_pem: &str, credential: Option<&ClientCert>) -> Result<ClientConfig, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(PkiError::tls)?).map_err(PkiError::tls)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(PkiError::tls)?
        .with_root_certificates(roots);
    let Some(credential) = credential else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(credential.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(PkiError::tls)?;
    let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).map_err(PkiError::tls)?;
    builder.with_client_auth_cert(chain, key).map_err(PkiError::tls)
}
