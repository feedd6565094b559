//! What the repository carries stays as small as it has to be.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Bytes of all files of a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("its size");
            if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[test]
fn the_model_that_ships_is_under_40_mb() {
    let model = root().join("models/sora-tiny");
    let bytes = size(&model);
    assert!((10_000_000..40_000_000).contains(&bytes), "models/sora-tiny has {bytes} bytes");
    for part in ["transformer", "vae", "text_encoder", "tokenizer", "scheduler", "prompt_enhancer"] {
        assert!(size(&model.join(part)) > 0, "{part}");
    }
    assert!(model.join("CARD.md").is_file());
}

#[test]
fn fixtures_are_under_10_mb_in_all() {
    let mut folders = vec![root().join("crates"), root().join("plugins"), root().join("tests")];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("fixtures") => bytes += size(&path),
                Some("target") => {}
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    assert!((1..10_000_000).contains(&bytes), "fixtures have {bytes} bytes");
}
