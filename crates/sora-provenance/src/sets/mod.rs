//! Sets of files: a beginning (`ftyp`, `moov`) and fragments (`moof`, `mdat`), as HLS and DASH publish them.
//!
//! A finished set is signed by a Merkle tree (C2PA 2.4 §18.6.2): the beginning's manifest has a hash of the beginning
//! and the leaves, each fragment gets a `uuid` box with its number and its way up the tree. A set that was signed as a
//! stream, fragment by fragment, has the manifest and the events of [`live`](crate::LiveSigner).
//!
//! c2pa 0.90 makes and checks the hashes. What it does not look at is checked here: that the beginning is bound at all
//! (`initHash`; without it 0.90 looks at no fragment), that all fragments are there, each once and in order, and
//! that samples lie in the media data of their fragment.

mod sign;
mod verify;

pub use sign::sign_set;
pub use verify::verify_set;

/// Longest beginning and longest fragment that are read, in bytes.
const PART_BYTES: u64 = 256 << 20;

/// Reads a part of a set.
fn read(path: &std::path::Path, what: &'static str) -> Result<Vec<u8>, crate::ProvenanceError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PART_BYTES + 1).read_to_end(&mut bytes))
        .map_err(crate::ProvenanceError::stream(what))?;
    if bytes.len() as u64 > PART_BYTES {
        let path = path.display();
        return Err(crate::mp4::boxes::bad(format!("{path} is longer than {PART_BYTES} bytes")));
    }
    Ok(bytes)
}
