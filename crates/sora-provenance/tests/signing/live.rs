//! Streams that are signed fragment by fragment.

use std::sync::Arc;
use std::time::Duration;

use sora_provenance::*;

use crate::common::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The parts of a fragmented file: its beginning, four fragments, the index at its end.
fn parts() -> Vec<Vec<u8>> {
    let bytes = read("fragmented.mp4");
    let places = boxes(&bytes);
    let ends: Vec<usize> = places
        .iter()
        .filter(|(kind, _, _)| matches!(kind, b"moov" | b"mdat" | b"mfra"))
        .map(|(_, at, size)| at + size)
        .collect();
    let mut at = 0;
    let mut parts: Vec<Vec<u8>> =
        ends.iter().map(|end| bytes[std::mem::replace(&mut at, *end)..*end].to_vec()).collect();
    assert_eq!(parts.len(), 4);
    parts.splice(3..3, [parts[1].clone(), parts[2].clone()]);
    parts
}

fn signer(claim: &Claim, keys: &Arc<SigningKeys>) -> LiveSigner {
    LiveSigner::new(claim.clone(), keys.clone(), HOUR).unwrap()
}

fn bytes_of(parts: Vec<LivePart>) -> Vec<Vec<u8>> {
    parts
        .into_iter()
        .map(|part| match part {
            LivePart::Init(bytes) | LivePart::Fragment(bytes) => bytes,
        })
        .collect()
}

/// A signed stream: its beginning and four fragments.
pub(crate) fn signed_stream(claim: &Claim, keys: &Arc<SigningKeys>) -> Vec<Vec<u8>> {
    let mut signer = signer(claim, keys);
    let signed = bytes_of(signer.push(&parts().concat()).unwrap());
    assert_eq!(signer.fragments(), 4);
    signer.finish().unwrap();
    assert_eq!(signed.len(), 5);
    signed
}

fn live(report: &Report) -> &LiveReport {
    report.manifest().unwrap().live.as_ref().unwrap()
}

#[test]
fn a_stream_is_signed_fragment_by_fragment() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Es256] {
        let chain = Chain::new(algorithm);
        let input = parts();
        for length in [1, 100, 4096] {
            let mut signer = signer(&claim(), &chain.keys);
            let mut signed = Vec::new();
            for piece in input.concat().chunks(length) {
                signed.extend(bytes_of(signer.push(piece).unwrap()));
            }
            signer.finish().unwrap();
            let report = verify(&signed.concat(), &chain.anchors);
            assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
            assert_eq!(verdict(&verify(&signed.concat(), &TrustAnchors::none())), Verdict::ValidUntrusted);
            let expected = LiveReport {
                fragments: 4,
                good: 4,
                sessions: 1,
                first: Some(1),
                last: Some(4),
                streak: 4,
                ..LiveReport::default()
            };
            assert_eq!(*live(&report), expected);
            assert_eq!(report.container, Container::FragmentedMp4);
            assert_eq!(report.manifest().unwrap().bindings[0].value, ID);
            for (before, after) in input[1..5].iter().zip(&signed[1..]) {
                let added = after.len() - before.len();
                assert!(added < 600, "{added} bytes for a fragment");
            }
            assert!(!contains(&signed.concat(), b"heron in a rusty"), "the prompt is in it");
        }
    }
}

#[test]
fn the_beginning_alone_says_nothing_of_a_stream() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let report = verify(&signed_stream(&claim(), &chain.keys)[0], &chain.anchors);
    assert_eq!(verdict(&report), Verdict::Inconclusive, "{report:#?}");
    assert_eq!(report.manifest().unwrap().validity, Validity::TrustedOwn);
}

#[test]
fn the_next_session_key_takes_over() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let input = parts();
    let mut signer = signer(&claim(), &chain.keys);
    assert_eq!(signer.rotate().unwrap(), None, "nothing began");
    let mut signed = bytes_of(signer.push(&input[..3].concat()).unwrap());
    signed.extend(bytes_of(signer.rotate().unwrap().into_iter().collect()));
    signed.extend(bytes_of(signer.push(&input[3..].concat()).unwrap()));
    let report = verify(&signed.concat(), &chain.anchors);
    assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
    assert_eq!((live(&report).sessions, live(&report).last), (2, Some(4)));
    // Who joins after that needs nothing of what was before.
    let report = verify(&signed[3..].concat(), &chain.anchors);
    assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
    assert_eq!(live(&report).first, Some(3));
    // The first key does not sign for the second manifest.
    let swapped = [signed[3].clone(), signed[1].clone()].concat();
    let report = verify(&swapped, &chain.anchors);
    assert_eq!(verdict(&report), Verdict::Tampered);
    assert!(live(&report).problems[0].explanation.contains("does not name"), "{report:#?}");
}

