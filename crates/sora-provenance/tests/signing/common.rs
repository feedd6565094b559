//! Keys, claims and signed clips.

use std::fs::File;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sora_provenance::{
    Claim, DevelopmentChain, KeyAlgorithm, ManifestSeal, PatchWriter, Report, SigningKeys, TrustAnchors,
    Verdict, WatermarkEvidence, development_chain, expected_manifest_bytes, judge, verify_file,
};
use sora_record::{GenerationRecord, Mode, Model, Prompt};
use tempfile::TempDir;

/// The prompt in the claims of these tests.
pub(crate) const PROMPT: &str = "an unmistakable heron in a rusty bathtub";
/// The watermark's id in them.
pub(crate) const ID: &str = "10112233445566778899aabb";

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A chain, and the files of it.
pub(crate) struct Chain {
    pub(crate) made: DevelopmentChain,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) anchors: TrustAnchors,
}

impl Chain {
    pub(crate) fn new(algorithm: KeyAlgorithm) -> Self {
        let made = development_chain(algorithm, "Example Pictures").unwrap();
        let keys = SigningKeys::from_pem(made.chain.as_bytes(), made.key.as_bytes(), None).unwrap();
        let mut root = tempfile::NamedTempFile::new().unwrap();
        root.write_all(made.root.as_bytes()).unwrap();
        let anchors = TrustAnchors::from_pem_files(&[root.path().to_owned()]).unwrap();
        Self { made, keys: Arc::new(keys), anchors }
    }
}

pub(crate) fn record(mode: Mode) -> GenerationRecord {
    let mut record = GenerationRecord::new("soragen", "0.1.0", mode);
    record.model =
        Some(Model { id: "sora-tiny".into(), weights_sha256: Some("ab".repeat(32).parse().unwrap()) });
    record.prompt = Some(Prompt::Text(PROMPT.into()));
    // The largest: readers that count in 63 bits lose it.
    record.seed = Some(u64::MAX);
    record.guidance_scale = Some(4.25);
    record.created_at_ms = Some(1_760_000_000_123);
    record
}

pub(crate) fn claim() -> Claim {
    Claim {
        record: Some(record(Mode::TextToVideo)),
        watermark_id: Some(ID.into()),
        title: Some("A heron".into()),
    }
}

/// A folder with a file in it.
pub(crate) fn stored(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub(crate) fn verify(bytes: &[u8], anchors: &TrustAnchors) -> Report {
    let (_folder, path) = stored(bytes);
    verify_file(&path, None, anchors).unwrap()
}

pub(crate) fn verdict(report: &Report) -> Verdict {
    judge(report, &WatermarkEvidence::NotLookedFor, sora_provenance::Resolution::None).verdict
}

/// Signs a fixture as a file.
pub(crate) fn signed_file(name: &str, claim: &Claim, keys: &SigningKeys) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("signed.mp4");
    sora_provenance::sign_file(&fixture(name), &output, claim, keys).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    std::fs::read(output).unwrap()
}

/// Signs a clip while it is written, in pieces, with as much space as is advised without knowing the claim.
pub(crate) fn patched(clip: &[u8], claim: &Claim, keys: &Arc<SigningKeys>) -> Vec<u8> {
    let seal = ManifestSeal::new(claim.clone(), keys.clone()).unwrap();
    let megabytes = (clip.len() >> 20) as u64 + 1;
    let space = expected_manifest_bytes(keys, megabytes);
    assert!(seal.manifest_bytes(megabytes) <= space);
    patched_in(clip, seal, space)
}

/// Signs a small clip while it is written, with the space that its claim needs.
pub(crate) fn patched_tightly(clip: &[u8], claim: &Claim, keys: &Arc<SigningKeys>) -> Vec<u8> {
    let seal = ManifestSeal::new(claim.clone(), keys.clone()).unwrap();
    let space = seal.manifest_bytes(0);
    patched_in(clip, seal, space)
}

fn patched_in(clip: &[u8], seal: ManifestSeal, space: usize) -> Vec<u8> {
    let mut writer = PatchWriter::new(Cursor::new(Vec::new()), seal, space).unwrap();
    for piece in clip.chunks(100_003) {
        writer.write(piece).unwrap();
    }
    writer.finish().unwrap().output.into_inner()
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
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

pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Writes a file with a mode.
pub(crate) fn write_mode(path: &Path, bytes: &[u8], mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    File::create(path).unwrap().write_all(bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
