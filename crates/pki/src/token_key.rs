//! The key that signs ServiceAccount tokens.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use crate::{PkiError, files};

/// An ECDSA P-256 key for ES256 (RFC 7518). Its text forms are what a JWT library and a JWKS document want.
#[derive(Clone)]
pub struct TokenKey {
    private_pem: String,
    public_pem: String,
    public_point: Vec<u8>,
    id: String,
}

impl TokenKey {
    pub(crate) fn open(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join("sa.key");
        match files::read(&path)? {
            Some(pem) => Self::parse(&pem).map_err(|problem| PkiError::damaged(&path, problem)),
            None => {
                let key = Self::generate()?;
                files::write(&path, &key.private_pem)?;
                Ok(key)
            }
        }
    }

    /// A new key that is on no disk; for tests.
    ///
    /// # Errors
    /// [`PkiError::Issue`] when the system has no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(Self::from_pair(&KeyPair::generate()?))
    }

    fn parse(pem: &str) -> Result<Self, String> {
        let pair = KeyPair::from_pem(pem).map_err(|error| error.to_string())?;
        if pair.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err("not an ECDSA P-256 key".to_owned());
        }
        Ok(Self::from_pair(&pair))
    }

    fn from_pair(pair: &KeyPair) -> Self {
        Self {
            private_pem: pair.serialize_pem(),
            public_pem: pair.public_key_pem(),
            public_point: pair.public_key_raw().to_vec(),
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info())),
        }
    }

    /// The private key, PKCS #8 PEM. A secret.
    pub fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// The public key, SubjectPublicKeyInfo PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The public key as an uncompressed point: `0x04`, 32 bytes of x, 32 bytes of y. A JWK is made of them.
    pub fn public_point(&self) -> &[u8] {
        &self.public_point
    }

    /// The key's id (`kid`): base64url of the SHA-256 of the public key's DER, as Kubernetes derives it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}
