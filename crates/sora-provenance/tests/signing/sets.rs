//! Beginnings and fragments in files of their own.

use std::path::PathBuf;

use sora_provenance::*;
use tempfile::TempDir;

use crate::common::*;

/// What somebody does to a file.
type Change<'c> = &'c dyn Fn(&mut Vec<u8>);

/// A set in a folder: paths of its beginning and of its fragments.
struct Set {
    folder: TempDir,
    init: PathBuf,
    fragments: Vec<PathBuf>,
}

fn stored(parts: &[Vec<u8>]) -> Set {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: String, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let init = write("init [720p].mp4".into(), &parts[0]);
    // By name the tenth stands before the second.
    let fragments = (parts[1..].iter().enumerate())
        .map(|(at, bytes)| write(format!("segment{}.m4s", at + 8), bytes))
        .collect();
    Set { folder, init, fragments }
}

/// A beginning and four fragments, as CMAF packagers write them.
fn plain() -> Set {
    let mut parts = crate::live::parts();
    parts.truncate(5);
    for part in &mut parts[1..] {
        part.splice(0..0, *b"\0\0\0\x18stypmsdh\0\0\0\0msdhiso6");
    }
    stored(&parts)
}

fn signed(chain: &Chain) -> Set {
    let set = plain();
    let output = set.folder.path().join("signed");
    sign_set(&set.init, &set.fragments, &output, &claim(), &chain.keys).unwrap();
    let within = |path: &PathBuf| output.join(path.file_name().unwrap());
    Set { init: within(&set.init), fragments: set.fragments.iter().map(within).collect(), folder: set.folder }
}

#[test]
fn a_finished_set_is_signed_and_every_change_shows() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let chain = Chain::new(algorithm);
        let set = signed(&chain);
        assert_eq!(std::fs::read_dir(set.init.parent().unwrap()).unwrap().count(), 5, "nothing else is left");
        let judge = |fragments: &[PathBuf]| verify_set(&set.init, fragments, &chain.anchors).unwrap();
        let report = judge(&set.fragments);
        assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
        assert_eq!(report.manifest().unwrap().bindings[0].value, ID);
        let at = |order: &[usize]| order.iter().map(|at| set.fragments[*at].clone()).collect::<Vec<_>>();
        for (what, order, explanation) in [
            ("two swapped", at(&[0, 2, 1, 3]), "it is number 3"),
            ("one missing", at(&[0, 1, 3]), "3 of the 4 fragments"),
            ("the last missing", at(&[0, 1, 2]), "3 of the 4 fragments"),
            ("one twice", at(&[0, 1, 1, 2, 3]), "it is number 2"),
            ("none", vec![], "no fragments"),
        ] {
            let report = judge(&order);
            assert_eq!(verdict(&report), Verdict::Tampered, "{what}: {report:#?}");
            let problems = report.problems().join("; ");
            assert!(problems.contains(explanation), "{what}: {problems}");
        }
        let changes: [(&str, usize, Change<'_>); 4] = [
            ("a bit of the media data", 1, &|bytes| *bytes.last_mut().unwrap() ^= 1),
            ("a bit of its index", 1, &|bytes| {
                let at = place(bytes, b"moof").end - 5;
                bytes[at] ^= 1;
            }),
            ("its place gone", 2, &|bytes| drop(bytes.drain(place(bytes, b"uuid")))),
            ("half of it", 3, &|bytes| bytes.truncate(bytes.len() / 2)),
        ];
        for (what, number, change) in changes {
            let whole = std::fs::read(&set.fragments[number]).unwrap();
            let mut bytes = whole.clone();
            change(&mut bytes);
            std::fs::write(&set.fragments[number], bytes).unwrap();
            let report = judge(&set.fragments);
            assert_eq!(verdict(&report), Verdict::Tampered, "{what}: {report:#?}");
            std::fs::write(&set.fragments[number], whole).unwrap();
        }
        // The beginning is bound too.
        let whole = std::fs::read(&set.init).unwrap();
        let mut bytes = whole.clone();
        let at = place(&bytes, b"moov").end - 3;
        bytes[at] ^= 1;
        std::fs::write(&set.init, bytes).unwrap();
        assert_eq!(verdict(&judge(&set.fragments)), Verdict::Tampered);
        std::fs::write(&set.init, whole).unwrap();
        assert_eq!(verdict(&judge(&set.fragments)), Verdict::Authentic);
    }
}

#[test]
fn fragments_of_another_set_are_found() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let (one, other) = (signed(&chain), signed(&chain));
    let mut mixed = one.fragments.clone();
    mixed[2].clone_from(&plain().fragments[2]);
    // Its folder is gone with it: that file cannot be read.
    assert!(matches!(verify_set(&one.init, &mixed, &chain.anchors), Err(ProvenanceError::Stream { .. })));
    let unsigned = plain();
    mixed[2].clone_from(&unsigned.fragments[2]);
    let report = verify_set(&one.init, &mixed, &chain.anchors).unwrap();
    assert_eq!(verdict(&report), Verdict::Tampered);
    assert!(report.problems().join("; ").contains("not signed"), "{report:#?}");
    // The same media signed twice has the same tree; what differs is the manifest in the beginning.
    assert_eq!(
        verdict(&verify_set(&other.init, &one.fragments, &chain.anchors).unwrap()),
        Verdict::Authentic
    );
    let report = verify_set(&unsigned.init, &unsigned.fragments, &chain.anchors).unwrap();
    assert_eq!(verdict(&report), Verdict::NoEvidence);
}

#[test]
fn a_set_that_was_signed_as_a_stream_is_checked_as_one() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let set = stored(&crate::live::signed_stream(&claim(), &chain.keys));
    let judge = |fragments: &[PathBuf]| verify_set(&set.init, fragments, &chain.anchors).unwrap();
    assert_eq!(verdict(&judge(&set.fragments)), Verdict::Authentic);
    let report = judge(&[set.fragments[0].clone(), set.fragments[2].clone()]);
    assert_eq!(verdict(&report), Verdict::Tampered);
    assert_eq!(report.manifest().unwrap().live.as_ref().unwrap().missing, 1);
}

#[test]
fn what_is_no_set_is_not_signed_and_nothing_is_overwritten() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let set = plain();
    let output = set.folder.path().join("signed");
    let refusal = |init: &PathBuf, fragments: &[PathBuf], output: &std::path::Path| {
        sign_set(init, fragments, output, &claim(), &chain.keys).unwrap_err().to_string()
    };
    assert!(refusal(&set.init, &[], &output).contains("without fragments"));
    assert!(refusal(&set.fragments[0], &set.fragments[1..], &output).contains("no index"));
    assert!(refusal(&set.init, &set.fragments, set.folder.path()).contains("is there already"));
    let twice = [set.fragments.as_slice(), &set.fragments[..1]].concat();
    assert!(refusal(&set.init, &twice, &output).contains("two parts are called"));
    let missing = [set.fragments.as_slice(), &["missing.m4s".into()]].concat();
    assert!(refusal(&set.init, &missing, &output).contains("reading a fragment"));
    assert!(!output.exists());
}
