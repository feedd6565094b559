//! A manifest put into a file while it is written, driven as `mp4mux` does it.

use std::io::{Cursor, Seek, SeekFrom, Write};

use proptest::prelude::*;
use sora_provenance::{Container, Inspection, PatchWriter, Patched, ProvenanceError, inspect};

use crate::common::*;

type Writer = PatchWriter<Cursor<Vec<u8>>, Witness>;

/// Space for the manifest in most tests.
const SPACE: usize = 600;
/// What a manifest of [`Witness`] takes beside its length.
const AROUND: usize = 8 + 16 + 4 + 8 + 9;

fn writer(length: usize, space: usize) -> Writer {
    PatchWriter::new(Cursor::new(Vec::new()), Witness { length, ..Witness::default() }, space).unwrap()
}

/// What a muxer does: `free` and an `mdat` of unknown length, samples, the index, then the length.
fn mux(writer: &mut Writer, clip: &[u8], pieces: &[usize]) -> Result<(), ProvenanceError> {
    let (free, media, index) = (place(clip, b"free"), place(clip, b"mdat"), place(clip, b"moov"));
    writer.write(&clip[..free.start])?;
    writer.write(&clip[free.clone()])?;
    writer.write(b"\0\0\0\0mdat")?;
    let mut samples = &clip[media.start + 8..media.end];
    for piece in pieces.iter().cycle() {
        let (now, later) = samples.split_at((*piece).min(samples.len()));
        writer.write(now)?;
        samples = later;
        if samples.is_empty() {
            break;
        }
    }
    writer.write(&clip[index])?;
    writer.seek(free.start as u64)?;
    writer.write(&clip[free.start..media.start + 8])
}

