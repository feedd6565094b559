//! What is signed in each way is found again.

use std::sync::Arc;

use sora_provenance::*;
use sora_record::{Input, Mode, Prompt, PromptPolicy};

use crate::common::*;

const TYPES: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/";

fn assert_says_the_claim(report: &Report, location: Location) {
    let manifest = report.manifest().unwrap();
    assert_eq!(manifest.location, location);
    assert_eq!(manifest.actions, ["c2pa.created", "c2pa.watermarked.bound"]);
    assert_eq!(manifest.digital_source_types, [format!("{TYPES}trainedAlgorithmicMedia")]);
    assert_eq!(manifest.bindings, [Binding { alg: WATERMARK_ALG.into(), value: ID.into() }]);
    let generation = manifest.generation.as_ref().unwrap();
    assert_eq!(generation.seed, Some(u64::MAX));
    assert_eq!(generation.guidance_scale, Some(4.25));
    assert_eq!(generation.model, record(Mode::TextToVideo).model);
    assert!(matches!(generation.prompt, Some(Prompt::Sha256(_))), "{:?}", generation.prompt);
    let signer = manifest.signer.as_ref().unwrap();
    assert_eq!(signer.organization.as_deref(), Some("Example Pictures"));
    assert!(signer.development);
    assert!(manifest.id.starts_with("urn:c2pa:"), "{}", manifest.id);
    assert!(manifest.instance_id.len() > "xmp:iid:".len(), "an instance {:?}", manifest.instance_id);
    assert_eq!(manifest.claim_generator, [format!("sora-gst {}", env!("CARGO_PKG_VERSION"))]);
    assert!(manifest.ingredients.is_empty());
}

fn assert_trust(bytes: &[u8], signer: &Chain) -> Report {
    let report = verify(bytes, &signer.anchors);
    assert_eq!(report.manifest().unwrap().validity, Validity::TrustedOwn, "{report:#?}");
    assert_eq!(verdict(&report), Verdict::Authentic);
    let unknown = verify(bytes, &TrustAnchors::none());
    assert_eq!(unknown.manifest().unwrap().validity, Validity::Untrusted, "{unknown:#?}");
    assert_eq!(verdict(&unknown), Verdict::ValidUntrusted);
    assert!(unknown.problems().is_empty());
    report
}

#[test]
fn a_file_is_signed() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let signer = Chain::new(algorithm);
        for name in ["progressive.mp4", "faststart.mp4", "fragmented.mp4"] {
            let bytes = signed_file(name, &claim(), &signer.keys);
            let report = assert_trust(&bytes, &signer);
            assert_says_the_claim(&report, Location::Embedded);
            assert!(!contains(&bytes, b"heron in a rusty"), "the prompt is in {name}");
            let added = bytes.len() - read(name).len();
            assert!(added < 6000, "a manifest of {added} bytes");
        }
    }
}

#[test]
fn a_clip_is_signed_while_it_is_written() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let signer = Chain::new(algorithm);
        for name in ["progressive.mp4", "faststart.mp4"] {
            let bytes = patched(&read(name), &claim(), &signer.keys);
            let report = assert_trust(&bytes, &signer);
            assert_says_the_claim(&report, Location::Embedded);
            assert!(!contains(&bytes, b"heron in a rusty"), "the prompt is in {name}");
        }
    }
}

#[test]
fn a_long_clip_needs_no_more_space_than_is_reserved() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let clip = read("progressive.mp4");
    let (media, index) = (place(&clip, b"mdat"), place(&clip, b"moov"));
    // Media data that ends with a piece, or a byte before or after it.
    for length in [(9 << 20) - 1, 9 << 20, (9 << 20) + 1] {
        let mut samples = clip[media.start + 8..media.end].to_vec();
        samples.resize(length, 0x5a);
        let mut long = clip[..media.start].to_vec();
        long.extend_from_slice(&(length as u32 + 8).to_be_bytes());
        long.extend_from_slice(b"mdat");
        long.extend_from_slice(&samples);
        long.extend_from_slice(&clip[index.clone()]);
        let bytes = patched(&long, &claim(), &signer.keys);
        assert_trust(&bytes, &signer);
        let mut changed = bytes;
        let at = place(&changed, b"mdat").end - 1;
        changed[at] ^= 1;
        assert_eq!(verdict(&verify(&changed, &signer.anchors)), Verdict::Tampered);
    }
}

#[test]
fn a_manifest_stands_beside_the_clip() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    for name in ["progressive.mp4", "faststart.mp4"] {
        let before = read(name);
        let manifest = sign_sidecar(&fixture(name), &claim(), &signer.keys).unwrap();
        assert_eq!(read(name), before, "the clip stays as it is");
        let (folder, path) = stored(&before);
        let sidecar = folder.path().join("clip.mp4.c2pa");
        std::fs::write(&sidecar, &manifest).unwrap();
        let report = verify_file(&path, Some(&sidecar), &signer.anchors).unwrap();
        assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
        assert_says_the_claim(&report, Location::Sidecar);
        let none = verify_file(&path, None, &signer.anchors).unwrap();
        assert!(matches!(none.credentials, Credentials::Absent));
        let mut changed = before.clone();
        let at = place(&changed, b"mdat").end - 1;
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let report = verify_file(&path, Some(&sidecar), &signer.anchors).unwrap();
        assert_eq!(verdict(&report), Verdict::Tampered);
        std::fs::write(&sidecar, b"no manifest").unwrap();
        let report = verify_file(&path, Some(&sidecar), &signer.anchors).unwrap();
        assert!(matches!(report.credentials, Credentials::Unreadable { .. }), "{report:#?}");
    }
}

