//! The certificate authority: its key, its certificate, and the client certificates that it signs.
//!
//! rcgen makes the authority's and the serving certificate. Client certificates are encoded here, with yasna, because rcgen's
//! `DistinguishedName` is a map with one value an attribute type, while Kubernetes puts each group of a user in an
//! organization of its own.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SigningKey,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
use yasna::{
    DERWriter, DERWriterSeq, Tag,
    models::{GeneralizedTime, ObjectIdentifier, UTCTime},
};

use crate::{CLOCK_SKEW, PkiError, files};

/// How long a new authority is valid: ten years, as kubeadm's.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The longest user or group name, in bytes. RFC 5280 says 64 characters, nobody enforces it, and ServiceAccount names need more.
pub const MAX_NAME_BYTES: usize = 512;
/// The most groups in one certificate: 64 × 512 bytes keeps the TLS Certificate message (16 KiB records) reasonable.
pub const MAX_GROUPS: usize = 64;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const COMMON_NAME: &str = "setpoint-ca";

/// A client's credential.
#[derive(Clone)]
pub struct ClientCert {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// Its private key, PKCS #8 PEM. A secret.
    pub key_pem: String,
}

impl std::fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCert")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
    /// The subject as encoded in the certificate: an issued certificate must repeat these very bytes.
    subject: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl Authority {
    /// Loads the authority; makes one if there is no certificate.
    pub(crate) fn open(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let certificate_path = directory.join(CA_CERTIFICATE);
        let key_path = directory.join(CA_KEY);
        match files::read(&certificate_path)? {
            Some(pem) => {
                let Some(key_pem) = files::read(&key_path)? else {
                    return Err(PkiError::damaged(&key_path, "missing, while ca.crt is there"));
                };
                let authority = Self::parse(&certificate_path, pem, &key_path, &key_pem)?;
                if authority.not_after <= now {
                    return Err(PkiError::AuthorityExpired {
                        path: certificate_path,
                        expired: authority.not_after,
                    });
                }
                Ok(authority)
            }
            // The certificate is written last, so a key without one has never signed anything that anybody trusts.
            None => Self::create(&certificate_path, &key_path, now),
        }
    }

    fn create(certificate_path: &Path, key_path: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, COMMON_NAME);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now - CLOCK_SKEW);
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now + CA_LIFETIME);
        let pem = parameters.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        files::write(key_path, &key_pem)?;
        files::write(certificate_path, &pem)?;
        Self::parse(certificate_path, pem, key_path, &key_pem)
    }

    fn parse(certificate_path: &Path, pem: String, key_path: &Path, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| PkiError::damaged(key_path, error))?;
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::damaged(key_path, "not an ECDSA P-256 key"));
        }
        let damaged = |problem: String| PkiError::damaged(certificate_path, problem);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| damaged(error.to_string()))?;
        if !certificate.is_ca() {
            return Err(damaged("not the certificate of an authority".to_owned()));
        }
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(damaged("does not belong to the key in ca.key".to_owned()));
        }
        let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
            .map_err(|error| damaged(error.to_string()))?;
        let subject = certificate.subject().as_raw().to_vec();
        let key_identifier = certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        Ok(Self {
            pem,
            der: der.clone().into_owned(),
            key,
            subject,
            key_identifier,
            not_after,
        })
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The encoded subject: the issuer of what this authority signs.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The subjectKeyIdentifier.
    pub(crate) fn key_identifier(&self) -> Option<&[u8]> {
        self.key_identifier.as_deref()
    }

    /// The authority's own key as an rcgen issuer.
    pub(crate) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_der(&self.der, &self.key)?)
    }

    /// The moment, at most `wanted`, until which something issued now can be valid.
    pub(crate) fn cap(&self, wanted: Timestamp) -> Timestamp {
        wanted.min(self.not_after)
    }

    pub(crate) fn issue_client(
        &self,
        user: &str,
        groups: &[&str],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<ClientCert, PkiError> {
        check_name("user", user)?;
        if groups.len() > MAX_GROUPS {
            return Err(PkiError::InvalidIdentity(format!(
                "{} groups, at most {MAX_GROUPS} are allowed",
                groups.len()
            )));
        }
        for group in groups {
            check_name("group", group)?;
        }
        let not_after = self.cap(not_after);
        if not_after <= not_before {
            return Err(PkiError::InvalidIdentity(format!(
                "the validity from {not_before} to {not_after} is empty"
            )));
        }
        let key = KeyPair::generate()?;
        let subject = Subject {
            user,
            groups,
            public_key: key.subject_public_key_info(),
            not_before,
            not_after,
        };
        Ok(ClientCert {
            cert_pem: pem_block("CERTIFICATE", &self.sign_client(&subject)?),
            key_pem: key.serialize_pem(),
        })
    }

    /// Encodes and signs a client certificate (RFC 5280, section 4.1).
    fn sign_client(&self, subject: &Subject<'_>) -> Result<Vec<u8>, PkiError> {
        let to_be_signed = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| self.write_to_be_signed(writer, subject));
        });
        let signature = self.key.sign(&to_be_signed)?;
        Ok(yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&to_be_signed);
                write_signature_algorithm(writer.next());
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        }))
    }

    fn write_to_be_signed(&self, writer: &mut DERWriterSeq<'_>, subject: &Subject<'_>) {
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2)); // version 3
        // 16 of the 20 bytes allowed, from the fresh public key: unique without a counter on disk.
        let serial = <sha2::Sha256 as sha2::Digest>::digest(&subject.public_key);
        writer.next().write_bigint_bytes(&serial[..16], true);
        write_signature_algorithm(writer.next());
        writer.next().write_der(&self.subject);
        writer.next().write_sequence(|writer| {
            write_time(writer.next(), subject.not_before);
            write_time(writer.next(), subject.not_after);
        });
        writer.next().write_sequence(|writer| {
            for group in subject.groups {
                write_name(writer.next(), &[2, 5, 4, 10], group); // organizationName
            }
            write_name(writer.next(), &[2, 5, 4, 3], subject.user); // commonName
        });
        writer.next().write_der(&subject.public_key);
        writer.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|writer| self.write_extensions(writer));
        });
    }

    fn write_extensions(&self, writer: &mut DERWriterSeq<'_>) {
        // keyUsage: digitalSignature, which is bit 0
        write_extension(writer, &[2, 5, 29, 15], true, |writer| {
            writer.write_bitvec_bytes(&[0x80], 1);
        });
        // extendedKeyUsage: clientAuth
        write_extension(writer, &[2, 5, 29, 37], false, |writer| {
            writer.write_sequence(|writer| {
                writer
                    .next()
                    .write_oid(&ObjectIdentifier::from_slice(&[1, 3, 6, 1, 5, 5, 7, 3, 2]));
            });
        });
        // basicConstraints: not an authority
        write_extension(writer, &[2, 5, 29, 19], true, |writer| {
            writer.write_sequence(|_| {});
        });
        if let Some(id) = &self.key_identifier {
            // authorityKeyIdentifier
            write_extension(writer, &[2, 5, 29, 35], false, |writer| {
                writer.write_sequence(|writer| {
                    writer
                        .next()
                        .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
    }
}

/// Whom a client certificate is for.
struct Subject<'a> {
    user: &'a str,
    groups: &'a [&'a str],
    /// SubjectPublicKeyInfo, DER.
    public_key: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

fn check_name(what: &str, name: &str) -> Result<(), PkiError> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("is longer than {MAX_NAME_BYTES} bytes")
    } else if name.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(PkiError::InvalidIdentity(format!("the {what} {problem}")))
}

/// ecdsa-with-SHA256 (RFC 5758).
fn write_signature_algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|writer| {
        writer
            .next()
            .write_oid(&ObjectIdentifier::from_slice(&[1, 2, 840, 10045, 4, 3, 2]));
    });
}

/// One attribute as a set of its own: readers then see each value once, whatever they do with sets of several.
fn write_name(writer: DERWriter<'_>, attribute: &[u64], value: &str) {
    writer.write_set(|writer| {
        writer.next().write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(attribute));
            writer.next().write_utf8_string(value);
        });
    });
}

fn write_extension(writer: &mut DERWriterSeq<'_>, id: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(id));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&yasna::construct_der(value));
    });
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280, section 4.1.2.5).
fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let datetime = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(time);
    match UTCTime::from_datetime_opt(datetime) {
        Some(short) => writer.write_utctime(&short),
        None => writer.write_generalized_time(&GeneralizedTime::from_datetime(datetime)),
    }
}

/// Whole seconds from 1970; a time before that is 1970.
pub(crate) fn since_epoch(time: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}

fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // base64 is ASCII, so every index is a boundary; lines of 64 as RFC 7468 asks
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
