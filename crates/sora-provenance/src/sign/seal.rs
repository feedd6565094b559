//! The manifest of a file that is being written.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
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

/// Length of a leaf, in bytes.
const LEAF: usize = LEAF_KIB << 10;
/// Pieces of media data, each of a leaf at most, that may wait to be hashed.
const WAITING: usize = 8;

/// Makes the manifest of a file that a [`PatchWriter`](crate::PatchWriter) writes. The media data is hashed in
/// pieces of 1 MiB as it passes, so that neither signing nor verifying holds the clip in memory; a thread of its own
/// does it, so that whoever writes waits only where that one cannot keep up.
pub struct ManifestSeal {
    hasher: Hasher,
    /// What the manifest takes without leaves, in bytes.
    least: usize,
}

/// Who has the builder, which collects the hashes.
enum Hasher {
    /// Nobody yet.
    Idle(Box<Builder>),
    /// The thread.
    Running {
        pieces: SyncSender<Bytes>,
        /// What is missing of the leaf that was begun, in bytes.
        missing: usize,
        thread: JoinHandle<Result<Box<Builder>, c2pa::Error>>,
    },
    /// It was lost in a failure.
    Gone,
}

impl Hasher {
    fn start(builder: Box<Builder>) -> Result<Self, ProvenanceError> {
        let (pieces, queue) = sync_channel::<Bytes>(WAITING);
        let thread =
            std::thread::Builder::new().name("sorasign:hash".into()).spawn(move || hash(builder, queue));
        let thread = thread.map_err(ProvenanceError::stream("starting a thread"))?;
        Ok(Self::Running { pieces, missing: LEAF, thread })
    }

    fn media(&mut self, mut data: Bytes) -> Result<(), ProvenanceError> {
        if let Self::Idle(_) = self
            && let Self::Idle(builder) = std::mem::replace(self, Self::Gone)
        {
            *self = Self::start(builder)?;
        }
        while !data.is_empty() {
            let Self::Running { pieces, missing, .. } = self else { return Err(gone()) };
            // At most a leaf: what waits is to be bounded in bytes, whatever comes in one piece.
            let piece = data.split_to(data.len().min(*missing));
            *missing -= piece.len();
            if *missing == 0 {
                *missing = LEAF;
            }
            if pieces.send(piece).is_err() {
                // It ended before its time: it says why.
                return self.finish().and(Err(gone()));
            }
        }
        Ok(())
    }

    /// The builder with all hashes.
    fn finish(&mut self) -> Result<Box<Builder>, ProvenanceError> {
        match std::mem::replace(self, Self::Gone) {
            Self::Idle(builder) => Ok(builder),
            Self::Gone => Err(gone()),
            Self::Running { pieces, thread, .. } => {
                drop(pieces);
                thread.join().map_err(|_| gone())?.map_err(failed)
            }
        }
    }
}

/// Has every leaf hashed. Pieces do not cross the ends of leaves.
///
/// c2pa is told the length of the leaves only in the end. Told before, it would cut them itself, and copy every byte
/// twice for that; each piece it is given now is a leaf.
fn hash(mut builder: Box<Builder>, queue: Receiver<Bytes>) -> Result<Box<Builder>, c2pa::Error> {
    // The patch writer's `mdat` has a header of 16 bytes, "large" to c2pa.
    const LARGE: bool = true;
    let mut begun = Vec::new();
    for piece in queue {
        if piece.len() == LEAF {
            builder.hash_bmff_mdat_bytes(0, &piece, LARGE)?;
            continue;
        }
        begun.extend_from_slice(&piece);
        if begun.len() == LEAF {
            builder.hash_bmff_mdat_bytes(0, &begun, LARGE)?;
            begun.clear();
        }
    }
    if !begun.is_empty() {
        builder.hash_bmff_mdat_bytes(0, &begun, LARGE)?;
    }
    builder.set_bmff_hash_fixed_leaf_size(LEAF_KIB);
    Ok(builder)
}

fn gone() -> ProvenanceError {
    ProvenanceError::Sign("the media data could not be hashed".into())
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
        Ok(Self { hasher: Hasher::Idle(Box::new(builder)), least })
    }

    /// Space that this manifest takes at most for a clip of so many megabytes of media data, in bytes. Unlike
    /// [`expected_manifest_bytes`] it knows the claim.
    pub fn manifest_bytes(&self, megabytes: u64) -> usize {
        self.least + tree_bytes(megabytes)
    }
}

impl Seal for ManifestSeal {
    fn media(&mut self, data: Bytes) -> Result<(), ProvenanceError> {
        self.hasher.media(data)
    }

    fn seal(&mut self, file: &mut SparseFile<'_>) -> Result<Vec<u8>, ProvenanceError> {
        let mut builder = self.hasher.finish()?;
        builder.update_hash_from_stream(FORMAT, file).map_err(failed)?;
        builder.sign_embeddable(FORMAT).map_err(failed)
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
