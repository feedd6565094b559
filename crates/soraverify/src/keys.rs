//! Keys and ids, as a command line names them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sora_watermark::{Key, Payload};
use zeroize::Zeroizing;

/// The key in a file of 32 bytes; `public` is the key that everybody has.
pub(crate) fn read(path: &Path) -> Result<Key, String> {
    if path == Path::new("public") {
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
        // The version that the crate writes, no flags.
        22 => format!("{:x}0{text}", Payload::VERSION),
        _ => text.to_owned(),
    };
    digits.parse().map_err(|_| "an id has 24 hexadecimal digits, or 22 without version and flags".to_owned())
}