#[test]
fn what_an_ephemeral_signer_signs_is_trusted_by_nobody() {
    let keys = Arc::new(SigningKeys::ephemeral().unwrap());
    let bytes = patched(&read("progressive.mp4"), &claim(), &keys);
    let other = Chain::new(KeyAlgorithm::Ed25519);
    for anchors in [TrustAnchors::none(), other.anchors] {
        let report = verify(&bytes, &anchors);
        assert_eq!(verdict(&report), Verdict::ValidUntrusted, "{report:#?}");
        assert!(report.manifest().unwrap().signer.as_ref().unwrap().development);
    }
}

#[test]
fn the_prompt_is_published_as_its_policy_says() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let clip = read("progressive.mp4");
    for (policy, in_the_file) in
        [(PromptPolicy::Omit, false), (PromptPolicy::SaltedHash, false), (PromptPolicy::Text, true)]
    {
        let mut claim = claim();
        claim.record.as_mut().unwrap().prompt_policy = policy;
        let manifest = sign_sidecar(&fixture("progressive.mp4"), &claim, &signer.keys).unwrap();
        for bytes in [patched(&clip, &claim, &signer.keys), manifest] {
            assert_eq!(contains(&bytes, PROMPT.as_bytes()), in_the_file, "{policy:?}");
        }
    }
}

#[test]
fn footage_that_went_in_is_named() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    for mode in [Mode::ImageToVideo, Mode::Extend, Mode::Restyle, Mode::Merge] {
        let mut record = record(mode);
        let input = |id: &str| Input { id: id.into(), sha256: None };
        record.inputs = vec![input("urn:c2pa:one"), input("the second clip")];
        let claim = Claim { record: Some(record), ..Claim::default() };
        for bytes in [
            patched(&read("progressive.mp4"), &claim, &signer.keys),
            signed_file("progressive.mp4", &claim, &signer.keys),
        ] {
            let report = assert_trust(&bytes, &signer);
            let manifest = report.manifest().unwrap();
            assert_eq!(manifest.actions, ["c2pa.opened", "c2pa.edited"]);
            let types = [format!("{TYPES}compositeWithTrainedAlgorithmicMedia")];
            assert_eq!(manifest.digital_source_types, types);
            let named: Vec<_> = manifest
                .ingredients
                .iter()
                .map(|found| (found.title.as_deref().unwrap(), found.relationship.as_str(), found.validity))
                .collect();
            let expected = [("urn:c2pa:one", "parentOf", None), ("the second clip", "inputTo", None)];
            assert_eq!(named, expected);
        }
    }
    let claim = Claim { record: Some(record(Mode::Restyle)), ..Claim::default() };
    assert_trust(&patched(&read("progressive.mp4"), &claim, &signer.keys), &signer);
}

#[test]
fn a_claim_without_a_record_says_nothing_of_ai() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    for watermark_id in [None, Some(ID.to_owned())] {
        let claim = Claim { watermark_id, ..Claim::default() };
        for bytes in [
            patched(&read("progressive.mp4"), &claim, &signer.keys),
            signed_file("progressive.mp4", &claim, &signer.keys),
        ] {
            let report = assert_trust(&bytes, &signer);
            let manifest = report.manifest().unwrap();
            assert_eq!(manifest.actions[..2], ["c2pa.opened", "c2pa.published"]);
            assert!(manifest.digital_source_types.is_empty(), "{:?}", manifest.digital_source_types);
            assert!(manifest.generation.is_none());
            assert_eq!(manifest.bindings.len(), usize::from(claim.watermark_id.is_some()));
            for word in [&b"ai-disclosure"[..], b"lgorithmicMedia", b"org.sora-gst.generation"] {
                assert!(!contains(&bytes, word), "{}", String::from_utf8_lossy(word));
            }
        }
    }
}

#[test]
fn the_manifest_says_how_it_was_made() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let bytes = patched(&read("progressive.mp4"), &claim(), &signer.keys);
    for words in [
        "allActionsIncluded",
        "specVersion",
        "2.4.0",
        "created_assertions",
        "c2pa.ai-disclosure",
        "prompt_guided",
        "org.sora-gst.generation",
    ] {
        assert!(contains(&bytes, words.as_bytes()), "{words}");
    }
    assert!(!contains(&bytes, b"gathered_assertions"), "all assertions are the signer's own");
}

#[test]
fn manifests_of_one_claim_have_one_length() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let lengths: Vec<usize> = (0..8)
        .map(|_| sign_sidecar(&fixture("progressive.mp4"), &claim(), &signer.keys).unwrap().len())
        .collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
}

#[test]
fn too_little_space_is_said_and_leaves_no_manifest() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let seal = ManifestSeal::new(claim(), signer.keys.clone()).unwrap();
    let needed = seal.manifest_bytes(0);
    let mut out = std::io::Cursor::new(Vec::new());
    let mut writer = PatchWriter::new(&mut out, seal, 1000).unwrap();
    writer.write(&read("progressive.mp4")).unwrap();
    let Err(error) = writer.finish() else { panic!("it fits") };
    let ProvenanceError::Reserve { needed: found, reserved: 1000 } = error else { panic!("{error}") };
    assert!(found <= needed, "{found} of {needed}");
    let bytes = out.into_inner();
    assert!(!contains(&bytes, b"c2pa"));
}
