//! Our keys as c2pa asks for them.

use std::sync::Arc;

use c2pa::dynamic_assertion::{DynamicAssertion, DynamicAssertionContent, PartialClaim};
use c2pa::{Signer, SigningAlg};

use crate::SigningKeys;
use crate::keys::{Inner, KeyAlgorithm};

/// What a COSE signature takes beside the certificates, in bytes: 64 of signature, headers and padding (A
/// time stamp would take some thousand more).
const COSE_BYTES: usize = 512;

/// Signs claims with the keys of a [`SigningKeys`].
pub(crate) struct ClipSigner {
    keys: Arc<Inner>,
    assertion: Option<Encoded>,
}

impl ClipSigner {
    pub(crate) fn new(keys: &SigningKeys) -> Self {
        Self { keys: keys.inner.clone(), assertion: None }
    }

    /// Adds an assertion that is CBOR already. In this way it keeps its tags, which c2pa's builder drops.
    pub(crate) fn with_assertion(self, label: &'static str, cbor: Vec<u8>) -> Self {
        Self { assertion: Some(Encoded { label, cbor }), ..self }
    }
}

/// An assertion as it is.
#[derive(Clone)]
struct Encoded {
    label: &'static str,
    cbor: Vec<u8>,
}

impl DynamicAssertion for Encoded {
    fn label(&self) -> String {
        self.label.to_owned()
    }

    fn reserve_size(&self) -> c2pa::Result<usize> {
        Ok(self.cbor.len())
    }

    fn content(&self, _: &str, _: Option<usize>, _: &PartialClaim) -> c2pa::Result<DynamicAssertionContent> {
        Ok(DynamicAssertionContent::Cbor(self.cbor.clone()))
    }
}

impl Signer for ClipSigner {
    fn sign(&self, data: &[u8]) -> c2pa::Result<Vec<u8>> {
        self.keys.key.sign(data).map_err(|error| c2pa::Error::OtherError(Box::new(error)))
    }

    fn alg(&self) -> SigningAlg {
        match self.keys.key.algorithm() {
            KeyAlgorithm::Ed25519 => SigningAlg::Ed25519,
            KeyAlgorithm::Es256 => SigningAlg::Es256,
        }
    }

    fn certs(&self) -> c2pa::Result<Vec<Vec<u8>>> {
        Ok(self.keys.chain.clone())
    }

    fn reserve_size(&self) -> usize {
        self.keys.chain.iter().map(Vec::len).sum::<usize>() + COSE_BYTES
    }

    fn dynamic_assertions(&self) -> Vec<Box<dyn DynamicAssertion>> {
        self.assertion.iter().map(|one| Box::new(one.clone()) as Box<dyn DynamicAssertion>).collect()
    }
}
