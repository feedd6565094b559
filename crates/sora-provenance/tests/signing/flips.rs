//! Every byte of a small signed clip is changed, one after the other.

use std::ops::Range;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sora_provenance::*;

use crate::common::*;

/// What one clip may take at most. What is left then is skipped, which is said.
const TIME: Duration = Duration::from_secs(30);

/// What a signature does not cover by the specification (C2PA 2.4 §18.7): `ftyp`, `free`, the header of the
/// manifest's box, padding of the signature with its name, zeros after the manifest. That a place is padding is seen by its
/// zeros: at least 16 in a row within the signature box, the last in the manifest.
fn excluded(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = boxes(bytes)
        .iter()
        .filter(|(kind, _, _)| matches!(kind, b"ftyp" | b"free" | b"skip"))
        .map(|(_, at, size)| *at..at + size)
        .collect();
    let manifest = place(bytes, b"uuid");
    // Size, type, extended type, version and flags, purpose, offset: see below for which of it matters.
    ranges.push(manifest.start..manifest.start + 8 + 16 + 4 + 9 + 8);
    let label = b"c2pa.signature\0";
    let within = &bytes[manifest.clone()];
    let signature = manifest.start + within.windows(label.len()).rposition(|found| found == label).unwrap();
    // The padding's name is no more signed than the padding: it is in COSE's unprotected header.
    if let Some(name) = bytes[signature..manifest.end].windows(4).position(|found| found == b"\x63pad") {
        ranges.push(signature + name..signature + name + 4);
    }
    let mut at = signature;
    while at < manifest.end {
        let zeros = bytes[at..manifest.end].iter().take_while(|byte| **byte == 0).count();
        if zeros >= 16 {
            ranges.push(at..at + zeros);
        }
        at += zeros.max(1);
    }
    ranges
}

#[test]
fn no_changed_byte_is_judged_authentic() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let clips = [
        signed_file("progressive.mp4", &claim(), &signer.keys),
        patched_tightly(&read("progressive.mp4"), &claim(), &signer.keys),
    ];
    for bytes in clips {
        let excluded = excluded(&bytes);
        let covered = |at: usize| !excluded.iter().any(|range| range.contains(&at));
        let count = (0..bytes.len()).filter(|at| covered(*at)).count();
        assert!(count > 4000 && count * 10 > bytes.len(), "{count} of {} are covered", bytes.len());
        let start = Instant::now();
        let results: Vec<Option<(usize, Option<Verdict>)>> = (0..bytes.len())
            .into_par_iter()
            .map_init(
                || tempfile::tempdir().unwrap(),
                |folder, at| {
                    if start.elapsed() > TIME {
                        return None;
                    }
                    let mut changed = bytes.clone();
                    // Each bit is the one that is changed somewhere.
                    changed[at] ^= 1 << (at % 8);
                    let path = folder.path().join("clip.mp4");
                    std::fs::write(&path, changed).unwrap();
                    Some((at, verify_file(&path, None, &signer.anchors).ok().map(|report| verdict(&report))))
                },
            )
            .collect();
        let looked: Vec<_> = results.iter().flatten().collect();
        if looked.len() < bytes.len() {
            eprintln!("only {} of {} bytes were changed in {TIME:?}", looked.len(), bytes.len());
        }
        assert!(looked.len() * 4 > bytes.len(), "the machine is too slow for this test");
        let accepted: Vec<usize> = looked
            .iter()
            .filter(|(_, verdict)| {
                matches!(
                    verdict,
                    Some(Verdict::Authentic | Verdict::AuthenticOther | Verdict::ValidUntrusted)
                )
            })
            .map(|(at, _)| *at)
            .collect();
        let wrong: Vec<usize> = accepted.iter().copied().filter(|at| covered(*at)).collect();
        eprintln!(
            "{} bytes, {count} covered, {} changed without being noticed, in {:?}",
            bytes.len(),
            accepted.len(),
            start.elapsed()
        );
        assert!(wrong.is_empty(), "changed bytes that nobody notices: {wrong:?}");
    }
}
