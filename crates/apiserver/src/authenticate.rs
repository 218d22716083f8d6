//! Authentication of a request: the connection's certificate or a bearer token, then impersonation.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use setpoint_cache::Cache;
use setpoint_govern::{
    UserInfo,
    authn::{self, AccountLookup, ClientCertificates, Credentials, Impersonation, ServiceAccountTokens, TokenError},
};
use setpoint_meta::{object, status::Status};
use setpoint_pki::{IdentityError, PeerIdentity, Pki};

use crate::{Answer, authorize::Authorization};

/// The chain of authenticators.
pub(crate) struct Authentication {
    chain: authn::Authentication,
    /// Also issues and reviews tokens.
    pub(crate) tokens: Arc<ServiceAccountTokens>,
}

/// The service accounts that exist now, by the watch cache.
struct Accounts(Cache);

impl AccountLookup for Accounts {
    fn account_uid(&self, namespace: &str, name: &str) -> Option<String> {
        let accounts = self.0.resource("/registry/core/serviceaccounts/");
        let account = accounts.get(&format!("/registry/core/serviceaccounts/{namespace}/{name}"))?;
        object::uid(&account.parse()).map(str::to_owned)
    }
}

impl Authentication {
    /// Knows the users of this authority and the service accounts of the store.
    pub(crate) fn new(pki: &Pki, cache: Cache) -> Result<Self, TokenError> {
        let tokens = Arc::new(ServiceAccountTokens::new(
            pki.token_key(),
            [],
            Arc::new(Accounts(cache)),
        )?);
        let chain = authn::Authentication::new()
            .with(ClientCertificates)
            .with(tokens.clone());
        Ok(Self { chain, tokens })
    }

    /// Who a remote request comes from; anonymous without a credential, 401 with a bad one.
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Result<PeerIdentity, IdentityError>>,
        now: Timestamp,
    ) -> Answer<Arc<UserInfo>> {
        let peer = match certificate {
            None => None,
            Some(Ok(peer)) => Some(peer),
            Some(Err(error)) => {
                tracing::info!(%error, "a verified certificate names nobody");
                return Err(Status::unauthorized().into());
            }
        };
        let authorization = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
        match self.chain.authenticate(&Credentials { peer, authorization }, now) {
            Ok(user) => Ok(Arc::new(user)),
            Err(refused) => {
                tracing::info!(%refused, "a credential was refused");
                Err(Status::from(refused).into())
            }
        }
    }

    /// The user that the request acts as, if it asks to act as another and may.
    pub(crate) fn impersonate(
        &self,
        headers: &HeaderMap,
        requester: &UserInfo,
        authorization: &Authorization,
    ) -> Answer<Option<UserInfo>> {
        let pairs = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("impersonate-"))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
        let Some(wanted) = Impersonation::from_headers(pairs)? else {
            return Ok(None);
        };
        Ok(Some(wanted.authorize(requester, &authorization.authorizer)?))
    }
}
