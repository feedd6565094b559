//! Which weights a model has, for the record of what it makes: their SHA-256.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use sha2::Digest as _;
use sora_record::Sha256;

/// Weights up to this size are hashed at once, in bytes: a fifth of a second. Larger ones on a thread of their own,
/// while they are loaded and the first frames are made.
const AT_ONCE: u64 = 256 << 20;

/// The digest of a model's transformer, as far as it is known yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeightsDigest(Arc<OnceLock<Option<Sha256>>>);

/// What tells one state of a file from another.
type State = (PathBuf, u64, Option<SystemTime>);

impl WeightsDigest {
    /// Of the files that hold the weights, in order; for one file it is what `sha256sum` says. Files that were hashed
    /// before in this process, and did not change, are not read again.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Self {
        static KNOWN: Mutex<Option<HashMap<Vec<State>, WeightsDigest>>> = Mutex::new(None);
        let state: Vec<State> = paths.iter().map(|path| state(path)).collect();
        let size: u64 = state.iter().map(|(_, length, _)| length).sum();
        let digest = {
            let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get_or_insert_default();
            if let Some(digest) = known.get(&state) {
                return digest.clone();
            }
            let digest = Self::default();
            known.insert(state, digest.clone());
            digest
        };
        if size <= AT_ONCE {
            digest.compute(&paths);
        } else {
            let of_thread = digest.clone();
            let thread = std::thread::Builder::new().name("sora:weights".into());
            // Without a thread the record goes without: nothing else hangs on it.
            let _ = thread.spawn(move || of_thread.compute(&paths));
        }
        digest
    }

    /// The digest; `None` while it is not known, or where the files cannot be read.
    pub(crate) fn get(&self) -> Option<Sha256> {
        self.0.get().copied().flatten()
    }

    fn compute(&self, paths: &[PathBuf]) {
        self.0.get_or_init(|| hash(paths).ok());
    }
}

fn state(path: &Path) -> State {
    let metadata = std::fs::metadata(path).ok();
    let length = metadata.as_ref().map_or(0, std::fs::Metadata::len);
    (path.to_owned(), length, metadata.and_then(|metadata| metadata.modified().ok()))
}

fn hash(paths: &[PathBuf]) -> std::io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    for path in paths {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        loop {
            let piece = file.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            let length = piece.len();
            file.consume(length);
        }
    }
    Ok(Sha256(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_all_files_in_order_and_follows_their_changes() {
        let folder = tempfile::tempdir().expect("it works");
        let paths: Vec<PathBuf> = ["a", "b"].map(|name| folder.path().join(name)).into();
        std::fs::write(&paths[0], "ab").expect("it works");
        std::fs::write(&paths[1], "c").expect("it works");
        // FIPS 180-2, B.1: the digest of "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(WeightsDigest::of(paths.clone()).get().expect("it works").to_string(), expected);
        std::fs::write(&paths[1], "cd").expect("it works");
        assert_ne!(WeightsDigest::of(paths.clone()).get().expect("it works").to_string(), expected);
        std::fs::remove_file(&paths[1]).expect("it works");
        assert_eq!(WeightsDigest::of(paths).get(), None);
    }
}
