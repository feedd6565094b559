//! A video that goes on from a clip, or ends where it began.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gst::prelude::*;
use sora_tests::{Model, Report, play, run};

const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";

/// Writes what a pipeline makes into a file.
fn write(folder: &Path, name: &str, line: &str) -> PathBuf {
    sora_tests::init();
    let file = folder.join(name);
    run(&format!("{line} ! filesink location=\"{}\"", file.display())).assert_clean();
    file
}

/// A clip of so many frames of the size and rate of the small model, not compressed.
fn clip(folder: &Path, frames: usize, pattern: &str) -> PathBuf {
    let caps = "video/x-raw,format=RGB,width=48,height=32,framerate=8/1";
    let line = format!(
        "videotestsrc num-buffers={frames} pattern={pattern} ! {caps} ! videoconvert ! video/x-raw,format=BGR ! avimux"
    );
    write(folder, &format!("{pattern}-{frames}.avi"), &line)
}

/// The frames of a clip, decoded.
fn decoded(file: &Path) -> Vec<Vec<u8>> {
    run(&format!("filesrc location=\"{}\" ! decodebin ! videoconvert{SINK}", file.display()))
        .assert_clean()
        .frames()
}

fn soragen(video: &Path, settings: &str) -> (Model, Report) {
    let model = Model::new();
    let line = model.soragen(&format!("video=\"{}\" seed=1 {settings}", video.display())) + SINK;
    let report = run(&line);
    (model, report)
}

fn made(video: &Path, settings: &str) -> Vec<Vec<u8>> {
    let (_model, report) = soragen(video, settings);
    report.assert_clean();
    report.assert_progress_is_closed();
    for (n, sample) in report.samples.iter().enumerate() {
        let pts = sample.buffer().expect("a buffer").pts();
        assert_eq!(pts, Some(gst::ClockTime::from_mseconds(125) * n as u64));
    }
    report.frames()
}

/// Whether two frames are the same but for the roundings of a conversion to and from YUV.
fn alike(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() < 3 * a.len() as u64
}

#[test]
fn the_clip_comes_first_and_the_new_frames_follow_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = clip(folder.path(), 11, "ball");
    let own = decoded(&file);
    let extended = made(&file, "num-frames=6");
    assert_eq!(extended.len(), 11 + 6);
    assert!(own.iter().zip(&extended).all(|(own, frame)| alike(own, frame)), "the clip is as it was");
    // The new frames alone are the same ones.
    assert!(made(&file, "num-frames=6 video-mode=continue") == extended[11..]);
    let other = clip(folder.path(), 11, "snow");
    assert!(made(&other, "num-frames=6 video-mode=continue") != extended[11..], "the clip has an effect");
    // The model's own length: five frames are a first one, which the clip is, and four more.
    assert_eq!(made(&file, "video-mode=continue").len(), 4);
    assert_eq!(made(&file, "num-frames=0 num-buffers=40").len(), 40);
    // However short the clip is.
    let one = clip(folder.path(), 1, "ball");
    assert_eq!(made(&one, "num-frames=3").len(), 1 + 3);
}

#[test]
fn what_comes_before_a_clip_leads_to_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = clip(folder.path(), 11, "ball");
    let own = decoded(&file);
    let extended = made(&file, "num-frames=6 video-mode=prepend");
    assert_eq!(extended.len(), 6 + 11);
    assert!(own.iter().zip(&extended[6..]).all(|(own, frame)| alike(own, frame)), "the clip is as it was");
    // Backwards it is what follows the head of the clip shown backwards: what the model remembers of it.
    let reversed = folder.path().join("reversed.avi");
    let head: Vec<u8> = own[..1].iter().rev().flatten().copied().collect();
    let caps = "video/x-raw,format=RGB,width=48,height=32,framerate=8/1";
    let raw = folder.path().join("raw");
    std::fs::write(&raw, head).expect("it can be written");
    run(&format!(
        "filesrc location=\"{}\" ! rawvideoparse format=rgb width=48 height=32 framerate=8/1 ! {caps} ! videoconvert \
         ! video/x-raw,format=BGR ! avimux ! filesink location=\"{}\"",
        raw.display(),
        reversed.display()
    ))
    .assert_clean();
    let mut forwards = made(&reversed, "num-frames=6 video-mode=continue");
    forwards.reverse();
    let close = |(a, b): (&Vec<u8>, &Vec<u8>)| alike(a, b);
    assert!(forwards.iter().zip(&extended).all(close), "made backwards");
}

