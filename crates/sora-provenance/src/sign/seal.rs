//! The manifest of a file that is being written.

use std::sync::Arc;

use c2pa::Builder;

use super::{FORMAT, add_nameless, builder, failed};
use crate::{Claim, ProvenanceError, Seal, SigningKeys, SparseFile};

/// Length of the pieces of media data that are hashed each by itself, in KiB. A verifier holds one in memory.
const LEAF_KIB: usize = 1024;
/// What a leaf takes in a manifest, in bytes: 32 of SHA-256 and its header, and some room.
const LEAF_BYTES: usize = 40;
/// What a leaf list, its exclusion and padding take beside leaves, in bytes.
const TREE_BYTES: usize = 512;
/// What is expected of a claim, in bytes: the longest prompt in the clear, and the rest of a record.
const CLAIM_BYTES: usize = 24 << 10;

/// Makes the manifest of a file that a [`PatchWriter`](crate::PatchWriter) writes. The media data is hashed in
/// pieces of 1 MiB as it passes, so that neither signing nor verifying holds the clip in memory.
pub struct ManifestSeal {
    builder: Builder,
    /// What the manifest takes without leaves, in bytes.
    least: usize,
}

impl ManifestSeal {
    /// Prepares the manifest.
    ///
    /// # Errors
    /// [`ProvenanceError::Claim`] and [`ProvenanceError::Value`] for a claim that cannot be said,
    /// [`ProvenanceError::Sign`] where c2pa refuses it.
    pub fn new(claim: Claim, keys: Arc<SigningKeys>) -> Result<Self, ProvenanceError> {
        let (mut builder, _, ingredients) = builder(&claim, &keys)?;
        add_nameless(&mut builder, &ingredients)?;
        let least = builder.placeholder(FORMAT).map_err(failed)?.len();
        builder.set_bmff_hash_fixed_leaf_size(LEAF_KIB);
        Ok(Self { builder, least })
    }

    /// Space that this manifest takes at most for a clip of so many megabytes of media data, in bytes. Unlike
    /// [`expected_manifest_bytes`] it knows the claim.
    pub fn manifest_bytes(&self, megabytes: u64) -> usize {
        self.least + tree_bytes(megabytes)
    }
}

impl Seal for ManifestSeal {
    fn media(&mut self, data: &[u8]) -> Result<(), ProvenanceError> {
        // The patch writer's `mdat` has a header of 16 bytes, "large" to c2pa.
        self.builder.hash_bmff_mdat_bytes(0, data, true).map_err(failed)?;
        Ok(())
    }

    fn seal(&mut self, file: &mut SparseFile<'_>) -> Result<Vec<u8>, ProvenanceError> {
        self.builder.update_hash_from_stream(FORMAT, file).map_err(failed)?;
        self.builder.sign_embeddable(FORMAT).map_err(failed)
    }
}

/// Space to reserve for the manifest of a clip of so many megabytes of media data, in bytes: enough for every
/// claim with at most a few inputs.
pub fn expected_manifest_bytes(keys: &SigningKeys, megabytes: u64) -> usize {
    keys.chain_bytes() + CLAIM_BYTES + tree_bytes(megabytes)
}

fn tree_bytes(megabytes: u64) -> usize {
    // A piece that is begun is a piece.
    let leaves = usize::try_from(megabytes.saturating_add(1)).unwrap_or(usize::MAX);
    leaves.saturating_mul(LEAF_BYTES).saturating_add(TREE_BYTES)
}
