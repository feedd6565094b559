//! Inputs that end early, never start, change, or are none.

use gst::prelude::*;
use sora_tests::{Model, Report, play, run};

const SINK: &str = " ! appsink name=sink sync=false";
const CAPS: &str = "video/x-raw,format=RGB,width=48,height=32,framerate=8/1";

fn source(frames: usize) -> String {
    format!("videotestsrc num-buffers={frames} pattern=ball ! {CAPS}")
}

fn merged(settings: &str, from: &str, to: &str) -> Report {
    let model = Model::new();
    run(&format!("{}{SINK}  {from} ! merge.from  {to} ! merge.to", model.soramerge(settings)))
}

/// A source that ends without a frame.
fn nothing() -> String {
    format!("videotestsrc num-buffers=9 ! {CAPS} ! identity drop-probability=1")
}

/// A source that never says anything.
const SILENT: &str = "appsrc format=time";

fn told(report: &Report, parts: [&str; 2]) {
    let warnings = report.warnings();
    assert!(
        warnings.iter().any(|text| parts.iter().all(|part| text.contains(part))),
        "{parts:?} are not in {warnings:?}"
    );
}

#[test]
fn short_clips_are_remembered_and_drawn_to_as_far_as_they_go() {
    for (from, to, frames) in [
        // Four blocks; two of them draw eight frames of the second clip.
        (1, 24, 1 + 16 + 16),
        (3, 24, 3 + 16 + 16),
        // Two blocks are made freely; of a short second clip one is drawn, and ends with it.
        (24, 3, 24 + 8 + 3),
        (24, 1, 24 + 8 + 1),
        (24, 6, 24 + 8 + 6),
        (1, 1, 1 + 8 + 1),
    ] {
        let report = merged("", &source(from), &source(to));
        assert_eq!(report.assert_clean().samples.len(), frames, "{from} and {to} frames");
        assert_eq!(report.warnings(), [] as [String; 0]);
    }
}

#[test]
fn an_input_that_ends_without_a_frame_leaves_the_other_one() {
    let report = merged("", &nothing(), &source(9));
    assert_eq!(report.assert_clean().samples.len(), 9);
    told(&report, ["from ended without a frame", "begins with the other"]);
    let report = merged("", &source(9), &nothing());
    assert_eq!(report.assert_clean().samples.len(), 9);
    told(&report, ["to ended without a frame", "ends with the other"]);
    let report = merged("", &nothing(), &nothing());
    assert_eq!(report.assert_clean().samples.len(), 0);
    assert_eq!(report.warnings().len(), 2);
}

#[test]
fn an_input_that_never_starts_is_waited_for_and_then_left_out() {
    let report = merged("timeout=300000000", SILENT, &source(9));
    assert_eq!(report.assert_clean().samples.len(), 9);
    told(&report, ["No frame came on from within 300ms", "begins with the other"]);
    let report = merged("timeout=300000000", &source(9), SILENT);
    assert_eq!(report.assert_clean().samples.len(), 9);
    told(&report, ["No frame came on to within 300ms", "ends with the other"]);
}

#[test]
fn a_change_of_size_and_format_leaves_the_output_as_it_is() {
    let model = Model::new();
    let line = format!(
        "{}{SINK}  appsrc name=src format=time ! merge.from  {} ! merge.to",
        model.soramerge(""),
        source(24)
    );
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let feed = playing.src().downcast::<gst_app::AppSrc>().expect("an appsrc");
    let mut n = 0u64;
    for (format, width, height) in [("RGB", 48, 32), ("GRAY8", 100, 20), ("RGB", 16, 16)] {
        let builder = gst::Caps::builder("video/x-raw").field("format", format);
        let builder = builder.field("width", width).field("height", height);
        feed.set_caps(Some(&builder.field("framerate", gst::Fraction::new(8, 1)).build()));
        let bytes = if format == "RGB" { width * height * 3 } else { width * height };
        for _ in 0..5 {
            let mut buffer = gst::Buffer::from_mut_slice(vec![100u8; bytes as usize]);
            let fresh = buffer.get_mut().expect("one owner");
            fresh.set_pts(gst::ClockTime::from_mseconds(125) * n);
            fresh.set_duration(gst::ClockTime::from_mseconds(125));
            feed.push_buffer(buffer).expect("it is taken");
            n += 1;
        }
    }
    feed.end_of_stream().expect("it is taken");
    playing.wait_for_end();
    let report = playing.stop();
    let frames = report.assert_clean().frames();
    assert_eq!(frames.len(), 15 + 16 + 16);
    assert!(frames.iter().all(|frame| frame.len() == 48 * 32 * 3), "the size is that of the first frames");
    assert_eq!(frames[7][..3], [0, 0, 0], "a wide picture is padded above");
}

#[test]
fn what_is_interlaced_or_unusable_downstream_is_refused_by_name() {
    let interlaced = "videotestsrc num-buffers=9 ! video/x-raw,width=48,height=32,interlace-mode=interleaved";
    // The source says once more that it was not understood.
    let errors = merged("", interlaced, &source(9)).errors();
    let text = &errors.first().expect("an error").0;
    assert!(text.contains("on from is interlaced") && text.contains("deinterlace"), "{text}");
    let model = Model::new();
    let line = model.soramerge("guidance-scale=1 duration=0 model-path=/nowhere/model");
    let line = format!("{line}{SINK}  {} ! merge.from  {} ! merge.to", source(1), source(1));
    let text = run(&line).one_error();
    assert!(text.contains("/nowhere/model"), "{text}");
}

#[test]
fn a_second_clip_that_is_live_drops_what_comes_before_its_turn() {
    let model = Model::new();
    let line = format!(
        "{}{SINK}  appsrc name=src format=time caps=\"{CAPS}\" ! merge.from  \
         videotestsrc is-live=true ! video/x-raw,format=RGB,width=48,height=32,framerate=100/1 ! merge.to",
        model.soramerge("duration=0")
    );
    let playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let merge = playing.pipeline.by_name("merge").expect("it is there");
    let count = |name: &str| merge.property::<gst::Structure>("stats").get::<u64>(name).expect("a number");
    let deadline = std::time::Instant::now() + sora_tests::PATIENCE;
    while count("dropped") < 20 {
        assert!(std::time::Instant::now() < deadline, "it does not drop");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(count("frames-to") - count("dropped") <= 5, "few wait");
    let feed = playing.src().downcast::<gst_app::AppSrc>().expect("an appsrc");
    let mut buffer = gst::Buffer::from_mut_slice(vec![9u8; 48 * 32 * 3]);
    buffer.get_mut().expect("one owner").set_pts(gst::ClockTime::ZERO);
    feed.push_buffer(buffer).expect("it is taken");
    feed.end_of_stream().expect("it is taken");
    while playing.frames_so_far() < 5 {
        assert!(std::time::Instant::now() < deadline, "the second clip does not come");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let report = playing.stop();
    assert_eq!(report.errors(), []);
}
