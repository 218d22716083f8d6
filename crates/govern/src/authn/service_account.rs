//! ServiceAccount tokens: JWTs (RFC 7519) that this server signs with ES256 and verifies itself.
//!
//! The JWS work is jsonwebtoken's, with its pure-Rust backend: a well-kept library reads what strangers send. Its own time checks
//! read the computer's clock, so they are off and done here with the time of the request. An ECDSA verification is the dear part, so claims
//! whose *signature* was verified are remembered by the token's hash; time and the account are checked on every use.
//!
//! # How to get it wrong
//! Reading `alg` from the token to choose how to verify it. Here only ES256 with our own key is ever tried.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use setpoint_pki::TokenKey;

use super::{Authenticator, Credentials, Outcome, TokenHash, hash};
use crate::{
    UserInfo,
    user::{CREDENTIAL_ID, service_account_user},
};

/// The `iss` of our tokens, and the default audience: Kubernetes' name for "the API server of this cluster".
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// The shortest life of a token, as in Kubernetes: ten minutes.
pub const MIN_EXPIRATION_SECONDS: i64 = 600;
/// The longest life of a token, as in Kubernetes: 2^32 seconds.
pub const MAX_EXPIRATION_SECONDS: i64 = 1 << 32;
/// Remembered tokens: 4,096 × about 0.5 KiB = 2 MiB. When full, all are forgotten, which costs each one verification.
const MAX_REMEMBERED: usize = 4096;
/// How far in the future `nbf` may lie: another server's clock may be ahead.
const NBF_LEEWAY_SECONDS: i64 = 60;

/// The uid of a service account that exists now. A token whose account is gone, or was made again, is no good.
pub trait AccountLookup: Send + Sync {
    /// `None` when there is no such account.
    fn account_uid(&self, namespace: &str, name: &str) -> Option<String>;
}

impl<F: Fn(&str, &str) -> Option<String> + Send + Sync> AccountLookup for F {
    fn account_uid(&self, namespace: &str, name: &str) -> Option<String> {
        self(namespace, name)
    }
}

/// What a token is asked for (the parts of a TokenRequest).
#[derive(Clone, Debug, Default)]
pub struct TokenRequest<'a> {
    /// The account's namespace.
    pub namespace: &'a str,
    /// The account's name.
    pub name: &'a str,
    /// The account's uid.
    pub uid: &'a str,
    /// For whom; empty = for this API server.
    pub audiences: Vec<String>,
    /// Its life; the caller's default is 3600.
    pub expiration_seconds: i64,
}

/// A token and when it ends.
#[derive(Clone)]
pub struct IssuedToken {
    /// The JWT. A secret.
    pub token: String,
    /// Its last moment.
    pub expiration: Timestamp,
}

/// Why a token cannot be made or the key not used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Shorter than [`MIN_EXPIRATION_SECONDS`].
    #[error("may not specify a duration less than 10 minutes")]
    TooShort,
    /// Longer than [`MAX_EXPIRATION_SECONDS`].
    #[error("may not specify a duration larger than 2^32 seconds")]
    TooLong,
    /// The key is not one for ES256.
    #[error("the token key cannot be used")]
    Key(#[source] jsonwebtoken::errors::Error),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    aud: Audiences,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
    nbf: i64,
    sub: String,
}

/// RFC 7519 lets a single audience be a plain text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

