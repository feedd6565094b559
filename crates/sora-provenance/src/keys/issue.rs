//! Development chains and certificate signing requests.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::private::PrivateKey;
use super::{DEVELOPMENT, EPHEMERAL, KeyAlgorithm, refused};
use crate::ProvenanceError;

/// C2PA's own key purpose, claim signing (C2PA conformance program).
const CLAIM_SIGNING: [u64; 9] = [1, 3, 6, 1, 4, 1, 62558, 2, 1];
/// Days that a development chain is valid; the conformance program allows 366.
const DAYS: i64 = 365;
/// Longest name in a certificate, in characters (X.520's upper bound for organizations and common names).
const NAME_CHARACTERS: usize = 64;

/// A root, a chain under it, and the key of the chain's first certificate. For trials on one's own machines.
pub struct DevelopmentChain {
    /// PEM of the root certificate, the trust anchor for those who want to verify. Its key is gone.
    pub root: String,
    /// PEM of the signer's certificate and of the intermediate one.
    pub chain: String,
    /// PKCS#8 PEM of the signer's key.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for DevelopmentChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentChain")
            .field("root", &self.root)
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// Makes a development chain: root, intermediate and signer, valid for a year from yesterday on. The subjects
/// say that they are for development and prove no origin. The keys of root and intermediate are forgotten.
///
/// # Errors
/// [`ProvenanceError::Keys`] for an organization that is empty or longer than 64 characters, and where the
/// system gives no random numbers.
pub fn development_chain(
    algorithm: KeyAlgorithm,
    organization: &str,
) -> Result<DevelopmentChain, ProvenanceError> {
    issue(algorithm, organization, "Development signer", |_| {})
}

/// A chain for this process only.
pub(super) fn ephemeral() -> Result<DevelopmentChain, ProvenanceError> {
    issue(KeyAlgorithm::Ed25519, "Unknown (ephemeral development certificate)", EPHEMERAL, |_| {})
}

/// Makes a key and a certificate signing request (PKCS#10) for it, for a certificate authority on C2PA's list.
/// Returns the request as PEM and the key as PKCS#8 PEM.
///
/// # Errors
/// [`ProvenanceError::Keys`] for names that are empty or longer than 64 characters, a country that is not two
/// letters, and where the system gives no random numbers.
pub fn signing_request(
    algorithm: KeyAlgorithm,
    organization: &str,
    common_name: &str,
    country: &str,
) -> Result<(String, String), ProvenanceError> {
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(refused(format!(
            "the country is {country:?}; two capital letters of ISO 3166 are wanted"
        )));
    }
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, country);
    name.push(DnType::OrganizationName, checked("organization", organization)?);
    name.push(DnType::CommonName, checked("common name", common_name)?);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    leaf(&mut params);
    let key = Subject::generate(algorithm)?;
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    Ok((request, key.0.to_pem()?.as_str().to_owned()))
}

/// `change` may spoil the signer's certificate, for tests of what is refused.
pub(super) fn issue(
    algorithm: KeyAlgorithm,
    organization: &str,
    common_name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<DevelopmentChain, ProvenanceError> {
    let organization = checked("organization", organization)?;
    let (root_key, between_key, key) =
        (Subject::generate(algorithm)?, Subject::generate(algorithm)?, Subject::generate(algorithm)?);
    let mut root = named(organization, "Development root", &root_key)?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut between = named(organization, "Development intermediate", &between_key)?;
    between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    between.key_usages = root.key_usages.clone();
    between.use_authority_key_identifier_extension = true;
    let mut signer = named(organization, common_name, &key)?;
    leaf(&mut signer);
    signer.use_authority_key_identifier_extension = true;
    change(&mut signer);

    let root_certificate = root.self_signed(&root_key).map_err(failed)?;
    let root_issuer = Issuer::from_params(&root, &root_key);
    let between_certificate = between.signed_by(&between_key, &root_issuer).map_err(failed)?;
    let between_issuer = Issuer::from_params(&between, &between_key);
    let certificate = signer.signed_by(&key, &between_issuer).map_err(failed)?;
    Ok(DevelopmentChain {
        root: root_certificate.pem(),
        chain: certificate.pem() + &between_certificate.pem(),
        key: key.0.to_pem()?,
    })
}

/// What every signer's certificate has (C2PA 2.4 §14.5.1).
fn leaf(params: &mut CertificateParams) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::EmailProtection,
        ExtendedKeyUsagePurpose::Other(CLAIM_SIGNING.to_vec()),
    ];
}

fn named(organization: &str, common_name: &str, key: &Subject) -> Result<CertificateParams, ProvenanceError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    name.push(DnType::OrganizationalUnitName, DEVELOPMENT);
    name.push(DnType::CommonName, common_name);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| refused(format!("no random numbers: {error}")))?;
    // Positive, and of the same length always, so that manifests are.
    serial[0] = serial[0] & 0x3f | 0x40;
    // A clock that is a little behind elsewhere shall not matter.
    let start = OffsetDateTime::now_utc() - Duration::days(1);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = start;
    params.not_after = start + Duration::days(DAYS);
    // RFC 7093 §2, method 1.
    params.key_identifier_method = KeyIdMethod::PreSpecified(Sha256::digest(&key.1)[..20].to_vec());
    Ok(params)
}

fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str, ProvenanceError> {
    let length = name.chars().count();
    if !(1..=NAME_CHARACTERS).contains(&length) || name.chars().any(char::is_control) {
        return Err(refused(format!(
            "the {what} has {length} characters; 1 to {NAME_CHARACTERS} without control characters are wanted"
        )));
    }
    Ok(name)
}

fn failed(error: rcgen::Error) -> ProvenanceError {
    refused(format!("the certificate cannot be made: {error}"))
}

/// A key as rcgen asks for it.
struct Subject(PrivateKey, Vec<u8>);

impl Subject {
    fn generate(algorithm: KeyAlgorithm) -> Result<Self, ProvenanceError> {
        let key = PrivateKey::generate(algorithm)?;
        let public = key.public();
        Ok(Self(key, public))
    }
}

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.algorithm() {
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl rcgen::SigningKey for Subject {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign_certificate(message))
    }
}
