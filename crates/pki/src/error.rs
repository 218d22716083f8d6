//! [`PkiError`].

use std::path::{Path, PathBuf};

/// Why the authority could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there but is not what it must be. It is never overwritten: restore it from a backup, or move the whole `pki`
    /// directory away to start a new authority that no existing client trusts.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The authority's certificate is no longer valid.
    #[error("{}: the certificate authority expired at {expired}; move the pki directory away to start a new one", path.display())]
    AuthorityExpired {
        /// The certificate.
        path: PathBuf,
        /// When.
        expired: jiff::Timestamp,
    },
    /// A user or group that a certificate cannot carry.
    #[error("cannot issue a client certificate: {0}")]
    InvalidIdentity(String),
    /// A subject alternative name that is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    InvalidSan(String),
    /// Making a key or a signature failed.
    #[error("cannot make a key or certificate")]
    Issue(#[from] rcgen::Error),
    /// rustls refused the certificates.
    #[error("TLS configuration refused")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PkiError {
    pub(crate) fn damaged(path: &Path, problem: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn tls(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Tls(Box::new(source))
    }
}