#[test]
fn any_container_codec_size_and_rate() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let video = |caps: &str| format!("videotestsrc num-buffers=60 ! video/x-raw,{caps}");
    for (name, line) in [
        ("a.mp4", format!("{} ! x264enc ! mp4mux", video("width=320,height=180,framerate=30/1"))),
        ("b.mkv", format!("{} ! jpegenc ! matroskamux", video("width=50,height=70,framerate=30000/1001"))),
        ("c.webm", format!("{} ! vp8enc deadline=1 ! webmmux", video("width=64,height=64,framerate=30/1"))),
        ("d.ts", format!("{} ! x264enc ! mpegtsmux", video("width=64,height=48,framerate=30/1"))),
        (
            "e.mkv",
            format!(
                "audiotestsrc num-buffers=86 ! vorbisenc ! queue ! mux.  {} ! theoraenc ! queue ! matroskamux name=mux",
                video("width=64,height=48,framerate=30/1")
            ),
        ),
    ] {
        let file = write(folder.path(), name, &line);
        let frames = made(&file, "num-frames=4").len();
        // Two seconds at eight frames each; a container may round the last one away or up.
        assert!((15..=17).contains(&(frames - 4)), "{name}: {frames} frames");
    }
    // A picture is a clip of one frame.
    let file = write(folder.path(), "p.png", "videotestsrc num-buffers=1 ! pngenc");
    assert_eq!(made(&file, "num-frames=4").len(), 1 + 4);
}

#[test]
fn a_loop_begins_after_the_frames_that_its_end_is_drawn_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = clip(folder.path(), 20, "ball");
    let own = decoded(&file);
    let looped = made(&file, "num-frames=16 loop=true");
    // Of four blocks two are drawn, to eight frames of the clip, which itself begins after them.
    assert_eq!(looped.len(), 20 - 8 + 16);
    assert!(own[8..].iter().zip(&looped).all(|(own, frame)| alike(own, frame)), "the clip but for its head");
    let short = clip(folder.path(), 6, "ball");
    let looped = made(&short, "num-frames=16 loop=true");
    assert_eq!(looped.len(), 6 - 4 + 16, "a short clip is drawn to for one block");
    assert!(alike(&looped[0], &decoded(&short)[4]));
}

#[test]
fn the_end_of_a_loop_is_closer_to_its_beginning_than_that_of_any_other_clip() {
    let embedded = sora_tests::root().join("models/sora-tiny");
    let frames = |settings: &str| {
        let line = format!(
            "soragen model-path=\"{}\" device=cpu seed=3 prompt=\"a red ball rolls on the grass\" {settings} \
             ! video/x-raw,format=RGB,width=64,height=64 ! appsink name=sink sync=false",
            embedded.display()
        );
        run(&line).assert_clean().frames()
    };
    let jump = |frames: &[Vec<u8>]| {
        let (first, last) = (&frames[0], &frames[frames.len() - 1]);
        first.iter().zip(last).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
    };
    let looped = frames("num-frames=24 loop=true");
    assert_eq!(looped.len(), 24);
    let open = frames("num-frames=0 num-buffers=24");
    assert!(2 * jump(&looped) < jump(&open), "{} looped, {} open", jump(&looped), jump(&open));
}

#[test]
fn its_record_says_that_a_clip_was_extended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = clip(folder.path(), 5, "ball");
    for (mode, frames) in [("extend", None), ("continue", Some(4)), ("prepend", None)] {
        let (_model, report) = soragen(&file, &format!("num-frames=4 video-mode={mode}"));
        let record = report.assert_clean().messages.iter().find_map(|message| match message.view() {
            gst::MessageView::HaveContext(have) => {
                sora_gst::Provenance::from_context(have.context().as_ref())?.record
            }
            _ => None,
        });
        let record =
            sora_record::GenerationRecord::from_json(&record.expect("a record")).expect("a valid one");
        assert_eq!((record.mode, record.frames), (sora_record::Mode::Extend, frames));
        assert_eq!(record.inputs.len(), 1);
        assert!(!record.inputs[0].id.contains('/'), "no path is published");
    }
}

/// The one error that a file gives.
fn refused(file: &Path) -> String {
    let (_model, report) = soragen(file, "");
    let text = report.one_error();
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(text.contains(name), "{text}");
    report.assert_progress_is_closed();
    text
}

