//! The public key of a certificate: which algorithm it is for, and whether a signature is its own.

use ed25519_dalek::Verifier as _;
use x509_parser::certificate::X509Certificate;

use super::{KeyAlgorithm, refused};
use crate::ProvenanceError;

const ED25519: &str = "1.3.101.112";
const EC: &str = "1.2.840.10045.2.1";

pub(crate) enum PublicKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    Es256(Box<p256::ecdsa::VerifyingKey>),
}

impl PublicKey {
    /// The key of a signer's certificate.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Result<Self, ProvenanceError> {
        let info = certificate.public_key();
        let (oid, bytes) = (info.algorithm.algorithm.to_string(), info.subject_public_key.data.as_ref());
        let key = match oid.as_str() {
            ED25519 => bytes
                .try_into()
                .ok()
                .and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).ok())
                .map(Self::Ed25519),
            // Points of other curves have other lengths, or are no points of this one.
            EC => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok().map(|key| Self::Es256(Box::new(key)))
            }
            _ => None,
        };
        key.ok_or_else(|| {
            refused(format!(
                "the signer's certificate is for a key of the kind {oid}; one for Ed25519 or ECDSA P-256 is wanted"
            ))
        })
    }

    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Ed25519(_) => KeyAlgorithm::Ed25519,
            Self::Es256(_) => KeyAlgorithm::Es256,
        }
    }

    /// A signature over `data` as COSE wants it (64 bytes, RFC 9053 §2.1), of one that is that already, or is the DER
    /// that most programs write for ECDSA; `None` where it is not this key's.
    pub(super) fn signature(&self, data: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
                key.verify(data, &signature).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Self::Es256(key) => {
                let signature = p256::ecdsa::Signature::from_slice(signature)
                    .or_else(|_| p256::ecdsa::Signature::from_der(signature))
                    .ok()?;
                key.verify(data, &signature).ok()?;
                Some(signature.to_bytes().to_vec())
            }
        }
    }
}
