//! A signed clip that is signed again keeps what it was, and what was wrong with it.

use sora_provenance::*;

use crate::common::*;

/// Signs `parent` again, by another, who knows nothing of how it was made.
fn again(parent: &[u8], signer: &Chain) -> Vec<u8> {
    let (folder, path) = stored(parent);
    let output = folder.path().join("again.mp4");
    sign_file(&path, &output, &Claim { title: Some("A copy".into()), ..Claim::default() }, &signer.keys)
        .unwrap();
    std::fs::read(output).unwrap()
}

#[test]
fn a_parent_keeps_its_manifest() {
    let (first, second) = (Chain::new(KeyAlgorithm::Ed25519), Chain::new(KeyAlgorithm::Es256));
    let parent = signed_file("progressive.mp4", &claim(), &first.keys);
    let report = verify(&again(&parent, &second), &second.anchors);
    assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
    let manifest = report.manifest().unwrap();
    assert!(manifest.generation.is_none(), "that is the parent's");
    let [ingredient] = manifest.ingredients.as_slice() else { panic!("{report:#?}") };
    assert_eq!(ingredient.relationship, "parentOf");
    assert_eq!(ingredient.validity, Some(IngredientValidity::Untrusted));
}

#[test]
fn a_tampered_parent_is_reported() {
    let (first, second) = (Chain::new(KeyAlgorithm::Ed25519), Chain::new(KeyAlgorithm::Ed25519));
    let mut parent = signed_file("progressive.mp4", &claim(), &first.keys);
    let at = place(&parent, b"mdat").end - 1;
    parent[at] ^= 1;
    let report = verify(&again(&parent, &second), &second.anchors);
    let manifest = report.manifest().unwrap();
    let [ingredient] = manifest.ingredients.as_slice() else { panic!("{report:#?}") };
    assert_eq!(ingredient.validity, Some(IngredientValidity::Invalid), "{report:#?}");
    assert!(ingredient.failures.iter().any(|code| code == "assertion.bmffHash.mismatch"), "{report:#?}");
    let judged = judge(&report, &WatermarkEvidence::NotLookedFor, Resolution::None);
    assert!(judged.reasons.iter().any(|reason| reason.contains("had been changed before")), "{judged:?}");
}

#[test]
fn a_record_is_not_put_over_another_manifest() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let (folder, path) = stored(&signed_file("progressive.mp4", &claim(), &signer.keys));
    let output = folder.path().join("again.mp4");
    let error = sign_file(&path, &output, &claim(), &signer.keys).unwrap_err().to_string();
    assert!(error.contains("has a C2PA manifest already"), "{error}");
    assert!(!output.exists());
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, b"no clip at all").unwrap();
    assert!(sign_file(&broken, &output, &claim(), &signer.keys).is_err());
    assert!(!output.exists());
}
