//! What is refused of certificates, when they are loaded: a certificate that C2PA's profile (2.4 §14.5) does
//! not allow makes clips that no verifier accepts, and that shall show before the first is signed.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

use super::private::PrivateKey;
use super::public::PublicKey;
use super::refused;
use crate::ProvenanceError;

/// Key purposes of claim signers: C2PA claim signing, document signing, Microsoft's C2PA signing.
const PURPOSES: [&str; 3] = ["1.3.6.1.4.1.62558.2.1", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.311.76.59.1.9"];
/// Most certificates of a chain.
const CERTIFICATES: usize = 8;

/// Checks a PEM chain, and that its first certificate is that of `key`, where that is at hand. Returns the chain as
/// DER, without a root at its end, and the signer's public key.
pub(super) fn check(
    pem: &[u8],
    key: Option<&PrivateKey>,
) -> Result<(Vec<Vec<u8>>, PublicKey), ProvenanceError> {
    let mut chain = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| refused(format!("the certificates are no PEM: {error}")))?;
        if block.label != "CERTIFICATE" {
            let label = block.label;
            return Err(refused(format!(
                "the file of certificates holds a {label:?}; a \"CERTIFICATE\" is wanted"
            )));
        }
        chain.push(block.contents);
    }
    if !(1..=CERTIFICATES).contains(&chain.len()) {
        let count = chain.len();
        return Err(refused(format!(
            "{count} certificates in PEM; 1 to {CERTIFICATES} are wanted, the signer's first"
        )));
    }
    let mut parsed = Vec::new();
    for (at, der) in chain.iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| refused(format!("certificate {} of the chain cannot be read", at + 1)))?;
        parsed.push(certificate);
    }
    signer(&parsed[0], key)?;
    for (at, pair) in parsed.windows(2).enumerate() {
        linked(&pair[0], &pair[1], at + 1)?;
    }
    let public = PublicKey::of(&parsed[0])?;
    let root = parsed.last().is_some_and(|last| last.is_ca() && last.subject() == last.issuer());
    if root && chain.len() > 1 {
        chain.pop();
    }
    Ok((chain, public))
}

/// The signer's own certificate.
fn signer(certificate: &X509Certificate<'_>, key: Option<&PrivateKey>) -> Result<(), ProvenanceError> {
    let refuse = |problem: String| Err(refused(format!("the signer's certificate {problem}")));
    if certificate.is_ca() {
        return refuse(
            "is that of a certificate authority; one that is no CA, first in the file, is wanted".into(),
        );
    }
    if certificate.version() != X509Version::V3 {
        return refuse(format!("has version {}; X.509 version 3 is wanted", certificate.version().0 + 1));
    }
    if let Some(key) = key
        && certificate.public_key().subject_public_key.data.as_ref() != key.public()
    {
        return refuse(format!(
            "does not belong to the key ({}); the certificate of this key, first in the file, is wanted",
            key.algorithm()
        ));
    }
    let organization = first(certificate.subject().iter_organization());
    if organization.is_none_or(|name| name.trim().is_empty()) {
        return refuse("names no Organization (O) in its subject; verifiers refuse what it signs".into());
    }
    valid_now(certificate)?;
    if certificate.issuer_uid.is_some() || certificate.subject_uid.is_some() {
        return refuse("has unique identifiers of issuer or subject, which C2PA does not allow".into());
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() => {
            return refuse("has a key usage without digitalSignature, which is wanted".into());
        }
        Ok(Some(usage)) if usage.value.key_cert_sign() => {
            return refuse("may sign certificates (keyCertSign); only digitalSignature is wanted".into());
        }
        Ok(Some(_)) => {}
        _ => return refuse("has no key usage; digitalSignature is wanted".into()),
    }
    purpose(certificate)?;
    let has_authority = certificate
        .extensions()
        .iter()
        .any(|found| matches!(found.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_)));
    if !has_authority {
        return refuse("has no authority key identifier, which C2PA wants".into());
    }
    for found in certificate.extensions() {
        if found.critical && matches!(found.parsed_extension(), ParsedExtension::UnsupportedExtension { .. })
        {
            return refuse(format!("has the critical extension {}, which is not known", found.oid));
        }
    }
    Ok(())
}