#[test]
fn what_is_no_clip_is_one_error_that_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("it can be written");
        file
    };
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    huge.extend([50_000u32.to_be_bytes(), 50_000u32.to_be_bytes()].concat());
    huge.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (name, bytes, part) in [
        ("text", b"this is a text file, and a long one\n".repeat(100).as_slice(), "cannot be decoded"),
        ("empty", b"", "empty"),
        ("noise", &(0..5000u32).map(|n| ((n * n * 7) >> 3) as u8).collect::<Vec<_>>(), "cannot be decoded"),
        ("huge.png", &huge, "50000x50000"),
    ] {
        let text = refused(&file(name, bytes));
        assert!(text.contains(part), "{text}");
    }
    let audio = write(folder.path(), "audio.wav", "audiotestsrc num-buffers=20 ! wavenc");
    let text = refused(&audio);
    assert!(text.contains("no video in it"), "{text}");
    for path in ["/nowhere/clip.mp4", "/tmp"] {
        assert!(refused(Path::new(path)).contains("cannot be read"));
    }
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("coreutils");
    assert!(made.success() && refused(&pipe).contains("it is no file"));
}

#[test]
fn a_size_beyond_all_bounds_is_refused_before_anything_is_decoded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(
        folder.path(),
        "clip.mp4",
        "videotestsrc num-buffers=8 ! video/x-raw,width=64,height=48 ! jpegenc ! qtmux",
    );
    let mut bytes = std::fs::read(&file).expect("it is there");
    // Width and height in the sample entry of the track (ISO/IEC 14496-12, 12.1.3).
    let entry = bytes.windows(4).position(|four| four == b"jpeg").expect("a sample entry");
    let size = &mut bytes[entry + 28..entry + 32];
    assert_eq!(size, [0, 64, 0, 48]);
    size.copy_from_slice(&[0xc3, 0x50, 0xc3, 0x50]);
    std::fs::write(&file, bytes).expect("it can be written");
    let text = refused(&file);
    assert!(text.contains("is 50000x50000; it may be 1 to 16384"), "{text}");
}

#[test]
fn of_a_file_that_breaks_off_what_there_is_counts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let video = "videotestsrc num-buffers=64 pattern=snow ! video/x-raw,width=64,height=48,framerate=8/1";
    let cut = |name: &str, muxer: &str, share: usize| {
        let whole = write(folder.path(), name, &format!("{video} ! {muxer}"));
        let bytes = std::fs::read(&whole).expect("it is there");
        let file = folder.path().join(format!("cut-{name}"));
        std::fs::write(&file, &bytes[..bytes.len() * share / 10]).expect("it can be written");
        file
    };
    let frames = made(&cut("clip.mkv", "jpegenc ! matroskamux streamable=true", 5), "num-frames=4").len();
    assert!((20..=40).contains(&frames), "{frames} frames");
    // What tells where its frames are comes last, and is missing.
    let text = refused(&cut("clip.mp4", "x264enc ! mp4mux", 5));
    assert!(text.contains("cannot be decoded"), "{text}");
    // Not even the beginning is whole.
    let text = refused(&cut("tiny.mkv", "jpegenc ! matroskamux", 0));
    assert!(text.contains("empty"), "{text}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = clip(folder.path(), 3, "ball");
    for (settings, part) in [
        ("loop=true num-frames=0", "num-frames is 0"),
        ("loop=true video-mode=prepend", "goes forwards"),
        ("video-mode=prepend num-frames=0", "needs a length"),
        ("image=/tmp/picture.png", "one of them"),
        ("loop=true", "has 3 frames; a loop takes 4"),
    ] {
        let (_model, report) = soragen(&file, settings);
        let text = report.one_error();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn null_while_a_clip_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let line = "videotestsrc num-buffers=200 ! video/x-raw,width=640,height=480 ! jpegenc ! avimux";
    let file = write(folder.path(), "clip.avi", line);
    let model = Model::new();
    for moment in 0..12 {
        let mode = ["extend", "continue", "prepend"][moment as usize % 3];
        let settings = format!("video=\"{}\" video-mode={mode} num-frames=9", file.display());
        let playing = play(&(model.soragen(&settings) + " ! fakesink"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(Duration::from_millis(60 * moment));
        let began = std::time::Instant::now();
        playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
        assert!(began.elapsed() < Duration::from_secs(10), "NULL took {:?}", began.elapsed());
        let report = playing.stop();
        assert_eq!(report.errors(), [], "moment {moment}");
        report.assert_progress_is_closed();
    }
}
