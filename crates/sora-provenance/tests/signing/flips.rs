//! Every byte of a small signed clip is changed, one after the other, by one bit; all bits of what describes the
//! manifest's boxes, which no signature covers. `SORA_ALL_BITS=1` changes all bits of everything, which takes minutes.

use std::ops::Range;

use rayon::prelude::*;
use sora_provenance::*;

use crate::common::*;

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
    // The padding's name and type are no more signed than the padding: it is in COSE's unprotected header.
    if let Some(name) = bytes[signature..manifest.end].windows(4).position(|found| found == b"\x63pad") {
        ranges.push(signature + name..signature + name + 5);
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
        assert_changes_show(&bytes, &excluded(&bytes), &signer.anchors);
    }
}

#[test]
fn no_changed_byte_of_a_live_stream_is_judged_authentic() {
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let bytes = crate::live::signed_stream(&claim(), &signer.keys).concat();
    let mut excluded = excluded(&bytes);
    for (_, at, _) in boxes(&bytes).iter().filter(|(kind, _, _)| kind == b"emsg") {
        let times = at + 12 + b"urn:c2pa:verifiable-segment-info\0fseg\0".len();
        // Flags and times of an event, and the tag of its message. Times are bounded by what the fragment plays.
        excluded.extend([at + 9..at + 12, times..times + 17]);
    }
    assert_changes_show(&bytes, &excluded, &signer.anchors);
}

/// Where the descriptions of the manifest's boxes are.
fn descriptions(bytes: &[u8]) -> Vec<Range<usize>> {
    let manifest = place(bytes, b"uuid");
    let found = manifest.clone().filter(|at| bytes[*at..].starts_with(b"jumd"));
    let ranges =
        found.map(|at| at..at - 4 + u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize);
    ranges.inspect(|range| assert!(range.end <= manifest.end)).collect()
}

/// Changes each byte, and asserts that nobody takes the clip for unchanged but where it is `excluded`.
fn assert_changes_show(bytes: &[u8], excluded: &[Range<usize>], anchors: &TrustAnchors) {
    let covered = |at: usize| !excluded.iter().any(|range| range.contains(&at));
    let count = (0..bytes.len()).filter(|at| covered(*at)).count();
    assert!(count > 4000 && count * 10 > bytes.len(), "{count} of {} are covered", bytes.len());
    let (all, described) = (std::env::var_os("SORA_ALL_BITS").is_some(), descriptions(bytes));
    assert!(described.len() > 8, "{} descriptions", described.len());
    let changes: Vec<(usize, u8)> = (0..bytes.len())
        .flat_map(|at| {
            let whole = all || described.iter().any(|range| range.contains(&at));
            // Elsewhere each bit is the one that is changed somewhere.
            (0..8).filter(move |bit| whole || *bit == at % 8).map(move |bit| (at, 1 << bit))
        })
        .collect();
    let accepted: Vec<usize> = changes
        .into_par_iter()
        .map_init(
            || tempfile::tempdir().unwrap(),
            |folder, (at, bit)| {
                let mut changed = bytes.to_vec();
                changed[at] ^= bit;
                let path = folder.path().join("clip.mp4");
                std::fs::write(&path, changed).unwrap();
                let verdict = verify_file(&path, None, anchors).ok().map(|report| verdict(&report));
                let taken = [Verdict::Authentic, Verdict::AuthenticOther, Verdict::ValidUntrusted];
                verdict.filter(|verdict| taken.contains(verdict)).map(|_| at)
            },
        )
        .flatten()
        .collect();
    let wrong: Vec<usize> = accepted.iter().copied().filter(|at| covered(*at)).collect();
    eprintln!("{} bytes, {count} covered, {} changed without being noticed", bytes.len(), accepted.len());
    let around: Vec<_> = (wrong.iter())
        .map(|at| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(24)..(at + 8).min(bytes.len())]).into_owned()
        })
        .collect();
    assert!(wrong.is_empty(), "changed bytes that nobody notices: {wrong:?}, at the 25th byte of {around:?}");
}