/// The extended key usage.
fn purpose(certificate: &X509Certificate<'_>) -> Result<(), ProvenanceError> {
    const WANTED: &str =
        "c2pa-kp-claimSigning (1.3.6.1.4.1.62558.2.1), emailProtection or documentSigning is wanted";
    let refuse = |problem: &str| Err(refused(format!("the signer's certificate {problem}; {WANTED}")));
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return refuse("has no extended key usage");
    };
    let usage = usage.value;
    if usage.any {
        return refuse("is for any purpose (anyExtendedKeyUsage)");
    }
    if usage.time_stamping || usage.ocsp_signing {
        return refuse("is for time stamps or OCSP");
    }
    if usage.email_protection || usage.other.iter().any(|oid| PURPOSES.contains(&oid.to_id_string().as_str()))
    {
        return Ok(());
    }
    refuse("has an extended key usage for other purposes")
}

fn valid_now(certificate: &X509Certificate<'_>) -> Result<(), ProvenanceError> {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(refused(format!("the signer's certificate is not valid before {}", validity.not_before)));
    }
    if now > validity.not_after.timestamp() {
        return Err(refused(format!("the signer's certificate has expired on {}", validity.not_after)));
    }
    Ok(())
}

/// Each certificate is to be issued by the next: a signer under another intermediate is trusted by nobody.
fn linked(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    number: usize,
) -> Result<(), ProvenanceError> {
    let next = number + 1;
    if certificate.issuer() != issuer.subject() {
        return Err(refused(format!(
            "certificate {number} of the chain was issued by {}, certificate {next} is that of {}; each is to be \
             followed by its issuer's",
            certificate.issuer(),
            issuer.subject()
        )));
    }
    let authority = certificate.extensions().iter().find_map(|found| match found.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let subject = issuer.extensions().iter().find_map(|found| match found.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    match (authority, subject) {
        (Some(authority), Some(subject)) if authority != subject => Err(refused(format!(
            "certificate {number} of the chain was issued with another key than that of certificate {next}; \
             each is to be followed by its issuer's"
        ))),
        _ => Ok(()),
    }
}

/// The first of some attributes of a name, as text.
fn first<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    attributes.next().and_then(|attribute| attribute.as_str().ok())
}

/// What a verifier's report says of the signer.
pub(crate) fn subject_of(name: &X509Name<'_>) -> (Option<String>, Option<String>, Option<String>) {
    (
        first(name.iter_organization()).map(str::to_owned),
        first(name.iter_organizational_unit()).map(str::to_owned),
        first(name.iter_common_name()).map(str::to_owned),
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
        KeyUsagePurpose,
    };
    use time::{Duration, OffsetDateTime};

    use super::super::issue::issue;
    use super::super::{KeyAlgorithm, SigningKeys};

    type Change = fn(&mut CertificateParams);

    fn refusal(change: impl FnOnce(&mut CertificateParams)) -> String {
        let made = issue(KeyAlgorithm::Ed25519, "Example", "Signer", change).unwrap();
        match SigningKeys::from_pem(made.chain.as_bytes(), made.key.as_bytes(), None) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was accepted"),
        }
    }

    #[test]
    fn certificates_that_verifiers_refuse_are_refused_by_name() {
        let cases: [(&str, Change); 11] = [
            ("no Organization", |params| {
                params.distinguished_name = DistinguishedName::new();
                params.distinguished_name.push(DnType::CommonName, "Signer");
            }),
            ("no extended key usage", |params| params.extended_key_usages.clear()),
            ("other purposes", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
            ("any purpose", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
            ("time stamps", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::TimeStamping)),
            ("no authority key identifier", |params| params.use_authority_key_identifier_extension = false),
            ("no key usage", |params| params.key_usages.clear()),
            ("without digitalSignature", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            ("certificate authority", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ("has expired on", |params| params.not_after = OffsetDateTime::now_utc() - Duration::hours(1)),
            ("is not valid before", |params| {
                params.not_before = OffsetDateTime::now_utc() + Duration::hours(1)
            }),
        ];
        for (words, change) in cases {
            let message = refusal(change);
            assert!(message.contains(words), "{words}: {message}");
        }
    }

    #[test]
    fn a_chain_in_another_order_or_of_another_run_is_refused() {
        let made = issue(KeyAlgorithm::Es256, "Example", "Signer", |_| {}).unwrap();
        let other = issue(KeyAlgorithm::Es256, "Example", "Signer", |_| {}).unwrap();
        let split = |chain: &str| {
            let at = chain.rfind("-----BEGIN").unwrap();
            (chain[..at].to_owned(), chain[at..].to_owned())
        };
        let (leaf, between) = split(&made.chain);
        let (other_leaf, other_between) = split(&other.chain);
        let key = made.key.as_bytes();
        let refused =
            |chain: String| SigningKeys::from_pem(chain.as_bytes(), key, None).unwrap_err().to_string();
        assert!(refused(between.clone() + &leaf).contains("certificate authority"));
        assert!(refused(leaf.clone() + &other_between).contains("with another key"));
        assert!(refused(leaf.clone() + &made.root).contains("followed by its issuer's"));
        assert!(refused(other_leaf + &between).contains("does not belong to the key"));
        assert!(refused(String::new()).contains("0 certificates"));
        let whole = SigningKeys::from_pem((leaf + &between + &made.root).as_bytes(), key, None).unwrap();
        assert_eq!(whole.inner.chain.len(), 2, "the root is left out");
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_only() {
        use pkcs8::pkcs5::pbes2::Parameters;
        let made = issue(KeyAlgorithm::Es256, "Example", "Signer", |_| {}).unwrap();
        let (_, key) = pkcs8::SecretDocument::from_pem(&made.key).unwrap();
        let parameters = Parameters::pbkdf2_sha256_aes256cbc(1000, b"a pinch of salt", &[7; 16]).unwrap();
        let locked = pkcs8::PrivateKeyInfo::try_from(key.as_bytes())
            .and_then(|key| key.encrypt_with_params(parameters, "a passphrase"))
            .unwrap();
        let locked = locked.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
        let open = |passphrase: Option<&str>| {
            SigningKeys::from_pem(made.chain.as_bytes(), locked.as_bytes(), passphrase.map(str::as_bytes))
        };
        assert_eq!(open(Some("a passphrase")).unwrap().inner.key.algorithm(), KeyAlgorithm::Es256);
        for wrong in ["open sesame", "", "a passphrase "] {
            let error = open(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("does not open the key"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "a passphrase is never told");
        }
        assert!(open(None).unwrap_err().to_string().contains("is not set"));
    }

    #[test]
    fn keys_of_other_kinds_are_refused_by_name() {
        let made = issue(KeyAlgorithm::Ed25519, "Example", "Signer", |_| {}).unwrap();
        let refused = |key: &str| {
            SigningKeys::from_pem(made.chain.as_bytes(), key.as_bytes(), None).unwrap_err().to_string()
        };
        // The algorithm identifier of an RSA key and nothing of a key.
        let rsa =
            "-----BEGIN PRIVATE KEY-----\nMBkCAQAwDQYJKoZIhvcNAQEBBQAEBTADAgEA\n-----END PRIVATE KEY-----\n";
        assert!(refused(rsa).contains("RSA"), "{}", refused(rsa));
        let old = "-----BEGIN RSA PRIVATE KEY-----\nMAMCAQA=\n-----END RSA PRIVATE KEY-----\n";
        assert!(refused(old).contains("RSA"), "{}", refused(old));
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nMAMCAQA=\n-----END EC PRIVATE KEY-----\n";
        assert!(refused(sec1).contains("SEC1"), "{}", refused(sec1));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAMCAQA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(refused(locked).contains("SORA_SIGN_PASSPHRASE is not set"), "{}", refused(locked));
        assert!(refused("nothing").contains("no PEM"));
        let other = issue(KeyAlgorithm::Es256, "Example", "Signer", |_| {}).unwrap();
        assert!(refused(&other.key).contains("does not belong to the key"));
    }
}
