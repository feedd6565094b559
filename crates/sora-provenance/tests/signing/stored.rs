//! Manifests that are kept apart from their clips.

use std::io::Cursor;
use std::time::Duration;

use rayon::prelude::*;
use sora_provenance::{
    KeyAlgorithm, LivePart, LiveSigner, Location, TrustAnchors, Validity, embedded_manifest, verify_stored,
};

use crate::common::{Chain, ID, claim, patched, read, signed_file};

fn manifest_of(clip: &[u8]) -> Vec<u8> {
    embedded_manifest(&mut Cursor::new(clip)).unwrap().expect("a manifest")
}

#[test]
fn a_manifest_is_checked_without_its_clip() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let mut live = LiveSigner::new(claim(), chain.keys.clone(), Duration::from_secs(3600)).unwrap();
    let parts = live.push(&read("fragmented.mp4")).unwrap();
    let Some(LivePart::Init(init)) = parts.into_iter().next() else { panic!("no beginning") };
    for (name, clip) in [
        ("file", signed_file("progressive.mp4", &claim(), &chain.keys)),
        ("patched", patched(&read("progressive.mp4"), &claim(), &chain.keys)),
        ("fragmented", signed_file("fragmented.mp4", &claim(), &chain.keys)),
        ("live", init),
    ] {
        let manifest = manifest_of(&clip);
        let report = verify_stored(&manifest, &chain.anchors).unwrap();
        assert_eq!(report.validity, Validity::TrustedOwn, "{name}: {report:?}");
        assert_eq!(report.location, Location::Store);
        assert!(report.problems().is_empty(), "{name}: {:?}", report.problems());
        assert_eq!(
            report.bindings.iter().map(|found| found.value.as_str()).collect::<Vec<_>>(),
            [ID],
            "{name}"
        );
        assert!(report.generation.is_some(), "{name}");
        let unknown = verify_stored(&manifest, &TrustAnchors::none()).unwrap();
        assert_eq!(unknown.validity, Validity::Untrusted, "{name}: {unknown:?}");
        let others = Chain::new(KeyAlgorithm::Es256);
        let other = verify_stored(&manifest, &others.anchors).unwrap();
        assert_eq!(other.validity, Validity::Untrusted, "{name}: {other:?}");
    }
}

#[test]
fn a_clip_without_a_manifest_has_none_and_what_is_none_is_refused() {
    assert_eq!(embedded_manifest(&mut Cursor::new(read("progressive.mp4"))).unwrap(), None);
    for bytes in [b"".as_slice(), b"no manifest at all", &[0; 64], &read("progressive.mp4")] {
        let error = verify_stored(bytes, &TrustAnchors::none()).unwrap_err().to_string();
        assert!(error.contains("no manifest that can be read"), "{error}");
    }
}

#[test]
fn a_byte_that_changes_is_seen_or_changes_nothing_that_is_said() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let manifest = manifest_of(&signed_file("progressive.mp4", &claim(), &chain.keys));
    let before = verify_stored(&manifest, &chain.anchors).unwrap();
    let said = |report: &sora_provenance::ManifestReport| {
        (report.id.clone(), report.bindings.clone(), report.generation.clone(), report.actions.clone())
    };
    let refused: usize = (0..manifest.len())
        .into_par_iter()
        .map(|at| {
            let mut changed = manifest.clone();
            changed[at] ^= 1;
            match verify_stored(&changed, &chain.anchors) {
                Ok(report) if report.validity != Validity::Invalid => {
                    assert_eq!(said(&report), said(&before), "byte {at}");
                    0
                }
                _ => 1,
            }
        })
        .sum();
    // What is left is padding, and the certificates' names of algorithms.
    assert!(refused * 10 > manifest.len() * 8, "{refused} of {}", manifest.len());
}
