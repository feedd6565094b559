//! What the clips of a folder were made from, kept beside them: those made next must be of the same.
//!
//! A folder of rendered clips or of latents is filled over several runs, and read again by the next one. Clips of another
//! seed, or latents of another VAE, would go among them unseen.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::presets;

/// Has the file at `path` say `origin`, or finds that it does.
///
/// # Errors
/// If it says another one: what was made so far is named as `what`.
pub(crate) fn settle<T: Serialize + DeserializeOwned + PartialEq>(
    path: &Path,
    origin: T,
    what: &str,
) -> anyhow::Result<()> {
    let differs = presets::settle_in(path, origin)?.err();
    differs.map_or(Ok(()), |differs| {
        anyhow::bail!(
            "{what} of {} are not of what is asked for now ({differs}): use another run folder, or what they were \
             begun with",
            path.parent().unwrap_or(path).display()
        )
    })
}

/// A digest (BLAKE3) of the weights of a model directory or one of its folders, or of a run's checkpoint.
pub(crate) fn digest(dir: &Path) -> anyhow::Result<String> {
    let checkpoint = dir.join("checkpoint.safetensors");
    let files = if checkpoint.exists() { vec![checkpoint] } else { weights_in(dir)? };
    anyhow::ensure!(!files.is_empty(), "{} holds no weights (*.safetensors)", dir.display());
    let mut hasher = blake3::Hasher::new();
    for path in files {
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        hasher.update_reader(file).with_context(|| path.display().to_string())?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// All weight files in a folder and in those within it, in the order of their names.
fn weights_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<_> =
        entries.with_context(|| dir.display().to_string())?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(weights_in(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq)]
    struct Origin {
        seed: u64,
        vae: Option<String>,
    }

    #[test]
    fn what_was_begun_from_something_else_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("origin.json");
        let settle = |seed, vae: &str| settle(&path, Origin { seed, vae: Some(vae.into()) }, "latents");
        settle(1, "a").expect("a new folder");
        settle(1, "a").expect("the same again");
        let said = settle(2, "a").expect_err("another seed").to_string();
        assert!(said.contains("its seed is 1, asked for is 2") && said.starts_with("latents of "), "{said}");
        assert!(settle(1, "b").is_err());
        settle(1, "a").expect("what was begun is as it was");
    }

    #[test]
    fn a_digest_is_of_all_weights_and_of_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        };
        let now = || digest(dir.path()).expect("weights");
        assert!(digest(dir.path()).expect_err("none").to_string().contains("no weights"));
        write("vae/a.safetensors", b"1");
        let one = now();
        write("b.safetensors", b"2");
        let two = now();
        write("config.json", b"{}");
        assert!(one != two && two == now());
        write("vae/a.safetensors", b"3");
        assert_ne!(now(), two);
    }
}