impl Audiences {
    fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::Many(all) => all.iter(),
            Self::One(one) => std::slice::from_ref(one).iter(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KubernetesClaims {
    namespace: String,
    serviceaccount: Reference,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

/// Issues tokens, and knows callers by them.
pub struct ServiceAccountTokens {
    private: EncodingKey,
    public: DecodingKey,
    public_point: Vec<u8>,
    key_id: String,
    audiences: Vec<String>,
    accounts: Arc<dyn AccountLookup>,
    verified: Mutex<HashMap<TokenHash, Arc<Claims>>>,
}

impl ServiceAccountTokens {
    /// Signs and verifies with this key. `audiences` are those that this API server answers to, besides [`ISSUER`].
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn new(
        key: &TokenKey,
        audiences: impl IntoIterator<Item = String>,
        accounts: Arc<dyn AccountLookup>,
    ) -> Result<Self, TokenError> {
        // Which backend is used is the whole process's choice in this library; say it, so that no other feature set can turn the
        // first token into a panic. An earlier choice by somebody else stands and is as good.
        let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
        let private = EncodingKey::from_ec_pem(key.private_pem().as_bytes());
        let public = DecodingKey::from_ec_pem(key.public_pem().as_bytes());
        Ok(Self {
            private: private.map_err(TokenError::Key)?,
            public: public.map_err(TokenError::Key)?,
            public_point: key.public_point().to_vec(),
            key_id: key.id().to_owned(),
            audiences: std::iter::once(ISSUER.to_owned()).chain(audiences).collect(),
            accounts,
            verified: Mutex::default(),
        })
    }

    /// Makes a token. The caller has checked that the account exists and that the user may `create` its `token` subresource.
    ///
    /// # Errors
    /// A life outside the bounds.
    pub fn issue(&self, request: &TokenRequest<'_>, now: Timestamp) -> Result<IssuedToken, TokenError> {
        if request.expiration_seconds < MIN_EXPIRATION_SECONDS {
            return Err(TokenError::TooShort);
        }
        if request.expiration_seconds > MAX_EXPIRATION_SECONDS {
            return Err(TokenError::TooLong);
        }
        let audiences = match request.audiences.as_slice() {
            [] => self.audiences.clone(),
            asked => asked.to_vec(),
        };
        let issued = now.as_second();
        let expiration = now + SignedDuration::from_secs(request.expiration_seconds);
        let claims = Claims {
            aud: Audiences::Many(audiences),
            exp: expiration.as_second(),
            iat: issued,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes: KubernetesClaims {
                namespace: request.namespace.to_owned(),
                serviceaccount: Reference {
                    name: request.name.to_owned(),
                    uid: request.uid.to_owned(),
                },
            },
            nbf: issued,
            sub: service_account_user(request.namespace, request.name),
        };
        let header = Header {
            typ: None,
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.private).map_err(TokenError::Key)?;
        Ok(IssuedToken { token, expiration })
    }

    /// The public key as a JWK set (RFC 7517): the answer of `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: one byte of form, 32 of x, 32 of y.
        let (x, y) = self
            .public_point
            .get(1..)
            .unwrap_or(&[])
            .split_at_checked(32)
            .unwrap_or_default();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }

    /// Judges a token at `now`, for a TokenReview too. `audiences` must meet those of the token; empty = this API server's.
    pub fn review(&self, token: &str, audiences: &[String], now: Timestamp) -> Outcome {
        if !is_ours(token) {
            return Outcome::NotMine;
        }
        let claims = match self.verified_claims(token) {
            Ok(claims) => claims,
            Err(why) => return Outcome::Refused(why),
        };
        match self.check(&claims, audiences, now) {
            Ok(()) => Outcome::Known(user(&claims)),
            Err(why) => Outcome::Refused(why.to_owned()),
        }
    }

    fn verified_claims(&self, token: &str) -> Result<Arc<Claims>, String> {
        let key = hash(token);
        if let Some(claims) = self.verified.lock().get(&key) {
            return Ok(Arc::clone(claims));
        }
        let claims = Arc::new(self.verify(token).map_err(|error| error.to_string())?);
        let mut verified = self.verified.lock();
        if verified.len() >= MAX_REMEMBERED {
            verified.clear();
        }
        verified.insert(key, Arc::clone(&claims));
        Ok(claims)
    }

    /// The claims of a token that our key signed.
    fn verify(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        let header = jsonwebtoken::decode_header(token)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: what is critical and not understood must be refused. We understand none.
            return Err(jsonwebtoken::errors::ErrorKind::InvalidToken.into());
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Time and audience depend on the moment and the question: see `check`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(jsonwebtoken::decode::<Claims>(token, &self.public, &validation)?.claims)
    }

    fn check(&self, claims: &Claims, audiences: &[String], now: Timestamp) -> Result<(), &'static str> {
        let now = now.as_second();
        if claims.exp <= now {
            return Err("the token has expired");
        }
        if claims.nbf > now + NBF_LEEWAY_SECONDS {
            return Err("the token is not valid yet");
        }
        let wanted = if audiences.is_empty() {
            &self.audiences
        } else {
            audiences
        };
        if !claims.aud.iter().any(|audience| wanted.contains(audience)) {
            return Err("the token is for another audience");
        }
        let KubernetesClaims {
            namespace,
            serviceaccount,
        } = &claims.kubernetes;
        if claims.sub != service_account_user(namespace, &serviceaccount.name) {
            return Err("the token's subject is not its service account");
        }
        match self.accounts.account_uid(namespace, &serviceaccount.name) {
            None => Err("the service account does not exist"),
            Some(uid) if uid != serviceaccount.uid => Err("the service account was deleted and made again"),
            Some(_) => Ok(()),
        }
    }
}

/// Whether the token claims to be from us. Nothing is verified: this only decides who verifies it.
fn is_ours(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Issuer>(&bytes).ok());
    claims.is_some_and(|claims| claims.iss == ISSUER)
}

fn user(claims: &Claims) -> UserInfo {
    let KubernetesClaims {
        namespace,
        serviceaccount: Reference { name, uid },
    } = &claims.kubernetes;
    let id = format!("JTI={}", claims.jti);
    UserInfo {
        extra: BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![id])]),
        ..UserInfo::service_account(namespace, name, uid)
    }
}

impl Authenticator for Arc<ServiceAccountTokens> {
    fn name(&self) -> &'static str {
        "service account token"
    }

    fn authenticate(&self, credentials: &Credentials<'_>, now: Timestamp) -> Outcome {
        let Some(token) = credentials.bearer() else {
            return Outcome::NotMine;
        };
        self.review(token, &[], now)
    }
}

impl std::fmt::Debug for ServiceAccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountTokens")
            .field("key_id", &self.key_id)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}
