//! Prompts that were embedded before need no text encoder: what it made of them is on disk.

use std::path::PathBuf;

use sora_model::weights::WeightFiles;
use tch::{Device, Kind, Tensor};

use crate::device::Kinds;
use crate::disk_cache::{DiskCache, Key};

/// Of all files together: hundreds of prompts of the largest encoder in use.
const MOST_BYTES: u64 = 256 << 20;

/// Smaller text encoders are loaded and have read a prompt sooner than anybody notices.
const LARGE_ENCODER: u64 = 256 << 20;

/// Formats that embeddings come in, by the byte that stands for them in a file.
const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

/// Bytes before the values: the format, then the two sizes.
const HEADER: usize = 1 + 8 + 8;

/// Whether embeddings of prompts are kept on disk, for the next time and for other processes.
///
/// A file is called by a hash of the tokens and of the identity of the weights (path, size, time), and holds the
/// embeddings alone, readable by the user alone. That is not the prompt, but who has the file and the
/// model can test a guess, and might recover much of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum PromptCacheChoice {
    /// For text encoders of more than 256 MB, in `$XDG_CACHE_HOME/sora/prompts` (`~/.cache/sora/prompts`). Such an
    /// encoder is loaded when the first prompt comes that is not kept yet.
    #[default]
    Auto,
    /// Never.
    Off,
    /// For every text encoder, in this folder.
    At(PathBuf),
}

/// Embeddings on disk that one text encoder made.
pub(super) struct PromptCache {
    disk: DiskCache,
    identity: Key,
}

impl PromptCache {
    /// `None` where nothing is to be kept.
    pub(super) fn new(
        choice: &PromptCacheChoice,
        weights: &WeightFiles,
        kinds: Kinds,
        device: Device,
    ) -> Option<Self> {
        let disk = match choice {
            PromptCacheChoice::Off => return None,
            PromptCacheChoice::Auto if weights.total_bytes() <= LARGE_ENCODER => return None,
            PromptCacheChoice::Auto => DiskCache::of_user("prompts", MOST_BYTES)?,
            PromptCacheChoice::At(folder) => DiskCache::at(folder, MOST_BYTES),
        };
        Some(Self { disk, identity: identity(weights, kinds.transformer, device)? })
    }

    /// What the encoder made of the tokens `ids`: `[1, L, dim]` for L tokens, on the CPU.
    pub(super) fn get(&self, ids: &[i64], dim: i64) -> Option<Tensor> {
        let contents = self.disk.get(self.key(ids))?;
        let (header, values) = contents.split_at_checked(HEADER)?;
        let kind = *KINDS.get(usize::from(header[0]))?;
        let shape = [1, ids.len() as i64, dim];
        let wanted =
            ids.len().checked_mul(usize::try_from(dim).ok()?)?.checked_mul(kind.elt_size_in_bytes())?;
        let known = header[1..] == sizes(&shape) && values.len() == wanted;
        known.then(|| Tensor::from_data_size(values, &shape, kind))
    }

    /// Keeps `hidden` `[1, L, dim]`.
    pub(super) fn put(&self, ids: &[i64], hidden: &Tensor) {
        let Some(kind) = KINDS.iter().position(|kind| *kind == hidden.kind()) else { return };
        let Ok(shape) = <[i64; 3]>::try_from(hidden.size()) else { return };
        let hidden = hidden.to_device(Device::Cpu).contiguous();
        let mut contents = vec![0; HEADER + hidden.numel() * hidden.kind().elt_size_in_bytes()];
        contents[0] = kind as u8;
        contents[1..HEADER].copy_from_slice(&sizes(&shape));
        hidden.copy_data_u8(&mut contents[HEADER..], hidden.numel());
        self.disk.put(self.key(ids), &contents);
    }

    fn key(&self, ids: &[i64]) -> Key {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Key::of(&[b"prompt 1", self.identity.as_bytes(), &ids])
    }
}

fn sizes(&[_, length, dim]: &[i64; 3]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..].copy_from_slice(&dim.to_le_bytes());
    bytes
}

/// Which encoder: its files as they lie there, and how it computes. `None` for files that tell no time.
fn identity(weights: &WeightFiles, kind: Kind, device: Device) -> Option<Key> {
    let device = if device.is_cuda() { "cuda" } else { "cpu" };
    let mut text = format!("{kind:?} on {device}");
    for path in weights.paths() {
        let (path, about) = (path.canonicalize().ok()?, path.metadata().ok()?);
        text += &format!("\n{path:?} {} {:?}", about.len(), about.modified().ok()?);
    }
    Some(Key::of(&[text.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn weights() -> WeightFiles {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        WeightFiles::open(&fixtures.join("tiny-wan21/text_encoder")).expect("a fixture")
    }

    fn cache(folder: &Path, kind: Kind) -> PromptCache {
        let choice = PromptCacheChoice::At(folder.into());
        let kinds = Kinds { transformer: kind, vae: Kind::Float, fp8: false };
        PromptCache::new(&choice, &weights(), kinds, Device::Cpu).expect("it is asked for")
    }

    #[test]
    fn embeddings_come_back_bit_for_bit_in_every_format() {
        let folder = tempfile::tempdir().expect("a folder");
        for kind in KINDS {
            let cache = cache(folder.path(), kind);
            assert!(cache.get(&[3, 1, 2], 4).is_none());
            let hidden = crate::noise::seeded_noise(1, &[1, 3, 4]).to_kind(kind);
            // Not contiguous.
            cache.put(&[3, 1, 2], &hidden.transpose(1, 2).contiguous().transpose(1, 2));
            let kept = cache.get(&[3, 1, 2], 4).expect("it was kept");
            assert_eq!((kept.kind(), kept.size()), (kind, vec![1, 3, 4]));
            assert_eq!(kept.to_kind(Kind::Double), hidden.to_kind(Kind::Double));
            assert!(cache.get(&[3, 1, 4], 4).is_none(), "other tokens");
            assert!(cache.get(&[3, 1, 2], 5).is_none(), "another encoder");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), KINDS.len());
    }

    #[test]
    fn small_encoders_keep_nothing_unless_asked() {
        let kinds = Kinds { transformer: Kind::Float, vae: Kind::Float, fp8: false };
        for choice in [PromptCacheChoice::Auto, PromptCacheChoice::Off] {
            assert!(PromptCache::new(&choice, &weights(), kinds, Device::Cpu).is_none());
        }
    }
}
