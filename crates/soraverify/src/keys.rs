//! Keys, as a command line names them.

use std::fs::File;
use std::path::Path;

use sora_watermark::Key;

/// The key in a file of 32 bytes; `public` is the key that everybody has.
pub(crate) fn read(path: &Path) -> Result<Key, String> {
    if path == Path::new("public") {
        return Ok(Key::public());
    }
    let key = File::open(path).and_then(Key::from_reader);
    key.map_err(|error| format!("the key file {} cannot be used: {error}", path.display()))
}
