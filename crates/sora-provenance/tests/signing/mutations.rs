//! Signed clips, changed at random: nobody crashes or hangs over them, and what is still taken for unchanged plays the
//! same. `SORA_MUTATIONS` is the number of them (10,000 take a few minutes; without it a tenth, for CI).

use rayon::prelude::*;
use sora_provenance::*;

use crate::common::*;

/// Random numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        start..(start + 1 + self.below(most)).min(length)
    }
}

/// Places where a box's type stands, in whatever box or data.
fn headers(bytes: &[u8]) -> Vec<usize> {
    const KINDS: [&[u8; 4]; 20] = [
        b"ftyp", b"uuid", b"free", b"mdat", b"moov", b"mvhd", b"trak", b"mdia", b"minf", b"stbl", b"stco",
        b"stsz", b"stsc", b"moof", b"traf", b"trun", b"tfhd", b"emsg", b"jumb", b"styp",
    ];
    (4..bytes.len().saturating_sub(4))
        .filter(|at| KINDS.iter().any(|kind| bytes[*at..].starts_with(*kind)))
        .collect()
}

fn mutate(clip: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = clip.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.len() < 16 {
            break;
        }
        let borders: Vec<usize> = boxes(clip).iter().map(|found| found.1).collect();
        match random.below(9) {
            0 => {
                for _ in 0..=random.below(8) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next() as u8;
                }
            }
            1 => bytes.truncate(random.below(bytes.len())),
            2 => drop(bytes.drain(random.range(bytes.len(), 4096))),
            3 => {
                let piece = bytes[random.range(bytes.len(), 4096)].to_vec();
                let at = random.below(bytes.len());
                bytes.splice(at..at, piece);
            }
            4 | 5 => {
                let places = headers(&bytes);
                if places.is_empty() {
                    continue;
                }
                let at = places[random.below(places.len())] - 4;
                let sizes = [0u32, 1, 7, 8, 9, 0x7fff_ffff, u32::MAX, random.next() as u32 & 0xffff];
                bytes[at..at + 4].copy_from_slice(&sizes[random.below(sizes.len())].to_be_bytes());
            }
            6 => {
                // A box more, or one twice, at a border.
                let at = borders[random.below(borders.len())].min(bytes.len());
                let kinds = [b"free", b"skip", b"moov", b"mdat", b"uuid", b"moof", b"emsg", b"ftyp"];
                let content = random.below(200);
                let mut more = (8 + content as u32).to_be_bytes().to_vec();
                more.extend_from_slice(kinds[random.below(kinds.len())]);
                more.extend((0..content).map(|_| random.next() as u8));
                bytes.splice(at..at, more);
            }
            7 => {
                let all = boxes(clip);
                let (_, at, size) = all[random.below(all.len())];
                let copy = clip[at..at + size].to_vec();
                let to = borders[random.below(borders.len())].min(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let (_, at, size) = boxes(clip)[random.below(borders.len())];
                if at + size <= bytes.len() {
                    bytes.drain(at..at + size);
                }
            }
        }
    }
    bytes
}

/// What a player is given: the index and the media data, in order.
fn played(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut at = 0;
    let mut played = Vec::new();
    while at < bytes.len() {
        let header = bytes.get(at..at + 8)?;
        let size = match u32::from_be_bytes(header[..4].try_into().ok()?) {
            0 => bytes.len() - at,
            1 => usize::try_from(u64::from_be_bytes(bytes.get(at + 8..at + 16)?.try_into().ok()?)).ok()?,
            size => size as usize,
        };
        let whole = bytes.get(at..at.checked_add(size.max(8))?)?;
        if matches!(&header[4..], b"moov" | b"mdat" | b"moof") {
            played.push(whole);
        }
        at += whole.len();
    }
    Some(played)
}

#[test]
fn what_is_changed_at_random_is_noticed_or_plays_the_same() {
    let number = std::env::var("SORA_MUTATIONS").ok().map(|text| text.parse().expect("a number"));
    let number: u64 = number.unwrap_or(1000);
    let signer = Chain::new(KeyAlgorithm::Ed25519);
    let clips = [
        signed_file("progressive.mp4", &claim(), &signer.keys),
        patched_tightly(&read("faststart.mp4"), &claim(), &signer.keys),
        signed_file("fragmented.mp4", &claim(), &signer.keys),
        crate::live::signed_stream(&claim(), &signer.keys).concat(),
    ];
    for clip in &clips {
        assert_eq!(verdict(&verify(clip, &signer.anchors)), Verdict::Authentic);
    }
    let counts: Vec<[u64; 3]> = (0..number)
        .into_par_iter()
        .map_init(
            || tempfile::tempdir().unwrap(),
            |folder, number| {
                let clip = &clips[number as usize % clips.len()];
                let bytes = mutate(clip, &mut Random(number));
                let path = folder.path().join("clip.mp4");
                std::fs::write(&path, &bytes).unwrap();
                let Ok(report) = verify_file(&path, None, &signer.anchors) else { return [1, 0, 0] };
                let verdict = verdict(&report);
                if !matches!(verdict, Verdict::Authentic | Verdict::AuthenticOther | Verdict::ValidUntrusted)
                {
                    return [0, 1, 0];
                }
                let (before, after) = (played(clip), played(&bytes));
                // A live stream may end at any fragment: nobody said how long it would be.
                let same = match (&before, &after) {
                    (Some(before), Some(after))
                        if report.manifest().is_some_and(|found| found.live.is_some()) =>
                    {
                        after.len() % 2 == 1 && before.starts_with(after)
                    }
                    _ => before == after,
                };
                assert!(same, "mutation {number} plays something else and is {verdict:?}");
                [0, 0, 1]
            },
        )
        .collect();
    let sum = |column: usize| counts.iter().map(|row| row[column]).sum::<u64>();
    let (unreadable, noticed, same) = (sum(0), sum(1), sum(2));
    eprintln!("{number} mutations: {unreadable} no MP4 any more, {noticed} noticed, {same} play the same");
    assert!(noticed * 2 > number, "most are to be read, and noticed: {noticed} of {number}");
}
