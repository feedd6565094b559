//! Our keys as c2pa asks for them.

use std::sync::Arc;

use c2pa::{Signer, SigningAlg};

use crate::SigningKeys;
use crate::keys::{Inner, KeyAlgorithm};

/// What a COSE signature takes beside the certificates, in bytes: 64 of signature, headers and padding (A
/// time stamp would take some thousand more).
const COSE_BYTES: usize = 512;

/// Signs claims with the keys of a [`SigningKeys`].
pub(crate) struct ClipSigner(Arc<Inner>);

impl ClipSigner {
    pub(crate) fn new(keys: &SigningKeys) -> Self {
        Self(keys.inner.clone())
    }
}

impl Signer for ClipSigner {
    fn sign(&self, data: &[u8]) -> c2pa::Result<Vec<u8>> {
        Ok(self.0.key.sign(data))
    }

    fn alg(&self) -> SigningAlg {
        match self.0.key.algorithm() {
            KeyAlgorithm::Ed25519 => SigningAlg::Ed25519,
            KeyAlgorithm::Es256 => SigningAlg::Es256,
        }
    }

    fn certs(&self) -> c2pa::Result<Vec<Vec<u8>>> {
        Ok(self.0.chain.clone())
    }

    fn reserve_size(&self) -> usize {
        self.0.chain.iter().map(Vec::len).sum::<usize>() + COSE_BYTES
    }
}
