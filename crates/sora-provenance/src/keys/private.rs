//! A private key: read, made, and what it does.

use std::path::Path;

use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use zeroize::Zeroizing;

use super::{KeyAlgorithm, PASSPHRASE_VARIABLE, refused};
use crate::ProvenanceError;

const ED25519: &str = "1.3.101.112";
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const RSA: [&str; 2] = ["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"];
const WANTED: &str = "an Ed25519 or ECDSA P-256 key as PKCS#8 PEM (\"BEGIN PRIVATE KEY\") is wanted";

/// A private key. Both libraries overwrite it when it goes.
pub(crate) enum PrivateKey {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    Es256(Box<p256::ecdsa::SigningKey>),
}

impl PrivateKey {
    /// Makes a fresh one.
    pub(super) fn generate(algorithm: KeyAlgorithm) -> Result<Self, ProvenanceError> {
        let mut seed = Zeroizing::new([0; 32]);
        loop {
            getrandom::fill(seed.as_mut()).map_err(|error| refused(format!("no random numbers: {error}")))?;
            match algorithm {
                KeyAlgorithm::Ed25519 => {
                    return Ok(Self::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed))));
                }
                // All but a few in 2^32 numbers are keys of P-256.
                KeyAlgorithm::Es256 => {
                    if let Ok(key) = p256::ecdsa::SigningKey::from_slice(seed.as_ref()) {
                        return Ok(Self::Es256(Box::new(key)));
                    }
                }
            }
        }
    }

    /// Reads PKCS#8 PEM, encrypted (PBES2, RFC 8018) where there is a passphrase for it.
    pub(super) fn from_pem(pem: &[u8], passphrase: Option<&[u8]>) -> Result<Self, ProvenanceError> {
        let text = std::str::from_utf8(pem).map_err(|_| refused(format!("the key is no PEM; {WANTED}")))?;
        let (label, mut document) =
            SecretDocument::from_pem(text).map_err(|_| refused(format!("the key is no PEM; {WANTED}")))?;
        match label {
            "PRIVATE KEY" => {}
            "ENCRYPTED PRIVATE KEY" => {
                let Some(passphrase) = passphrase else {
                    return Err(refused(format!(
                        "the key is encrypted with a passphrase, and {PASSPHRASE_VARIABLE} is not set"
                    )));
                };
                let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
                    .map_err(|_| refused(format!("the encrypted key cannot be read; {WANTED}")))?;
                document = encrypted.decrypt(passphrase).map_err(|_| {
                    refused(format!(
                        "the passphrase of {PASSPHRASE_VARIABLE} does not open the key, or it is encrypted in \
                         another way than PBES2 with AES (openssl pkcs8 -topk8 makes that)"
                    ))
                })?;
            }
            "RSA PRIVATE KEY" => return Err(refused(format!("the key is an RSA key; {WANTED}"))),
            "EC PRIVATE KEY" => {
                return Err(refused(format!(
                    "the key is in the SEC1 format; {WANTED}: openssl pkcs8 -topk8 -nodes makes it"
                )));
            }
            label => return Err(refused(format!("the file holds a {label:?}; {WANTED}"))),
        }
        let bytes = document.as_bytes();
        let info = PrivateKeyInfo::try_from(bytes)
            .map_err(|_| refused(format!("the key cannot be read; {WANTED}")))?;
        let broken = || refused(format!("the key cannot be read; {WANTED}"));
        match info.algorithm.oid.to_string().as_str() {
            ED25519 => ed25519_dalek::SigningKey::from_pkcs8_der(bytes)
                .map(|key| Self::Ed25519(Box::new(key)))
                .map_err(|_| broken()),
            EC => match info.algorithm.parameters_oid() {
                Ok(curve) if curve.to_string() == P256 => p256::ecdsa::SigningKey::from_pkcs8_der(bytes)
                    .map(|key| Self::Es256(Box::new(key)))
                    .map_err(|_| broken()),
                _ => Err(refused(format!("the key is on another elliptic curve than P-256; {WANTED}"))),
            },
            oid if RSA.contains(&oid) => Err(refused(format!("the key is an RSA key; {WANTED}"))),
            oid => Err(refused(format!("the key is of the kind {oid}; {WANTED}"))),
        }
    }

    /// PKCS#8 PEM.
    pub(super) fn to_pem(&self) -> Result<Zeroizing<String>, ProvenanceError> {
        let cannot = |error| refused(format!("the key cannot be written: {error}"));
        match self {
            // Without the public key (RFC 5208's version 1): older programs do not read version 2.
            Self::Ed25519(key) => KeypairBytes { secret_key: key.to_bytes(), public_key: None }
                .to_pkcs8_pem(LineEnding::LF)
                .map_err(cannot),
            Self::Es256(key) => key.to_pkcs8_pem(LineEnding::LF).map_err(cannot),
        }
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Ed25519(_) => KeyAlgorithm::Ed25519,
            Self::Es256(_) => KeyAlgorithm::Es256,
        }
    }

    /// The public key as a certificate holds it: 32 bytes, or an uncompressed point of 65.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.verifying_key().to_bytes().to_vec(),
            Self::Es256(key) => key.verifying_key().to_encoded_point(false).as_bytes().to_vec(),
        }
    }

    /// Signs as COSE wants it: 64 bytes, for ECDSA `r` and `s` (RFC 9053 §2.1).
    pub(crate) fn sign(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(data).to_bytes().to_vec(),
            Self::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(data);
                signature.to_bytes().to_vec()
            }
        }
    }

    /// Signs as X.509 wants it: for ECDSA the DER of `r` and `s` (RFC 3279 §2.2.3).
    pub(super) fn sign_certificate(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(_) => self.sign(data),
            Self::Es256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(data);
                signature.as_bytes().to_vec()
            }
        }
    }
}

/// Refuses a key file that others than its owner may read or write.
#[cfg(unix)]
pub(super) fn check_access(path: &Path) -> Result<(), ProvenanceError> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = |error| refused(format!("{} cannot be read: {error}", path.display()));
    let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(refused(format!(
            "others than its owner may use the key file {path} (mode {mode:04o}); chmod 600 is wanted"
        )));
    }
    Ok(())
}

/// Elsewhere files have no such modes.
#[cfg(not(unix))]
pub(super) fn check_access(_path: &Path) -> Result<(), ProvenanceError> {
    Ok(())
}
