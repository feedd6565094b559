//! What is wrong with a file beside its signature.

use std::io::Cursor;

use proptest::prelude::*;
use sora_provenance::{Container, ProvenanceError, inspect};

use crate::common::*;

fn problems(bytes: &[u8]) -> Vec<String> {
    inspect(&mut Cursor::new(bytes)).unwrap().problems
}

fn refused(bytes: &[u8]) -> String {
    match inspect(&mut Cursor::new(bytes)) {
        Err(ProvenanceError::Container(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

/// A fixture with a manifest where it belongs. Nothing in it moves: the chunk offsets are then wrong, so it is
/// for fragmented clips, whose offsets are relative.
fn signed() -> Vec<u8> {
    let clip = clip("fragmented.mp4");
    [&clip[..32], &c2pa("manifest", 50), &clip[32..]].concat()
}

#[test]
fn whole_files_have_no_problems() {
    for (name, container) in [
        ("progressive.mp4", Container::Mp4),
        ("faststart.mp4", Container::Mp4),
        ("fragmented.mp4", Container::FragmentedMp4),
    ] {
        let found = inspect(&mut Cursor::new(clip(name))).unwrap();
        assert_eq!(found.problems, Vec::<String>::new(), "{name}");
        assert_eq!(found.container, container);
        assert!(!found.signed);
    }
    assert_eq!(problems(&signed()), Vec::<String>::new());
    let beginning = clip("fragmented.mp4")[..891].to_vec();
    assert_eq!(inspect(&mut Cursor::new(beginning)).unwrap().container, Container::InitSegment);
}

#[test]
fn samples_outside_the_media_data_are_found() {
    // Chunks that point into a `free` box, which hashes leave out.
    for name in ["progressive.mp4", "faststart.mp4", "fragmented.mp4"] {
        let mut hidden = clip(name);
        let media = place(&hidden, b"mdat");
        hidden[media.start + 4..media.start + 8].copy_from_slice(b"free");
        hidden.extend(boxed(b"mdat", b"nothing"));
        assert!(problems(&hidden)[0].contains("outside the media data"), "{name}: {:?}", problems(&hidden));
    }
    // A run that begins in the media data and ends behind it.
    let mut long = clip("progressive.mp4");
    let media = place(&long, b"mdat");
    let shorter = (media.len() - 10) as u32;
    long[media.start..media.start + 4].copy_from_slice(&shorter.to_be_bytes());
    long.splice(media.end - 10..media.end, boxed(b"free", b"xy"));
    assert!(problems(&long)[0].contains("outside the media data"), "{:?}", problems(&long));
}

#[test]
fn samples_in_another_file_are_found() {
    let mut clip = clip("progressive.mp4");
    // `url ` with flag 1: in this file.
    let at = clip.windows(8).position(|window| window == b"url \0\0\0\x01").unwrap();
    clip[at + 7] = 0;
    assert_eq!(problems(&clip), ["a track takes its samples from another file"]);
}

#[test]
fn manifests_beyond_one_or_out_of_place_are_found() {
    let clip = clip("fragmented.mp4");
    let manifest = c2pa("manifest", 50);
    let twice = [&clip[..32], &manifest, &manifest, &clip[32..]].concat();
    assert_eq!(problems(&twice), ["2 manifests; one is allowed"]);
    let behind = [&clip[..], &manifest].concat();
    assert_eq!(problems(&behind), ["the manifest stands behind \"moov\"; its place is before"]);
    let unknown = [&clip[..32], &c2pa("manifesto", 5), &clip[32..]].concat();
    assert_eq!(problems(&unknown), ["a C2PA box with the unknown purpose \"manifesto\""]);
    let first = [&manifest[..], &clip].concat();
    assert_eq!(problems(&first), ["it does not begin with \"ftyp\""]);
}

#[test]
fn a_file_that_says_it_is_signed_and_is_not_whole_has_a_problem_and_any_other_is_refused() {
    let clip = signed();
    let behind = place(&clip, b"uuid").end;
    for length in (behind + 1..clip.len()).step_by(61) {
        let found = inspect(&mut Cursor::new(&clip[..length])).unwrap();
        assert!(found.signed);
        assert_eq!(
            found.problems.len(),
            usize::from(!boundary(&clip, length)),
            "{length}: {:?}",
            found.problems
        );
    }
    for length in [1, 7, 8, 31, 33, 40, behind - 1] {
        refused(&clip[..length]);
    }
    assert_eq!(refused(b""), "it is empty");
    assert!(refused(b"not a video at all").contains("are left"));
    assert!(refused(b"\0\0\0\x10RIFFxxxxWAVE").contains("begins with a box \"RIFF\""));
    assert!(refused(&[0; 64]).contains("begins with"));
    for garbage in [&b"x"[..], b"\0\0\0\x05free", b"\xff\xff\xff\xffmoov", &[0xff; 100]] {
        assert_eq!(problems(&[&clip[..], garbage].concat()).len(), 1, "{garbage:?}");
        refused(&[&self::clip("progressive.mp4")[..], garbage].concat());
    }
}

/// Whether a file may be cut here without cutting a box.
fn boundary(clip: &[u8], at: usize) -> bool {
    boxes(clip).iter().any(|found| found.1 == at) || at == clip.len()
}

#[test]
fn a_thousand_nested_boxes_and_absurd_sizes_are_no_trouble() {
    let mut nested = Vec::new();
    for _ in 0..1000 {
        nested = boxed(b"moov", &nested);
    }
    let clip = [boxed(b"ftyp", b"isom\0\0\0\0isom"), nested, boxed(b"mdat", b"x")].concat();
    assert_eq!(problems(&clip), Vec::<String>::new());
    let signed = signed();
    for at in boxes(&signed).iter().map(|found| found.1) {
        for size in [[0, 0, 0, 0], [0, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0, 0, 0, 7]] {
            let mut bytes = signed.clone();
            bytes[at..at + 4].copy_from_slice(&size);
            let _ = inspect(&mut Cursor::new(&bytes));
        }
        let mut bytes = signed.clone();
        bytes[at..at + 4].copy_from_slice(&[0, 0, 0, 1]);
        bytes[at + 8..at + 16].copy_from_slice(&(1u64 << 63).to_be_bytes());
        match inspect(&mut Cursor::new(&bytes)) {
            Ok(found) => assert!(!found.problems.is_empty(), "{at}"),
            Err(error) => assert!(error.to_string().contains("9223372036854775808"), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_file_makes_the_inspection_panic(
        flips in prop::collection::vec((0usize..4374, any::<u8>()), 0..12),
        cut in 0usize..4400,
        name in prop::sample::select(vec!["progressive.mp4", "faststart.mp4", "fragmented.mp4"]),
    ) {
        let mut clip = clip(name);
        for (at, value) in flips {
            let at = at % clip.len();
            clip[at] = value;
        }
        clip.truncate(cut);
        let _ = inspect(&mut Cursor::new(&clip));
    }
}
