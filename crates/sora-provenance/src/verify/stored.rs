//! Checking a manifest that is kept apart from its clip: everything but that it fits the clip.

use std::io::{Cursor, Read, Seek};

use c2pa::{Reader, ValidationState};

use super::{TrustAnchors, manifest};
use crate::ProvenanceError;
use crate::jumbf;
use crate::report::{Location, ManifestReport, UNTRUSTED, Validity};
use crate::sign::FORMAT;

/// What a manifest's hash of its clip gives, where another file stands for the clip. C2PA 2.4 §15.12.2.
const OTHER_CLIP: &str = "assertion.bmffHash.mismatch";
/// The signature over the claim is right.
const SIGNED: &str = "claimSignature.validated";
/// The signer is in a set of anchors.
const TRUSTED: &str = "signingCredential.trusted";

/// The smallest MP4: `ftyp` and an empty `mdat`. No manifest fits it.
const NO_CLIP: &[u8; 24] = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08mdat";

/// Checks a manifest store (JUMBF) without its clip: its boxes, the signature over its active manifest, the signer
/// against `anchors`, the hashes of its assertions, and what it says of the clips that went in. Whether a clip is the
/// one that it was made for is another question.
///
/// # Errors
/// [`ProvenanceError::Manifest`] where it cannot be read as one. What is wrong with one that can is in the report.
pub fn verify_stored(store: &[u8], anchors: &TrustAnchors) -> Result<ManifestReport, ProvenanceError> {
    let structure = jumbf::problems(store);
    let unreadable = |problem: String| ProvenanceError::Manifest(problem);
    if let Some(problem) = structure.into_iter().next() {
        return Err(unreadable(problem));
    }
    let reader = Reader::from_context(anchors.context()?)
        .with_manifest_data_and_stream(store, FORMAT, Cursor::new(NO_CLIP))
        .map_err(|error| unreadable(error.to_string()))?;
    let mut report = manifest::report(&reader, Location::Store, Vec::new())
        .ok_or_else(|| unreadable("it has no active manifest".into()))?;
    report.failures.retain(|failure| failure.code != OTHER_CLIP);
    Ok(report)
}

/// The manifest store in an MP4, or in a box of one; `None` where there is none.
///
/// # Errors
/// [`ProvenanceError::Container`] where there are several, [`ProvenanceError::Stream`] where it cannot be read.
pub fn embedded_manifest(file: &mut (impl Read + Seek)) -> Result<Option<Vec<u8>>, ProvenanceError> {
    let mut stores = jumbf::embedded_stores(file)?;
    match stores.len() {
        0 | 1 => Ok(stores.pop()),
        several => Err(ProvenanceError::Container(format!("it has {several} manifests"))),
    }
}

/// What the signature of a stored manifest is worth.
pub(super) fn validity(reader: &Reader, ephemeral: bool) -> Validity {
    let Some(results) = reader.validation_results() else { return Validity::Invalid };
    let Some(active) = results.active_manifest() else { return Validity::Invalid };
    let succeeded = |code: &str| active.success().iter().any(|status| status.code() == code);
    let inner = results.ingredient_deltas().into_iter().flatten();
    let inner = inner.flat_map(|delta| delta.validation_deltas().failure());
    let mut failures = active.failure().iter().map(|status| status.code());
    let expected = |code: &str| matches!(code, OTHER_CLIP | UNTRUSTED);
    // It is said of every manifest that does not belong to the file; where it is not, the hash was not looked at.
    let looked_at = failures.clone().any(|code| code == OTHER_CLIP);
    let broken = !failures.all(expected) || inner.count() > 0;
    if broken || !looked_at || !succeeded(SIGNED) || reader.validation_state() != ValidationState::Invalid {
        return Validity::Invalid;
    }
    if succeeded(TRUSTED) && !ephemeral { Validity::TrustedOwn } else { Validity::Untrusted }
}
