//! Authentication: who is at the other end.
//!
//! Each way to prove it is an [`Authenticator`] in a file of its own; [`Authentication`] asks them in order, and the first that
//! knows the caller wins.
//!
//! # Guarantees
//! - A credential that was presented and that nobody accepts is a 401. It never makes the caller anonymous, so a mistyped token
//!   does not quietly become somebody with fewer rights.
//! - Nobody learns from the response why a credential was refused; [`Refused`] carries it for the log.
//! - Tokens are compared by their SHA-256, so neither time nor memory tells how much of a guess was right.
//!
//! # How to get it wrong
//! Keeping a [`UserInfo`] for the life of a connection. Parsing the certificate once a connection is right; asking
//! [`Authentication::authenticate`] must happen for each request, because certificates and tokens expire meanwhile.

mod certificate;
pub mod impersonation;
mod service_account;
mod token_file;

use std::fmt;

use jiff::Timestamp;
use setpoint_meta::Status;
use setpoint_pki::PeerIdentity;
use sha2::{Digest, Sha256};

use crate::{UserInfo, user::AUTHENTICATED};

pub use certificate::ClientCertificates;
pub use impersonation::Impersonation;
pub use service_account::{
    AccountLookup, ISSUER, IssuedToken, MAX_EXPIRATION_SECONDS, MIN_EXPIRATION_SECONDS, ServiceAccountTokens,
    TokenError, TokenRequest,
};
pub use token_file::{TokenFile, TokenFileError};

/// The longest bearer token, in bytes; ServiceAccount tokens are about 1 KiB. Longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a request brings to prove who it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The identity of the connection's verified client certificate.
    pub peer: Option<&'a PeerIdentity>,
    /// The value of the `Authorization` header, as sent.
    pub authorization: Option<&'a [u8]>,
}

impl<'a> Credentials<'a> {
    /// The bearer token (RFC 6750), if the header is one.
    pub fn bearer(&self) -> Option<&'a str> {
        let header = std::str::from_utf8(self.authorization?).ok()?;
        let (scheme, token) = header.trim().split_once(' ')?;
        let token = token.trim();
        let usable = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
        usable.then_some(token)
    }
}

/// What one authenticator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is no credential of its kind, or it is one that another may know.
    NotMine,
    /// It is this user. The chain adds [`AUTHENTICATED`].
    Known(UserInfo),
    /// The credential is of its kind and is no good.
    Refused(String),
}

/// One way to prove who one is.
pub trait Authenticator: Send + Sync {
    /// Its name, for the log.
    fn name(&self) -> &'static str;

    /// Judges the credentials at `now`. Must not wait: keys and snapshots are at hand.
    fn authenticate(&self, credentials: &Credentials<'_>, now: Timestamp) -> Outcome;
}

/// A credential was presented and nobody accepted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Authenticator and reason; empty when none recognised the credential. For the log, never for the client.
    pub reasons: Vec<(&'static str, String)>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("no authenticator recognises the credential");
        }
        for (index, (name, reason)) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: {reason}")?;
        }
        Ok(())
    }
}

impl From<Refused> for Status {
    fn from(_: Refused) -> Self {
        Self::unauthorized()
    }
}

/// The authenticators, in the order in which they are asked.
#[derive(Default)]
pub struct Authentication {
    chain: Vec<Box<dyn Authenticator>>,
}

impl Authentication {
    /// Knows nobody: everybody without a credential is anonymous, everybody with one is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this one after those before.
    #[must_use]
    pub fn with(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.chain.push(Box::new(authenticator));
        self
    }

    /// Who the request comes from: [`UserInfo::anonymous`] when it carries no credential. What anonymous users may do is RBAC's
    /// business (health and discovery, by the default roles).
    ///
    /// # Errors
    /// [`Refused`] (401) when there is a credential that nobody accepts.
    pub fn authenticate(&self, credentials: &Credentials<'_>, now: Timestamp) -> Result<UserInfo, Refused> {
        if credentials.peer.is_none() && credentials.authorization.is_none() {
            return Ok(UserInfo::anonymous());
        }
        let mut refused = Refused::default();
        for authenticator in &self.chain {
            match authenticator.authenticate(credentials, now) {
                Outcome::NotMine => {}
                Outcome::Known(mut user) => {
                    user.join(AUTHENTICATED);
                    return Ok(user);
                }
                Outcome::Refused(why) => refused.reasons.push((authenticator.name(), why)),
            }
        }
        Err(refused)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.chain.iter().map(|authenticator| authenticator.name());
        f.debug_list().entries(names).finish()
    }
}

type TokenHash = [u8; 32];

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests;
