//! What is done to signed clips shows.

use sora_provenance::*;

use crate::common::*;

fn signed() -> (Chain, [Vec<u8>; 2]) {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let file = signed_file("progressive.mp4", &claim(), &signer.keys);
    let patch = patched(&read("progressive.mp4"), &claim(), &signer.keys);
    (signer, [file, patch])
}

#[test]
fn a_flipped_bit_shows_wherever_it_is() {
    let (signer, clips) = signed();
    for bytes in clips {
        assert_eq!(verdict(&verify(&bytes, &signer.anchors)), Verdict::Authentic);
        let find = |words: &[u8]| bytes.windows(words.len()).position(|window| window == words).unwrap();
        let places = [
            place(&bytes, b"mdat").end - 1,
            place(&bytes, b"mdat").start + 16,
            place(&bytes, b"moov").start + 40,
            find(b"trainedAlgorithmicMedia"),
            find(b"sora-tiny"),
            find(b"specVersion"),
            find(b"Example Pictures"),
        ];
        for at in places {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let report = verify(&changed, &signer.anchors);
            assert_eq!(verdict(&report), Verdict::Tampered, "byte {at}: {report:#?}");
        }
    }
}

#[test]
fn a_clip_without_its_manifest_has_none() {
    let (signer, clips) = signed();
    for bytes in clips {
        let manifest = place(&bytes, b"uuid");
        let mut stripped = bytes.clone();
        stripped[manifest.start + 4..manifest.start + 8].copy_from_slice(b"free");
        let report = verify(&stripped, &signer.anchors);
        assert!(matches!(report.credentials, Credentials::Absent));
        assert_eq!(verdict(&report), Verdict::NoEvidence);
    }
}

#[test]
fn a_manifest_does_not_fit_another_clip() {
    let (signer, clips) = signed();
    for bytes in clips {
        let mut moved = bytes[..place(&bytes, b"mdat").start].to_vec();
        moved.extend_from_slice(&read("faststart.mp4")[place(&read("faststart.mp4"), b"ftyp").end..]);
        assert_eq!(verdict(&verify(&moved, &signer.anchors)), Verdict::Tampered);
        let mut more = bytes.clone();
        more.extend_from_slice(b"\0\0\0\x0cmdat1234");
        assert_eq!(verdict(&verify(&more, &signer.anchors)), Verdict::Tampered, "a second mdat");
    }
}

#[test]
fn truncations_are_judged_and_never_accepted() {
    let (signer, clips) = signed();
    for bytes in clips {
        for length in (0..bytes.len()).step_by(7) {
            let (_folder, path) = stored(&bytes[..length]);
            match verify_file(&path, None, &signer.anchors) {
                Err(ProvenanceError::Container(_)) => {}
                Err(error) => panic!("{length}: {error}"),
                Ok(report) => {
                    let verdict = verdict(&report);
                    // A file that ends before its media data looks like the beginning of a fragmented one.
                    if verdict == Verdict::Inconclusive && length <= place(&bytes, b"mdat").start {
                        continue;
                    }
                    assert!(
                        matches!(verdict, Verdict::Tampered | Verdict::NoEvidence),
                        "{length}: {verdict:?}"
                    );
                }
            }
        }
    }
}
