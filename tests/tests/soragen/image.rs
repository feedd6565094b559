//! A video that begins with a picture.

use std::path::{Path, PathBuf};

use gst::prelude::*;
use sora_tests::{Model, Report, play, run};

const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";

/// Writes one picture of the test source.
pub(crate) fn picture(folder: &Path, encoder: &str, size: &str) -> PathBuf {
    let file = folder.join("picture");
    let line = format!(
        "videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,{size} ! {encoder} ! filesink location=\"{}\"",
        file.display()
    );
    run(&line).assert_clean();
    file
}

fn soragen(image: &Path, settings: &str) -> (Model, Report) {
    let model = Model::new();
    let line = model.soragen(&format!("image=\"{}\" seed=1 {settings}", image.display())) + SINK;
    let report = run(&line);
    (model, report)
}

#[test]
fn the_first_frame_is_the_picture_and_the_rest_go_on_from_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Of the embedded model: what a random VAE makes of a picture is not like it.
    let embedded = sora_tests::root().join("models/sora-tiny");
    let made = |image: &Path| {
        let line = format!(
            "soragen model-path=\"{}\" device=cpu seed=1 image=\"{}\" num-frames=5 \
             ! video/x-raw,format=RGB,width=64,height=64 ! appsink name=sink sync=false",
            embedded.display(),
            image.display()
        );
        run(&line).assert_clean().frames()
    };
    for (encoder, size) in [("pngenc", "width=64,height=64"), ("jpegenc", "width=640,height=320")] {
        let file = picture(folder.path(), encoder, size);
        let frames = made(&file);
        assert_eq!(frames.len(), 5, "{encoder}");
        // The test picture's middle is green, magenta stripes to its right; whatever was cropped.
        let middle = &frames[0][(20 * 64 + 32) * 3..][..3];
        assert!(middle[1] > 120 && middle[0] < 110 && middle[2] < 110, "{encoder}: {middle:?} is not green");
        let other = run(&format!(
            "soragen model-path=\"{}\" device=cpu seed=1 num-frames=5 ! video/x-raw,format=RGB,width=64,height=64 \
             ! appsink name=sink sync=false",
            embedded.display()
        ));
        assert_ne!(frames[4], other.assert_clean().frames()[4], "the picture has an effect on what follows");
    }
}

#[test]
fn a_clip_has_its_length_and_its_record_names_a_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = picture(folder.path(), "pngenc", "width=50,height=30");
    for (settings, frames) in
        [("", 5), ("num-frames=9", 9), ("num-frames=1", 1), ("num-frames=0 num-buffers=13", 13)]
    {
        let (_model, report) = soragen(&file, settings);
        assert_eq!(report.assert_clean().frames().len(), frames, "{settings}");
        report.assert_progress_is_closed();
        let record = report.messages.iter().find_map(|message| match message.view() {
            gst::MessageView::HaveContext(have) => {
                sora_gst::Provenance::from_context(have.context().as_ref())?.record
            }
            _ => None,
        });
        let record =
            sora_record::GenerationRecord::from_json(&record.expect("a record")).expect("a valid one");
        assert_eq!((record.mode, record.inputs.len()), (sora_record::Mode::ImageToVideo, 1));
        assert!(!record.inputs[0].id.contains('/'), "no path is published");
    }
}

fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("picture.png");
    std::fs::write(&file, bytes).expect("it can be written");
    let (_model, report) = soragen(&file, "");
    let text = report.one_error();
    assert!(text.contains("picture.png"), "{text}");
    text
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    huge.extend([50_000u32.to_be_bytes(), 50_000u32.to_be_bytes()].concat());
    huge.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (bytes, part) in [
        (b"this is a text file\n".as_slice(), "no picture"),
        (b"", "empty"),
        (b"GIF89a\x10\0\x10\0\xf0\0\0\x21\xff\x0bNETSCAPE2.0", "GIF"),
        (&huge, "50000x50000"),
    ] {
        let text = refused(bytes);
        assert!(text.contains(part), "{text}");
    }
    // A header that is right, and nothing behind it.
    let mut cut = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0".to_vec();
    cut.extend([0x90, 0x91, 0x68, 0x36]);
    let text = refused(&cut);
    assert!(text.contains("cannot be decoded"), "{text}");
}

#[test]
fn a_file_that_is_not_there_or_is_a_folder_is_refused() {
    for path in ["/nowhere/picture.png", "/tmp"] {
        let (_model, report) = soragen(Path::new(path), "");
        let text = report.one_error();
        assert!(text.contains(path) && text.contains("cannot be read"), "{text}");
    }
}

#[test]
fn null_while_a_picture_is_decoded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = picture(folder.path(), "pngenc", "width=4000,height=3000");
    let model = Model::new();
    for moment in 0..8 {
        let playing = play(&(model.soragen(&format!("image=\"{}\"", file.display())) + " ! fakesink"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(60 * moment));
        let report = playing.stop();
        assert_eq!(report.errors(), [], "moment {moment}");
        report.assert_progress_is_closed();
    }
}
