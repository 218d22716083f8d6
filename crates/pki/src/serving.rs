//! The serving certificate: made for the names that clients dial, replaced when it no longer fits, swapped under a live listener.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::{
    CLOCK_SKEW, PkiError,
    authority::{Authority, since_epoch},
    files, transport,
};

/// How long a serving certificate is valid: a year, as kubeadm's. It is replaced when a third of that is left.
pub const SERVING_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

const FILE: &str = "serving.pem";

/// Always in the certificate: the loopback, and the names under which Kubernetes clients know the API server.
const STANDARD_SANS: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The serving certificate in use, and the names it must carry.
#[derive(Debug)]
pub(crate) struct Serving {
    sans: BTreeSet<String>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl Serving {
    pub(crate) fn open(
        directory: &Path,
        authority: &Authority,
        sans: &[String],
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let sans = canonical(sans)?;
        let path = directory.join(FILE);
        let kept = files::read(&path)?.and_then(|pem| reusable(&pem, authority, &sans, now));
        let current = match kept {
            Some(current) => current,
            None => issue(&path, authority, &sans, now)?,
        };
        Ok(Self {
            sans,
            current: RwLock::new(current),
        })
    }

    pub(crate) fn renew_if_due(
        &self,
        directory: &Path,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<bool, PkiError> {
        let not_after = self.current.read().unwrap_or_else(PoisonError::into_inner).not_after;
        if !is_due(not_after, now) {
            return Ok(false);
        }
        let renewed = issue(&directory.join(FILE), authority, &self.sans, now)?;
        files::sync_directory(directory)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(true)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}

/// Each name once, in one spelling, so that two lists can be compared.
fn canonical(sans: &[String]) -> Result<BTreeSet<String>, PkiError> {
    let wanted = sans.iter().map(String::as_str).chain(STANDARD_SANS);
    wanted
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => {
                let name = name.to_ascii_lowercase();
                match rustls_pki_types::DnsName::try_from(name.as_str()) {
                    Ok(_) => Ok(name),
                    Err(_) => Err(PkiError::InvalidSan(name)),
                }
            }
        })
        .collect()
}

/// Whether less than a third of a full life is left.
fn is_due(not_after: Timestamp, now: Timestamp) -> bool {
    not_after <= now + SERVING_LIFETIME / 3
}

/// The certificate on disk, if it is whole, ours, for the same names and fresh enough. Anything else is simply replaced.
fn reusable(pem: &str, authority: &Authority, sans: &BTreeSet<String>, now: Timestamp) -> Option<Current> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    // Every authority has the same name, so the key identifier is what tells a former authority from this one.
    let ours = certificate.issuer().as_raw() == authority.subject()
        && signer_of(&certificate).as_deref() == authority.key_identifier();
    if !ours || is_due(not_after, now) || &names_of(&certificate)? != sans {
        return None;
    }
    Some(Current {
        key: certified(pem).ok()?,
        not_after,
    })
}

/// The authorityKeyIdentifier.
fn signer_of(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    let mut extensions = certificate.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

fn names_of(certificate: &X509Certificate<'_>) -> Option<BTreeSet<String>> {
    let extension = certificate.subject_alternative_name().ok()??;
    let mut names = BTreeSet::new();
    for name in &extension.value.general_names {
        names.insert(match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string(),
                16 => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string(),
                _ => return None,
            },
            _ => return None,
        });
    }
    Some(names)
}

fn issue(path: &Path, authority: &Authority, sans: &BTreeSet<String>, now: Timestamp) -> Result<Current, PkiError> {
    let not_after = authority.cap(now + SERVING_LIFETIME);
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = sans
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        })
        .collect::<Result<_, rcgen::Error>>()?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "setpoint-apiserver");
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now - CLOCK_SKEW);
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_after);
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &authority.issuer()?)?;
    // One file holds both, so that no crash can leave a certificate with another's key.
    let pem = certificate.pem() + &key.serialize_pem();
    files::write(path, &pem)?;
    Ok(Current {
        key: certified(&pem)?,
        not_after,
    })
}

fn certified(pem: &str) -> Result<Arc<CertifiedKey>, PkiError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(PkiError::tls)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(PkiError::tls)?;
    let certified = CertifiedKey::from_der(chain, key, &transport::provider()).map_err(PkiError::tls)?;
    Ok(Arc::new(certified))
}
