//! The manifest of a file that is being written.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use c2pa::Builder;
use c2pa::assertions::labels::BMFF_HASH;
use c2pa::assertions::{BmffHash, ExclusionsMap, MerkleMap, SubsetMap, VecByteBuf};
use serde_bytes::ByteBuf;
use sha2::{Digest as _, Sha256};

use super::{FORMAT, add_nameless, builder, failed};
use crate::{Claim, ProvenanceError, Seal, SigningKeys, SparseFile};

/// What hashes, by its name in C2PA.
const ALGORITHM: &str = "sha256";
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
/// Threads that hash.
const THREADS: usize = 2;
/// Leaves that may wait to be hashed.
const WAITING: usize = 4;

/// Makes the manifest of a file that a [`PatchWriter`](crate::PatchWriter) writes. The media data is hashed in
/// leaves of 1 MiB as it passes, so that neither signing nor verifying holds the clip in memory; threads of their own
/// do it, so that whoever writes waits only where those cannot keep up.
pub struct ManifestSeal {
    hasher: Hasher,
    /// What the manifest takes without leaves, in bytes.
    least: usize,
    builder: Box<Builder>,
}

/// The leaves of a tree of hashes over media data.
///
/// c2pa's own accumulator does the same on one thread, and copies every byte twice.
#[derive(Default)]
enum Hasher {
    /// Nothing came yet.
    #[default]
    Idle,
    /// The threads.
    Running {
        leaves: SyncSender<Leaf>,
        /// What came of the next leaf: a copy. Whoever holds a hardware encoder's buffers until a leaf is full may wait
        /// for the very buffers that are to fill it.
        begun: Vec<u8>,
        /// The next leaf's number.
        number: usize,
        threads: Vec<JoinHandle<Vec<(usize, Digest)>>>,
        /// How much came, in bytes.
        length: u64,
    },
    /// It was lost in a failure.
    Gone,
}

type Digest = sha2::digest::Output<Sha256>;

/// Media data that is hashed as one, and its number.
type Leaf = (usize, Bytes);

/// All leaves of the media data.
struct Leaves {
    /// SHA-256 of each.
    hashes: Vec<Digest>,
    /// Length of the media data, in bytes.
    length: u64,
}

impl Hasher {
    fn start() -> Result<Self, ProvenanceError> {
        let (leaves, queue) = sync_channel::<Leaf>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let thread = |_| {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("sorasign:hash".into()).spawn(move || hash(&queue))
        };
        let threads: Result<_, _> = (0..THREADS).map(thread).collect();
        let threads = threads.map_err(ProvenanceError::stream("starting a thread"))?;
        Ok(Self::Running { leaves, begun: Vec::new(), number: 0, threads, length: 0 })
    }

    fn media(&mut self, mut data: Bytes) -> Result<(), ProvenanceError> {
        if let Self::Idle = self {
            *self = Self::start()?;
        }
        let Self::Running { leaves, begun, number, length, .. } = self else { return Err(gone()) };
        *length += data.len() as u64;
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(LEAF - begun.len()));
            let leaf = if piece.len() == LEAF {
                piece
            } else {
                begun.extend_from_slice(&piece);
                if begun.len() < LEAF {
                    continue;
                }
                std::mem::take(begun).into()
            };
            if leaves.send((*number, leaf)).is_err() {
                *self = Self::Gone;
                return Err(gone());
            }
            *number += 1;
        }
        Ok(())
    }

    /// All leaves; `None` where no media data came.
    fn finish(&mut self) -> Result<Option<Leaves>, ProvenanceError> {
        match std::mem::replace(self, Self::Gone) {
            Self::Idle => Ok(None),
            Self::Gone => Err(gone()),
            Self::Running { leaves, begun, number, threads, length } => {
                if !begun.is_empty() {
                    leaves.send((number, begun.into())).map_err(|_| gone())?;
                }
                drop(leaves);
                let mut numbered = Vec::new();
                for thread in threads {
                    numbered.extend(thread.join().map_err(|_| gone())?);
                }
                numbered.sort_unstable_by_key(|(number, _)| *number);
                Ok(Some(Leaves { hashes: numbered.into_iter().map(|(_, hash)| hash).collect(), length }))
            }
        }
    }
}

/// Hashes leaves until there are no more.
fn hash(queue: &Mutex<Receiver<Leaf>>) -> Vec<(usize, Digest)> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    let mut hashes = Vec::new();
    while let Some((number, leaf)) = next() {
        hashes.push((number, Sha256::digest(&leaf)));
    }
    hashes
}

/// Puts the leaves into the hard binding that the manifest is to have (C2PA 2.4 §A.5.2, `merkle`).
fn bind(builder: &mut Builder, leaves: Leaves) -> Result<(), ProvenanceError> {
    let missing = || ProvenanceError::Sign("the manifest has no hard binding".into());
    let assertions = &mut builder.definition.assertions;
    let at = assertions.iter().position(|assertion| assertion.label.starts_with(BMFF_HASH));
    let label = assertions.remove(at.ok_or_else(missing)?).label;
    let mut binding = BmffHash::new("jumbf manifest", ALGORITHM, None);
    binding.set_default_exclusions();
    let mut media = ExclusionsMap::new("/mdat".into());
    // Of `mdat` its header is hashed with the rest of the file. The patch writer's has 16 bytes.
    media.subset = Some(vec![SubsetMap { offset: 16, length: 0 }]);
    binding.add_exclusions(&mut vec![media]);
    binding.set_merkle(vec![MerkleMap {
        unique_id: 0,
        local_id: 0,
        count: leaves.hashes.len(),
        alg: Some(ALGORITHM.into()),
        init_hash: None,
        hashes: VecByteBuf(leaves.hashes.iter().map(|hash| ByteBuf::from(hash.to_vec())).collect()),
        fixed_block_size: Some(leaves.length.min(LEAF as u64)),
        variable_block_sizes: None,
    }]);
    builder.add_assertion(label, &binding).map_err(failed)?;
    Ok(())
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
        Ok(Self { hasher: Hasher::Idle, least, builder: Box::new(builder) })
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
        let builder = &mut self.builder;
        if let Some(leaves) = self.hasher.finish()? {
            bind(builder, leaves)?;
        }
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