/// Finishes, and checks that the seal has seen the file that came out.
fn finish(writer: Writer) -> Vec<u8> {
    let Patched { output: out, seal: witness, .. } = writer.finish().unwrap();
    let bytes = out.into_inner();
    let media = place(&bytes, b"mdat");
    assert_eq!(bytes[media.start..media.start + 4], 1u32.to_be_bytes(), "the header of mdat has 16 bytes");
    assert_eq!(bytes[media.start + 16..media.end], witness.media);
    let mut shown = bytes.clone();
    shown[media.start + 16..media.end].fill(0);
    let (space, end) = (place(&bytes, b"ftyp").end, shown_free(&witness.file));
    shown.splice(space..end, witness.file[space..end].to_vec());
    assert!(shown == witness.file, "the seal has seen another file");
    let found = inspect(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(found, Inspection { container: Container::Mp4, signed: true, problems: vec![] });
    bytes
}

/// Where the space ends that the seal is shown as one `free` box.
fn shown_free(file: &[u8]) -> usize {
    place(file, b"free").end
}

/// A clip whose media data is `samples`; its index is that of a fixture, all samples at the beginning.
fn clip_of(samples: &[u8]) -> Vec<u8> {
    let clip = clip("progressive.mp4");
    let (media, index) = (place(&clip, b"mdat"), place(&clip, b"moov"));
    let mut made = clip[..media.start].to_vec();
    made.extend(boxed(b"mdat", samples));
    made.extend_from_slice(&clip[index]);
    made
}

fn assert_plays_as(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patched.mp4");
    std::fs::write(&path, bytes).unwrap();
    match (frames(&fixture(name)), frames(&path)) {
        (Some(before), Some(after)) => assert_eq!(before, after, "{name}"),
        _ => eprintln!("skipped: frames of {name}: no ffmpeg"),
    }
}

#[test]
fn a_muxer_that_goes_back_is_followed() {
    let clip = clip("progressive.mp4");
    let mut writer = writer(100, SPACE);
    mux(&mut writer, &clip, &[100]).unwrap();
    let bytes = finish(writer);
    let kinds: Vec<_> = boxes(&bytes).into_iter().map(|found| found.0).collect();
    assert_eq!(kinds, [*b"ftyp", *b"uuid", *b"free", *b"mdat", *b"moov"]);
    assert_plays_as("progressive.mp4", &bytes);
}

#[test]
fn a_finished_file_passes_and_plays_as_before() {
    for name in ["progressive.mp4", "faststart.mp4"] {
        let clip = clip(name);
        let mut writer = writer(100, SPACE);
        for bytes in clip.chunks(1000) {
            writer.write(bytes).unwrap();
        }
        assert_plays_as(name, &finish(writer));
    }
}

#[test]
fn media_data_to_the_end_of_the_file_passes() {
    // Size 0: to the end.
    let mut clip = clip("faststart.mp4");
    let media = place(&clip, b"mdat");
    clip[media.start..media.start + 4].fill(0);
    let mut writer = writer(100, SPACE);
    writer.write(&clip).unwrap();
    assert_plays_as("faststart.mp4", &finish(writer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn pieces_of_any_length_give_the_same_file(pieces in prop::collection::vec(1usize..600, 1..8)) {
        let clip = clip("progressive.mp4");
        let mut whole = writer(100, SPACE);
        mux(&mut whole, &clip, &[usize::MAX]).unwrap();
        let mut parts = writer(100, SPACE);
        mux(&mut parts, &clip, &pieces).unwrap();
        prop_assert!(finish(whole) == finish(parts));
    }

    #[test]
    fn what_looks_like_an_index_is_media_data_where_the_muxer_says_so(
        places in prop::collection::vec(0usize..2992, 1..6),
        size in prop::sample::select(vec![16u32, 24, 1000, 2992, 100_000]),
        piece in 1usize..700,
    ) {
        let mut samples = vec![3u8; 3000];
        for at in places {
            // At the start of a piece it is taken for one at first.
            let at = at / piece * piece;
            samples[at..at + 4].copy_from_slice(&size.to_be_bytes());
            samples[at + 4..at + 8].copy_from_slice(b"moov");
        }
        let mut writer = writer(100, SPACE);
        mux(&mut writer, &clip_of(&samples), &[piece]).unwrap();
        let bytes = finish(writer);
        let media = place(&bytes, b"mdat");
        prop_assert_eq!(&bytes[media.start + 16..media.end], &samples[..]);
    }
}

#[test]
fn any_rest_of_the_space_leaves_a_whole_file() {
    let clip = clip("progressive.mp4");
    for length in SPACE - AROUND - 20..=SPACE - AROUND {
        let mut writer = writer(length, SPACE);
        mux(&mut writer, &clip, &[1000]).unwrap();
        finish(writer);
    }
    let mut writer = writer(SPACE - AROUND + 1, SPACE);
    mux(&mut writer, &clip, &[1000]).unwrap();
    let error = writer.finish().err().unwrap();
    assert!(matches!(error, ProvenanceError::Reserve { needed: 601, reserved: SPACE }), "{error}");
}

#[test]
fn until_the_end_nothing_looks_signed() {
    let clip = clip("progressive.mp4");
    let mut writer = writer(100, SPACE);
    mux(&mut writer, &clip, &[100]).unwrap();
    let left = writer.abandon().into_inner();
    assert!(left.len() > SPACE);
    assert!(!left.windows(4).any(|window| window == b"uuid"));
}

#[test]
fn where_the_seal_refuses_the_file_stays_without_a_manifest() {
    let clip = clip("progressive.mp4");
    let mut shared = tempfile::tempfile().unwrap();
    let seal = Witness { refuse: true, ..Witness::default() };
    let mut writer = PatchWriter::new(shared.try_clone().unwrap(), seal, SPACE).unwrap();
    writer.write(&clip).unwrap();
    assert!(writer.finish().err().unwrap().to_string().contains("not there"));
    let mut left = Vec::new();
    shared.rewind().unwrap();
    std::io::Read::read_to_end(&mut shared, &mut left).unwrap();
    assert!(!left.windows(4).any(|window| window == b"uuid"));
}

/// Fails at the first write after a seek, as a full disk does at the end of a stream.
struct FailsAtEnd {
    out: Cursor<Vec<u8>>,
    full: bool,
}

impl Write for FailsAtEnd {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.full { Err(std::io::ErrorKind::StorageFull.into()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for FailsAtEnd {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.full = true;
        self.out.seek(to)
    }
}

impl sora_provenance::Output for FailsAtEnd {}

#[test]
fn an_output_that_fails_at_the_end_is_an_error() {
    let out = FailsAtEnd { out: Cursor::new(Vec::new()), full: false };
    let mut writer = PatchWriter::new(out, Witness::default(), SPACE).unwrap();
    writer.write(&clip("progressive.mp4")).unwrap();
    assert!(matches!(writer.finish().err().unwrap(), ProvenanceError::Stream { .. }));
}

#[test]
fn what_does_not_become_a_file_with_a_manifest_is_refused() {
    let clip = clip("progressive.mp4");
    let write = |bytes: &[u8]| {
        let mut writer = writer(100, SPACE);
        let written = writer.write(bytes);
        written.and_then(|()| writer.finish().map(|_| ())).unwrap_err().to_string()
    };
    let mut signed = clip[..32].to_vec();
    signed.extend(c2pa("manifest", 10));
    signed.extend_from_slice(&clip[32..]);
    assert!(write(&signed).contains("has a C2PA manifest already"));
    let behind = [clip.clone(), c2pa("manifest", 10)].concat();
    assert!(write(&behind).contains("has a C2PA manifest already"));
    assert!(write(&[clip.clone(), boxed(b"mdat", b"more")].concat()).contains("more than one piece"));
    assert!(write(&self::clip("fragmented.mp4")).contains("fragmented"));
    assert!(write(b"\x1a\x45\xdf\xa3 matroska and more").contains("begins with"));
    assert!(write(&clip[..20]).contains("before the media data"));
    assert!(write(&clip[..clip.len() - 5]).contains("are left"));
    assert!(write(b"").contains("before the media data"));
    assert!(write(b"\0\0\0\x07ftyp").contains("less than its header"));
    assert!(write(b"\0\0\0\x01ftyp\x80\0\0\0\0\0\0\0").contains("begins with"));
    // Back into the samples, and behind the end.
    let mut back = writer(100, SPACE);
    back.write(&clip).unwrap();
    assert!(back.seek(100).unwrap_err().to_string().contains("byte 100"));
    assert!(back.seek(1 << 40).is_err());
    // Media data that its header does not cover.
    let mut short = writer(100, SPACE);
    mux(&mut short, &clip, &[100]).unwrap();
    short.seek(40).unwrap();
    short.write(b"\0\0\x01\0mdat").unwrap();
    let error = short.finish().err().unwrap().to_string();
    assert!(error.contains("its header says 248"), "{error}");
    for space in [0, 7, (64 << 20) + 1] {
        let out = Cursor::new(Vec::new());
        assert!(PatchWriter::new(out, Witness::default(), space).is_err(), "{space}");
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_writer_panic(
        flips in prop::collection::vec((0usize..4374, any::<u8>()), 0..6),
        cut in 0usize..4400,
        name in prop::sample::select(vec!["progressive.mp4", "faststart.mp4", "fragmented.mp4"]),
        back in prop::option::of(0u64..4400),
    ) {
        let mut clip = clip(name);
        for (at, value) in flips {
            let at = at % clip.len();
            clip[at] = value;
        }
        clip.truncate(cut);
        let mut writer = writer(100, SPACE);
        let mut went = writer.write(&clip);
        if let (Ok(()), Some(back)) = (&went, back) {
            went = writer.seek(back).and_then(|()| writer.write(&clip[..clip.len().min(16)]));
        }
        if went.is_ok() {
            let _ = writer.finish();
        }
    }
}
