//! Who is at the other end of a connection, by the certificate that it presented.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The identity in a client certificate that the TLS handshake has *already verified*. Parsing verifies nothing: never build one
/// from bytes that did not come from the verified peer chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The subject's common name.
    pub user: String,
    /// The subject's organizations, in order.
    pub groups: Vec<String>,
    /// SHA-256 of the certificate's DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
}

/// A verified certificate that still names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not X.509.
    #[error("not an X.509 certificate")]
    Malformed,
    /// The subject has no common name, or an empty one.
    #[error("the certificate's subject has no common name")]
    NoUser,
    /// The subject has several common names: readers would disagree about which is the user.
    #[error("the certificate's subject has more than one common name")]
    AmbiguousUser,
    /// A name in an encoding other than UTF-8, printable or IA5.
    #[error("the certificate's subject holds a name that is not text")]
    NotText,
}

impl PeerIdentity {
    /// Reads the end-entity certificate of a verified chain.
    ///
    /// # Errors
    /// See [`IdentityError`]; the request is then unauthenticated (401), not anonymous.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
        let subject = certificate.subject();
        let mut users = subject.iter_common_name();
        let user = users.next().ok_or(IdentityError::NoUser)?;
        if users.next().is_some() {
            return Err(IdentityError::AmbiguousUser);
        }
        let user = user.as_str().map_err(|_| IdentityError::NotText)?;
        if user.is_empty() {
            return Err(IdentityError::NoUser);
        }
        let groups = subject
            .iter_organization()
            .map(|group| group.as_str().map(str::to_owned))
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::NotText)?;
        let validity = certificate.validity();
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| IdentityError::Malformed);
        Ok(Self {
            user: user.to_owned(),
            groups,
            fingerprint: hex::encode(Sha256::digest(der)),
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        })
    }

    /// Whether the certificate is valid at `now`. The handshake checked it once; a connection, or a session that was resumed, may
    /// outlive that.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}
