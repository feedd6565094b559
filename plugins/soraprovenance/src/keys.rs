//! Keys and ids, as properties name them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sora_watermark::{Key, Payload};
use zeroize::Zeroizing;

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
    let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    match property.map(OsStr::to_owned).or(variable) {
        Some(path) => read(Path::new(&path)),
        None => Ok(Key::public()),
    }
}

fn read(path: &Path) -> Result<Key, String> {
    if path == Path::new(PUBLIC) {
        return Ok(Key::public());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(Key::LENGTH + 1));
    // One byte more than a key has shows that a file is too long, however long it is.
    let read = File::open(path).and_then(|file| file.take(Key::LENGTH as u64 + 1).read_to_end(&mut bytes));
    let name = path.display();
    read.map_err(|error| format!("the key file {name} cannot be read: {error}"))?;
    if bytes.len() > Key::LENGTH {
        return Err(format!("the key file {name} has more than {} bytes, a key's length", Key::LENGTH));
    }
    Key::from_slice(&bytes).map_err(|error| format!("the key file {name} does not hold a key: {error}"))
}

/// A payload of 24 hexadecimal digits, or of the 22 of its id.
pub(crate) fn payload(text: &str) -> Result<Payload, String> {
    let digits = match text.len() {
        // The version that this crate writes, no flags.
        22 => format!("{:x}0{text}", Payload::VERSION),
        _ => text.to_owned(),
    };
    digits.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!("\"{shown}\" is no id: an id has 24 hexadecimal digits, or 22 without version and flags")
    })
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
    fn an_id_has_22_or_24_digits() {
        let id = "68656c6c6f20776f726c64";
        let short = payload(id).expect("an id");
        assert_eq!(short, Payload::from_id(*b"hello world"));
        assert_eq!(payload(&short.to_string()), Ok(short));
        for wrong in ["", "12", "zz656c6c6f20776f726c64", "68656c6c6f20776f726c6", "ääääääääääää"]
        {
            let error = payload(wrong).expect_err("no id");
            assert!(error.contains(wrong) && error.contains("24"), "{error}");
        }
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_payload(), random_payload());
    }

    #[test]
    fn a_key_that_is_none_is_refused_by_file_and_length() {
        for (name, part) in [
            ("/nowhere/key", "cannot be read"),
            ("/", "cannot be read"),
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
