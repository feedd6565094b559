//! Streams that are signed fragment by fragment.

use std::path::Path;

use gst::prelude::*;
use sora_provenance::{LiveReport, LiveVerifier, TrustAnchors, Validity};
use sora_tests::{play, run};

use crate::{ENCODER, SOURCE, folder, frames, manifest};

const MUX: &str = "mp4mux fragment-duration=300 name=mux";

fn live(path: &Path) -> LiveReport {
    let found = manifest(path, &TrustAnchors::none());
    assert_eq!(found.validity, Validity::Untrusted, "{found:#?}");
    found.live.expect("fragments that are signed")
}

#[test]
fn what_a_muxer_streams_is_signed_and_plays_as_before() {
    let folder = folder();
    let audio = "audiotestsrc num-buffers=40 ! avenc_aac ! mux.";
    for (number, (mux, extra)) in [
        (format!("{MUX} streamable=true"), ""),
        (MUX.to_owned(), ""),
        (format!("{MUX} streamable=true"), audio),
    ]
    .into_iter()
    .enumerate()
    {
        let mut played = Vec::new();
        for signer in ["sorasign mode=live !", ""] {
            let path = folder.path().join(format!("{number}-{}.mp4", signer.is_empty()));
            let line = format!(
                "{SOURCE} ! {ENCODER} ! queue ! mux. {extra} {mux} ! {signer} filesink location={}",
                path.display()
            );
            let report = run(&line);
            assert!(report.errors().is_empty(), "{mux}: {:?}", report.errors());
            if !signer.is_empty() {
                let found = live(&path);
                assert!(found.fragments >= 3 && found.good == found.fragments, "{mux} {extra}: {found:?}");
                assert_eq!(found.last, Some(found.fragments));
            }
            played.push(frames(&path));
        }
        assert_eq!(played[0].len(), 25, "{mux}");
        // With the index at the end, which a live stream has not, GStreamer 1.22 loses the last frames.
        assert!(played[0].starts_with(&played[1]) && played[1].len() > 20, "{mux} {extra}");
    }
}

/// A fragment is not held until the next one, and buffers say what they are.
#[test]
fn a_fragment_leaves_when_it_is_whole() {
    let line = format!(
        "{SOURCE} ! {ENCODER} tune=zerolatency ! {MUX} streamable=true ! sorasign mode=live ! appsink name=sink sync=false"
    );
    let report = run(&line);
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    let samples = &report.samples;
    let mut verifier = LiveVerifier::new(TrustAnchors::none());
    for (number, sample) in samples.iter().enumerate() {
        let buffer = sample.buffer().expect("a buffer");
        assert_eq!(buffer.flags().contains(gst::BufferFlags::HEADER), number == 0, "buffer {number}");
        verifier.push(&buffer.map_readable().expect("it can be read")).expect("whole boxes");
        assert_eq!(verifier.fragments().good, number as u64, "each buffer is one part, and whole");
        assert!(number == 0 || buffer.pts().is_some(), "buffer {number} is shown at some time");
    }
    assert!(samples.len() > 3, "{} parts", samples.len());
}

#[test]
fn a_stream_that_is_interrupted_is_signed_as_far_as_it_came() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let line = format!(
        "videotestsrc ! video/x-raw,width=64,height=64 ! {ENCODER} tune=zerolatency ! {MUX} streamable=true \
         ! sorasign mode=live ! filesink location={} buffer-mode=unbuffered",
        path.display()
    );
    let playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    while std::fs::metadata(&path).map_or(0, |file| file.len()) < 60_000 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let report = playing.stop();
    let warned = report.messages.iter().any(|message| match message.view() {
        gst::MessageView::Warning(warning) => warning.error().message().contains("not signed"),
        _ => false,
    });
    assert!(!warned, "a live stream has no end to wait for");
    let found = live(&path);
    assert!(found.good > 1 && found.good == found.fragments, "{found:?}");
}

#[test]
fn what_cannot_be_signed_live_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    for (mux, part) in [
        ("mp4mux faststart=true", "knows no fragments"),
        ("mp4mux fragment-duration=300 ! sorasign mode=live", "manifest already"),
        // Its fragments lie in one box that gets its length in the end.
        ("mp4mux fragment-duration=300 fragment-mode=first-moov-then-finalise", "no length"),
    ] {
        let line = format!(
            "{SOURCE} ! {ENCODER} ! {mux} ! sorasign mode=live ! filesink location={}",
            path.display()
        );
        let errors = format!("{:?}", run(&line).errors());
        assert!(errors.contains(part), "{mux}: {errors}");
    }
}
