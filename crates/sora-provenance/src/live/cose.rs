//! Session keys and what they sign (COSE, RFC 9052).

use ciborium::Value;
use coset::iana::{self, EnumI64 as _};
use coset::{
    CborSerializable as _, CoseKey, CoseKeyBuilder, CoseSign1, CoseSign1Builder, HeaderBuilder, KeyType,
    Label, RegisteredLabelWithPrivate, TaggedCborSerializable as _,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ProvenanceError;

/// Length of a key's identifier, in bytes.
const KEY_ID_BYTES: usize = 8;

/// A key that signs the fragments of one session. It is in this process only and overwritten when it goes.
pub(super) struct SessionKey {
    key: SigningKey,
    id: Vec<u8>,
}

impl SessionKey {
    pub(super) fn generate() -> Result<Self, ProvenanceError> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|error| {
            ProvenanceError::Sign(format!("no random numbers for a session key: {error}"))
        })?;
        let key = SigningKey::from_bytes(&seed);
        let id = Sha256::digest(key.verifying_key().as_bytes())[..KEY_ID_BYTES].to_vec();
        Ok(Self { key, id })
    }

    /// The public half as a COSE_Key.
    pub(super) fn public(&self) -> Result<Value, ProvenanceError> {
        let x = Value::Bytes(self.key.verifying_key().as_bytes().to_vec());
        let key = CoseKeyBuilder::new_okp_key()
            .key_id(self.id.clone())
            .algorithm(iana::Algorithm::EdDSA)
            .param(iana::OkpKeyParameter::Crv.to_i64(), Value::from(iana::EllipticCurve::Ed25519.to_i64()))
            .param(iana::OkpKeyParameter::X.to_i64(), x)
            .build();
        coset::AsCborValue::to_cbor_value(key).map_err(failed)
    }

    /// A COSE_Sign1 with its tag around `payload`.
    pub(super) fn sign(&self, payload: Vec<u8>) -> Result<Vec<u8>, ProvenanceError> {
        let signed = CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build())
            .unprotected(HeaderBuilder::new().key_id(self.id.clone()).build())
            .payload(payload)
            .create_signature(&[], |bytes| self.key.sign(bytes).to_bytes().to_vec())
            .build();
        signed.to_tagged_vec().map_err(failed)
    }
}

fn failed(error: coset::CoseError) -> ProvenanceError {
    ProvenanceError::Sign(format!("a COSE structure cannot be written: {error}"))
}

/// The public half of somebody's session key.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    pub(super) id: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Ed25519(VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads a COSE_Key: Ed25519 or P-256, with an identifier.
    pub(super) fn read(key: Value) -> Result<Self, String> {
        let key = <CoseKey as coset::AsCborValue>::from_cbor_value(key)
            .map_err(|error| format!("a session key is no COSE_Key: {error}"))?;
        if key.key_id.is_empty() {
            return Err("a session key has no identifier".into());
        }
        let parameter =
            |label: i64| key.params.iter().find(|(of, _)| *of == Label::Int(label)).map(|(_, value)| value);
        let number = |label| parameter(label).and_then(Value::as_integer).map(i128::from);
        let bytes = |label| parameter(label).and_then(Value::as_bytes).cloned();
        let wrong = || "a session key is neither Ed25519 nor ECDSA P-256".to_owned();
        // Labels of curve and coordinates are the same for both types (RFC 9053 §7).
        let (curve, x) = (number(-1), bytes(-2).ok_or_else(wrong)?);
        let kind = match (&key.kty, curve) {
            (KeyType::Assigned(iana::KeyType::OKP), Some(6)) => {
                let x: [u8; 32] = x.try_into().map_err(|_| wrong())?;
                Kind::Ed25519(VerifyingKey::from_bytes(&x).map_err(|_| wrong())?)
            }
            (KeyType::Assigned(iana::KeyType::EC2), Some(1)) => {
                let y = bytes(-3).ok_or_else(wrong)?;
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Kind::P256(p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).map_err(|_| wrong())?)
            }
            _ => return Err(wrong()),
        };
        Ok(Self { id: key.key_id, kind })
    }

    fn verify(&self, algorithm: iana::Algorithm, signature: &[u8], bytes: &[u8]) -> Result<(), String> {
        let mismatch = || "the signature is not that of the session key".to_owned();
        match (&self.kind, algorithm) {
            (Kind::Ed25519(key), iana::Algorithm::EdDSA) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| mismatch())?;
                key.verify_strict(bytes, &signature).map_err(|_| mismatch())
            }
            (Kind::P256(key), iana::Algorithm::ES256) => {
                use p256::ecdsa::signature::Verifier as _;
                let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| mismatch())?;
                key.verify(bytes, &signature).map_err(|_| mismatch())
            }
            _ => Err(format!("the signature's algorithm {algorithm:?} is not that of the session key")),
        }
    }
}

