//! Clips, and looking at them.

use std::io::Read;
use std::path::{Path, PathBuf};

use sora_provenance::{ProvenanceError, Seal, SparseFile};

/// The extended type of C2PA's `uuid` box.
pub(crate) const C2PA: [u8; 16] =
    [0xd8, 0xfe, 0xc3, 0xd6, 0x1b, 0x0e, 0x48, 0x3c, 0x92, 0x97, 0x58, 0x28, 0x87, 0x7e, 0xc4, 0x81];

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn clip(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

pub(crate) fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(kind);
    bytes.extend_from_slice(content);
    bytes
}

/// A C2PA box of a purpose, with so much in it.
pub(crate) fn c2pa(purpose: &str, length: usize) -> Vec<u8> {
    let mut content = C2PA.to_vec();
    content.extend_from_slice(&[0; 4]);
    content.extend_from_slice(purpose.as_bytes());
    content.extend_from_slice(&[0; 9]);
    content.resize(content.len() + length, 7);
    boxed(b"uuid", &content)
}

/// Boxes at the top level: kind, place, size.
pub(crate) fn boxes(bytes: &[u8]) -> Vec<([u8; 4], usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let number = |at: usize, length: usize| {
            bytes[at..at + length].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let size = match number(at, 4) {
            0 => (bytes.len() - at) as u64,
            1 => number(at + 8, 8),
            size => size,
        } as usize;
        found.push((bytes[at + 4..at + 8].try_into().unwrap(), at, size));
        at += size;
    }
    found
}

/// Where the first box of a kind is.
pub(crate) fn place(bytes: &[u8], kind: &[u8; 4]) -> std::ops::Range<usize> {
    let (_, at, size) = *boxes(bytes).iter().find(|found| &found.0 == kind).unwrap();
    at..at + size
}

/// What `ffmpeg` decodes: a line for each frame with its hash. `None` where there is no `ffmpeg`.
pub(crate) fn frames(path: &Path) -> Option<String> {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0", "-f", "framemd5", "-"])
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
}

/// Keeps what it is shown, and makes a manifest of a given length.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) length: usize,
    pub(crate) media: Vec<u8>,
    pub(crate) file: Vec<u8>,
    pub(crate) refuse: bool,
}

impl Seal for Witness {
    fn media(&mut self, data: bytes::Bytes) -> Result<(), ProvenanceError> {
        self.media.extend_from_slice(&data);
        Ok(())
    }

    fn seal(&mut self, file: &mut SparseFile<'_>) -> Result<Vec<u8>, ProvenanceError> {
        if self.refuse {
            return Err(ProvenanceError::Seal("the signer is not there".into()));
        }
        file.read_to_end(&mut self.file).unwrap();
        Ok(c2pa("manifest", self.length))
    }
}
