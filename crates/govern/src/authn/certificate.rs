//! Client certificates: the common name is the user, the organizations are the groups.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Authenticator, Credentials, Outcome};
use crate::{UserInfo, user::CREDENTIAL_ID};

/// Knows callers by the certificate that the TLS handshake verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificates;

impl Authenticator for ClientCertificates {
    fn name(&self) -> &'static str {
        "client certificate"
    }

    fn authenticate(&self, credentials: &Credentials<'_>, now: Timestamp) -> Outcome {
        let Some(peer) = credentials.peer else {
            return Outcome::NotMine;
        };
        // The handshake checked the time once, and not at all for a resumed session; connections live for days.
        if !peer.is_valid_at(now) {
            return Outcome::Refused(format!(
                "the certificate of {:?} is valid from {} to {} only",
                peer.user, peer.not_before, peer.not_after
            ));
        }
        let id = format!("X509SHA256={}", peer.fingerprint);
        Outcome::Known(UserInfo {
            extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![id])]),
            ..UserInfo::new(peer.user.as_str(), peer.groups.iter().cloned())
        })
    }
}