#[test]
fn what_is_done_to_a_stream_shows() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let signed = signed_stream(&claim(), &chain.keys);
    let other = signed_stream(&claim(), &chain.keys);
    let foreign = signed_stream(&claim(), &Chain::new(KeyAlgorithm::Ed25519).keys);
    let plain = parts();
    let [init, one, two, three, four] = [0, 1, 2, 3, 4].map(|at| signed[at].as_slice());
    let renamed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = bytes.windows(4).position(|found| found == b"emsg").unwrap();
        bytes[at..at + 4].copy_from_slice(b"free");
        bytes
    };
    let shortened = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = bytes.windows(5).position(|found| found == b"fseg\0").unwrap() + 5;
        bytes[at + 8..at + 12].copy_from_slice(&1u32.to_be_bytes());
        bytes
    };
    let twice = [&one[..place(one, b"emsg").end], &one[place(one, b"emsg").start..]].concat();
    let start = place(one, b"styp").end;
    let within = [&one[..start], b"\0\0\0\x0cfree1234", &one[start..]].concat();
    let (renamed, shortened) = (renamed(one), shortened(one));
    let cases: [(&str, Vec<&[u8]>, &str); 17] = [
        ("a missing first fragment", vec![init, two, three], "1 is due"),
        ("a missing fragment", vec![init, one, three, four], "2 is due"),
        ("fragments in another order", vec![init, one, three, two, four], "2 is due"),
        ("a fragment that comes again", vec![init, one, two, two, three], "came already"),
        ("all of it again", vec![init, one, two, init, one, two], "came already"),
        ("a fragment that is not signed", vec![init, one, &plain[2], three], "not signed"),
        ("a fragment whose event is gone", vec![init, &renamed, two], "not signed"),
        ("a fragment of another session", vec![init, one, &other[2], three], "does not name"),
        ("the beginning of another session", vec![&other[0], one, two], "does not name"),
        ("a second beginning of somebody else", vec![init, one, &foreign[0], &foreign[2]], "another signer"),
        ("a second beginning without a manifest", vec![init, one, &plain[0], two], "without a manifest"),
        ("two events", vec![init, &twice, two], "2 signatures"),
        ("an event that ends early", vec![init, &shortened, two], "cover all of its time"),
        ("half a fragment", vec![init, one, &two[..two.len() - 5]], "middle of a box"),
        ("a header without media", vec![init, one, &two[..place(two, b"moof").end]], "without media data"),
        ("a box within a fragment", vec![init, &within, two], "not those that were signed"),
        ("media that belongs to none", vec![init, one, b"\0\0\0\x0cmdat1234"], "not fragmented"),
    ];
    for (what, parts, explanation) in cases {
        let report = verify(&parts.concat(), &chain.anchors);
        assert_eq!(verdict(&report), Verdict::Tampered, "{what}: {report:#?}");
        let problems = report.problems().join("; ");
        assert!(problems.contains(explanation), "{what}: {problems}");
    }
    // A stream that ends is one that ends: nobody said how long it would be.
    let report = verify(&[init, one, two].concat(), &chain.anchors);
    assert_eq!(verdict(&report), Verdict::Authentic);
}

#[test]
fn a_stream_may_be_joined_late_where_that_is_expected() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let signed = signed_stream(&claim(), &chain.keys);
    let mut verifier = LiveVerifier::joining_late(chain.anchors.clone());
    assert!(!verifier.is_live() && verifier.report().is_none());
    for part in [&signed[0], &signed[3], &signed[4]] {
        verifier.push(part).unwrap();
    }
    verifier.finish().unwrap();
    assert!(verifier.is_live());
    let report = verifier.report().unwrap();
    assert_eq!(verdict(&report), Verdict::Authentic, "{report:#?}");
    assert_eq!((live(&report).first, live(&report).missing), (Some(3), 0));
    let mut gap = LiveVerifier::joining_late(chain.anchors);
    for part in [&signed[0], &signed[2], &signed[4]] {
        gap.push(part).unwrap();
    }
    assert_eq!(gap.fragments().missing, 1);
    assert_eq!(gap.fragments().problems.len(), 1);
}

#[test]
fn what_cannot_be_signed_live_is_refused() {
    let chain = Chain::new(KeyAlgorithm::Ed25519);
    let input = parts();
    let refused = |bytes: &[u8]| {
        let mut signer = signer(&claim(), &chain.keys);
        match signer.push(bytes) {
            Err(error) => error.to_string(),
            Ok(_) => signer.finish().unwrap_err().to_string(),
        }
    };
    assert!(refused(&read("progressive.mp4")).contains("not fragmented"));
    assert!(refused(&read("faststart.mp4")).contains("knows no fragments"));
    assert!(refused(&signed_stream(&claim(), &chain.keys).concat()).contains("manifest already"));
    assert!(refused(&input[1]).contains("before the index"));
    assert!(refused(&input[0][..20]).contains("before its index"));
    assert!(refused(&[&input[0][..], &input[1][..50]].concat()).contains("middle of a box"));
    let mut absolute = input.clone();
    let at = absolute[1].windows(4).position(|found| found == b"tfhd").unwrap();
    absolute[1][at + 7] |= 1;
    assert!(refused(&absolute.concat()).contains("base-data-offset"));
    for seconds in [0, 59, 31 * 24 * 3600] {
        let Err(error) = LiveSigner::new(claim(), chain.keys.clone(), Duration::from_secs(seconds)) else {
            panic!("{seconds} s are accepted");
        };
        assert_eq!(error.to_string(), format!("period of a session key is {seconds} s; 60 to 2592000 s"));
    }
}
