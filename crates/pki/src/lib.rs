//! The server's own certificate authority, kept in one directory.
//!
//! # Guarantees
//! - After [`Pki::open`] returns, `DIR/pki` holds a complete authority: `ca.crt`, `ca.key`, `serving.pem` (certificate, then key)
//!   and `sa.key` (the ES256 key that signs ServiceAccount tokens). Each file has mode 0600 and is written whole or not at all, so a
//!   `kill -9` at any instant leaves a directory that the next `open` completes.
//! - An authority or a token key that exists is never replaced: that would cut off everybody who trusts it. A file that is present
//!   but unreadable is an error that names the file, never a reason to start over.
//! - The serving certificate is replaced whenever it no longer fits (names, issuer, age); clients trust the authority, not it.
//! - TLS uses rustls with the *ring* provider, passed explicitly. The process-wide default provider is neither read nor set.
//!
//! # Assumptions
//! - One process opens a directory at a time. The store's lock on the data directory ensures that; nothing here locks.
//! - The clock is right to within [`CLOCK_SKEW`].
//!
//! # How to get it wrong
//! - Trusting the handshake alone. A connection may outlive the client's certificate, and a resumed session is not verified again:
//!   check [`PeerIdentity::is_valid_at`] on every request, as `setpoint-govern` does.
//! - Comparing identities by user name to find a *credential*: two certificates may carry one name. Use the fingerprint.

mod authority;
mod error;
mod files;
mod identity;
mod kubeconfig;
mod serving;
mod token_key;
mod transport;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rustls::ServerConfig;

pub use authority::{CA_LIFETIME, ClientCert, MAX_GROUPS, MAX_NAME_BYTES};
pub use error::PkiError;
pub use identity::{IdentityError, PeerIdentity};
pub use kubeconfig::{Credential, kubeconfig};
pub use serving::SERVING_LIFETIME;
pub use token_key::TokenKey;
pub use transport::client_config;

use authority::Authority;
use serving::Serving;

/// How far clocks may differ: every certificate starts to be valid this much before it was issued.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The authority, the serving certificate and the token key of one server. See the crate's documentation.
pub struct Pki {
    directory: PathBuf,
    authority: Authority,
    serving: Arc<Serving>,
    token_key: TokenKey,
}

impl Pki {
    /// Opens the authority under `directory/pki`, creating what is missing. `sans` are the DNS names and IP addresses that clients
    /// dial; the loopback names and Kubernetes' in-cluster names are always added.
    ///
    /// # Errors
    /// A file that cannot be read, written or parsed; keys that do not belong together; an expired authority; a SAN that is
    /// neither a DNS name nor an IP address.
    pub fn open(directory: &Path, sans: &[String]) -> Result<Self, PkiError> {
        Self::open_at(directory, sans, Timestamp::now())
    }

    /// [`Pki::open`] with the time given, for tests of rotation.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn open_at(directory: &Path, sans: &[String], now: Timestamp) -> Result<Self, PkiError> {
        let directory = directory.join("pki");
        files::create_directory(&directory)?;
        let authority = Authority::open(&directory, now)?;
        let token_key = TokenKey::open(&directory)?;
        let serving = Arc::new(Serving::open(&directory, &authority, sans, now)?);
        files::sync_directory(&directory)?;
        Ok(Self {
            directory,
            authority,
            serving,
            token_key,
        })
    }

    /// The authority's certificate, PEM: what clients must trust.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The key that signs ServiceAccount tokens.
    pub fn token_key(&self) -> &TokenKey {
        &self.token_key
    }

    /// The configuration of the HTTPS listener: TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`, client certificates optional and, when
    /// presented, verified against this authority. It follows later [`Pki::renew_serving`] calls by itself.
    ///
    /// # Errors
    /// [`PkiError::Tls`] when rustls refuses the authority's certificate as a root.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        transport::server_config(&self.authority, Arc::clone(&self.serving))
    }

    /// Replaces the serving certificate if less than a third of its life is left; new handshakes use the new one at once, open
    /// connections go on. Returns whether it was replaced. Call it daily.
    ///
    /// # Errors
    /// As [`Pki::open`]; the old certificate then stays in use.
    pub fn renew_serving(&self, now: Timestamp) -> Result<bool, PkiError> {
        self.serving.renew_if_due(&self.directory, &self.authority, now)
    }

    /// Issues a client certificate for `user` in `groups`, valid from now (less [`CLOCK_SKEW`]) for `ttl`, but never longer than
    /// the authority itself. As in Kubernetes the user is the subject's common name and each group an organization.
    ///
    /// # Errors
    /// [`PkiError::InvalidIdentity`] for an empty user, a control character, a name over [`MAX_NAME_BYTES`] or more than
    /// [`MAX_GROUPS`] groups.
    pub fn issue_client<G: AsRef<str>>(&self, user: &str, groups: &[G], ttl: Duration) -> Result<ClientCert, PkiError> {
        let now = Timestamp::now();
        self.issue_client_between(user, groups, now - CLOCK_SKEW, now + ttl)
    }

    /// [`Pki::issue_client`] with both ends of the validity given.
    ///
    /// # Errors
    /// As [`Pki::issue_client`]; also when the validity is empty.
    pub fn issue_client_between<G: AsRef<str>>(
        &self,
        user: &str,
        groups: &[G],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<ClientCert, PkiError> {
        let groups: Vec<&str> = groups.iter().map(AsRef::as_ref).collect();
        self.authority.issue_client(user, &groups, not_before, not_after)
    }
}

#[cfg(test)]
mod tests;