/// Verifies a COSE_Sign1 with the key among `keys` that it names; gives that key's place and the payload.
pub(super) fn verify(message: &[u8], keys: &[PublicKey]) -> Result<(usize, Vec<u8>), String> {
    let signed = read(message)?;
    let id = &signed.unprotected.key_id;
    let named = keys.iter().position(|key| &key.id == id);
    let at = named.ok_or_else(|| "it is signed by a key that the beginning does not name".to_owned())?;
    payload(signed, &keys[at]).map(|payload| (at, payload))
}

/// Verifies a COSE_Sign1 that may leave out the name of its key, which is `key`; gives the payload.
pub(super) fn verify_by(message: &[u8], key: &PublicKey) -> Result<Vec<u8>, String> {
    let signed = read(message)?;
    if !signed.unprotected.key_id.is_empty() && signed.unprotected.key_id != key.id {
        return Err("it is signed by another key".into());
    }
    payload(signed, key)
}

fn read(message: &[u8]) -> Result<CoseSign1, String> {
    let signed = CoseSign1::from_tagged_slice(message)
        .or_else(|_| CoseSign1::from_slice(message))
        .map_err(|error| format!("it is no COSE_Sign1: {error}"))?;
    match signed.protected.header.key_id.is_empty() {
        true => Ok(signed),
        false => {
            Err("the key's identifier is in the protected header; its place is the unprotected one".into())
        }
    }
}

fn payload(signed: CoseSign1, key: &PublicKey) -> Result<Vec<u8>, String> {
    let Some(RegisteredLabelWithPrivate::Assigned(algorithm)) = signed.protected.header.alg else {
        return Err("its protected header names no algorithm".into());
    };
    signed.verify_signature(&[], |signature, bytes| key.verify(algorithm, signature, bytes))?;
    signed.payload.ok_or_else(|| "its payload is not in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_key_signs_is_verified_and_changes_show() {
        let (key, other) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let read = |key: &SessionKey| PublicKey::read(key.public().unwrap()).unwrap();
        let keys = [read(&other), read(&key)];
        let message = key.sign(b"fragment 7".to_vec()).unwrap();
        assert_eq!(verify(&message, &keys).unwrap(), (1, b"fragment 7".to_vec()));
        assert!(verify(&message, &keys[..1]).unwrap_err().contains("does not name"));
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 0x01;
            // The tag is not signed, and not needed.
            if let Ok(found) = verify(&changed, &keys) {
                assert!(at == 0 && found.1 == b"fragment 7", "byte {at}");
            }
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let error = PublicKey::read(Value::Map(vec![(Value::from(1), Value::from(4))])).unwrap_err();
        assert!(error.contains("no identifier"), "{error}");
        let rsa = vec![(Value::from(1), Value::from(3)), (Value::from(2), Value::Bytes(vec![1]))];
        assert!(PublicKey::read(Value::Map(rsa)).unwrap_err().contains("neither"));
        assert!(PublicKey::read(Value::from(3)).unwrap_err().contains("no COSE_Key"));
    }
}
