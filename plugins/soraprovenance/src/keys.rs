//! Keys and ids, as properties name them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use sora_watermark::{Key, Payload};

/// What the property says where it is not set.
const VARIABLE: &str = "SORA_WATERMARK_KEY";

/// The name of the key that everybody has, where a file is expected. A file of that name is `./public`.
const PUBLIC: &str = "public";

/// The keys that a `key` property lists, parted by colons: files of 32 bytes, or `public`. Not set, it is
/// `$SORA_WATERMARK_KEY`; without that too, the public key.
pub(crate) fn listed(property: Option<&OsStr>) -> Result<Vec<Key>, String> {
    let variable = std::env::var_os(VARIABLE).filter(|list| !list.is_empty());
    match property.map(OsStr::to_owned).or(variable) {
        Some(list) => std::env::split_paths(&list).map(|path| read(&path)).collect(),
        None => Ok(vec![Key::public()]),
    }
}

/// As [`listed`], where there can be only one key; a colon is then part of a file's name.
pub(crate) fn single(property: Option<&OsStr>) -> Result<Key, String> {
    if let Some(path) = property {
        return read(Path::new(path));
    }
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(Key::public());
    };
    read(Path::new(&path)).map_err(|error| {
        format!("{error} (of ${VARIABLE}, which lists several for detectors, but names one for a mark)")
    })
}

fn read(path: &Path) -> Result<Key, String> {
    if path == Path::new(PUBLIC) {
        return Ok(Key::public());
    }
    let key = File::open(path).and_then(Key::from_reader);
    key.map_err(|error| format!("the key file {} cannot be used: {error}", path.display()))
}

/// A payload that nobody had before.
pub(crate) fn random_payload() -> Result<Payload, String> {
    let mut id = [0; 11];
    getrandom::fill(&mut id).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(Payload::from_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_payload(), random_payload());
    }

    #[test]
    fn a_key_that_is_none_is_refused_by_file_and_length() {
        for (name, part) in [
            ("/nowhere/key", "No such file"),
            ("/", "directory"),
            ("/dev/zero", "more than 32"),
            ("/dev/null", "0 bytes"),
        ] {
            let error = single(Some(OsStr::new(name))).expect_err("no key");
            assert!(error.contains(name) && error.contains(part), "{error}");
        }
        let both = listed(Some(OsStr::new("public:public"))).expect("two keys");
        assert_eq!(both.len(), 2);
    }
}
