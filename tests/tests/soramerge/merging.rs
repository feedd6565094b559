//! The one clip, what is made, the other clip.

use std::path::Path;

use sora_tests::{Model, Report, run};

const SINK: &str = " ! appsink name=sink sync=false";
const CAPS: &str = "video/x-raw,format=RGB,width=48,height=32,framerate=8/1";

/// A source of so many frames.
fn source(frames: usize, pattern: &str, caps: &str) -> String {
    format!("videotestsrc num-buffers={frames} pattern={pattern} ! {caps}")
}

fn merged(settings: &str, from: &str, to: &str) -> Report {
    let model = Model::new();
    run(&format!("{}{SINK}  {from} ! merge.from  {to} ! merge.to", model.soramerge(settings)))
}

/// What a source gives by itself.
fn alone(source: &str) -> Vec<Vec<u8>> {
    sora_tests::init();
    run(&format!("{source}{SINK}")).assert_clean().frames()
}

/// Asserts that frames come one after the other without a hole.
fn assert_times(report: &Report, rate: u64) {
    for (n, sample) in report.samples.iter().enumerate() {
        let buffer = sample.buffer().expect("a sample has a buffer");
        let time = gst::ClockTime::SECOND * n as u64 / rate;
        assert_eq!(buffer.pts(), Some(time), "frame {n}");
        assert_eq!(buffer.flags().contains(gst::BufferFlags::DISCONT), n == 0, "frame {n}");
    }
}

#[test]
fn the_first_clip_passes_then_what_is_made_then_the_rest_of_the_second() {
    let (from, to) = (source(24, "smpte", CAPS), source(24, "ball", CAPS));
    let report = merged("duration=2000000000", &from, &to);
    let frames = report.assert_clean().frames();
    report.assert_progress_is_closed();
    // Two seconds are four blocks; the last two take the place of eight frames of the second clip.
    assert_eq!(frames.len(), 24 + 16 + 24 - 8);
    assert!(frames[..24] == alone(&from));
    let second = alone(&to);
    assert!(frames[40..] == second[8..]);
    for made in &frames[24..40] {
        assert!(*made != frames[23]);
        assert!(!second.contains(made));
    }
    assert_times(&report, 8);
    assert!(merged("duration=2000000000", &from, &to).frames() == frames, "the same seed makes the same");
    let other = merged("duration=2000000000 prompt=snow", &from, &to).frames();
    assert!(other[24..28] != frames[24..28] && other[..24] == frames[..24], "the prompt has an effect");
    let faded = merged("duration=2000000000 to-prompt=snow", &from, &to).frames();
    assert!(faded[24..28] != other[24..28] && faded[24..28] != frames[24..28], "a mixture");
    let elsewhere = merged("duration=2000000000", &source(24, "snow", CAPS), &to).frames();
    assert!(elsewhere[24..28] != frames[24..28], "the first clip has an effect");
}

#[test]
fn what_is_made_last_is_like_the_second_clip() {
    // Of the embedded model: what a random VAE makes of a picture is not like it.
    let embedded = sora_tests::root().join("models/sora-tiny");
    let caps = "video/x-raw,format=RGB,width=64,height=64,framerate=8/1";
    let (from, to) = (source(13, "red", caps), source(24, "blue", caps));
    let report = run(&format!(
        "soramerge name=merge model-path=\"{}\" device=cpu seed=1 prompt=\"a red ball on the snow\"{SINK}  \
         {from} ! merge.from  {to} ! merge.to",
        embedded.display()
    ));
    let frames = report.assert_clean().frames();
    let blue = |frame: &[u8]| {
        let sum = |channel: usize| frame.iter().skip(channel).step_by(3).map(|&v| i64::from(v)).sum::<i64>();
        (sum(2) - sum(0)) / (frame.len() as i64 / 3)
    };
    let made: Vec<i64> = frames[13..29].iter().map(|frame| blue(frame)).collect();
    assert!(made[15] > 100, "the last one is blue: {made:?}");
    assert!(made[0] < made[15], "the first one is not yet: {made:?}");
}

#[test]
fn the_second_clip_gets_size_and_rate_of_the_first_or_what_downstream_asks_for() {
    let from = source(16, "smpte", CAPS);
    let to = source(32, "ball", "video/x-raw,format=I420,width=64,height=64,framerate=16/1");
    let report = merged("duration=1000000000", &from, &to);
    // A second is two blocks; one of them takes the place of four of the second clip's sixteen frames.
    assert_eq!(report.assert_clean().samples.len(), 16 + 8 + 16 - 4);
    assert_times(&report, 8);
    let caps = report.samples[30].caps().expect("caps").to_owned();
    let structure = caps.structure(0).expect("one");
    assert_eq!((structure.get("width"), structure.get("height")), (Ok(48), Ok(32)));
    // A square in a wide picture: black at its sides.
    let last = report.frames().pop().expect("a frame");
    assert_eq!(last[48 * 3 * 16..][..3], [0, 0, 0], "padded, not distorted");

    let model = Model::new();
    let line = format!(
        "{} ! video/x-raw,format=NV12,width=32,height=64,framerate=4/1{SINK}  {from} ! merge.from  {to} ! merge.to",
        model.soramerge("duration=1000000000")
    );
    let report = run(&line);
    assert_eq!(report.assert_clean().samples.len(), 8 + 4 + 8 - 4);
    assert_times(&report, 4);
}

#[test]
fn real_files_through_decodebin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, line: &str| {
        run(&format!("{line} ! filesink location=\"{}\"", file(name).display())).assert_clean();
        file(name)
    };
    let from = write(
        "a.mp4",
        "videotestsrc num-buffers=50 ! video/x-raw,width=160,height=90,framerate=25/1 ! x264enc ! mp4mux",
    );
    let to = write(
        "b.mkv",
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=96,height=96,framerate=15/1 ! jpegenc \
         ! matroskamux",
    );
    let decoded = |path: &Path| format!("filesrc location=\"{}\" ! decodebin", path.display());
    let report = merged("duration=640000000", &decoded(&from), &decoded(&to));
    // 16 frames are four blocks, two of them drawn; two seconds of the second clip at 25 frames each.
    assert_eq!(report.assert_clean().samples.len(), 50 + 16 + 50 - 8);
    assert_times(&report, 25);
}

#[test]
fn its_record_is_that_of_a_merge_of_two_inputs() {
    let report = merged("prompt=\"a ball\"", &source(9, "smpte", CAPS), &source(9, "ball", CAPS));
    let record = report.assert_clean().messages.iter().find_map(|message| match message.view() {
        gst::MessageView::HaveContext(have) => {
            sora_gst::Provenance::from_context(have.context().as_ref())?.record
        }
        _ => None,
    });
    let record = sora_record::GenerationRecord::from_json(&record.expect("a record")).expect("a valid one");
    assert_eq!(record.mode, sora_record::Mode::Merge);
    assert_eq!(record.prompt, Some(sora_record::Prompt::Text("a ball".into())));
    let inputs: Vec<_> = record.inputs.iter().map(|input| input.id.as_str()).collect();
    assert_eq!(inputs, ["from", "to"]);
    assert_eq!((record.width, record.height, record.seed), (Some(48), Some(32), Some(1)));
}

#[test]
fn marks_in_both_clips_are_named_as_inputs() {
    let (a, b) = ("00112233445566778899aabb", "ffeeddccbbaa998877665544");
    let caps = "video/x-raw,format=I420,width=160,height=128,framerate=8/1";
    let marked = |id: &str| format!("{} ! sorawatermark id={id}", source(9, "smpte", caps));
    let report = merged("", &marked(a), &marked(b));
    let records = report.assert_clean().messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::HaveContext(have) => {
            sora_gst::Provenance::from_context(have.context().as_ref())?.record
        }
        _ => None,
    });
    // The second clip's is known when that has begun.
    let last = records
        .map(|json| sora_record::GenerationRecord::from_json(&json).expect("a valid one"))
        .rfind(|record| record.mode == sora_record::Mode::Merge);
    let inputs: Vec<String> = last.expect("a record").inputs.into_iter().map(|input| input.id).collect();
    assert_eq!(inputs, [format!("watermark {a}"), format!("watermark {b}")]);
}

#[test]
fn without_a_duration_one_clip_follows_the_other() {
    let (from, to) = (source(5, "smpte", CAPS), source(6, "ball", CAPS));
    let report = merged("duration=0", &from, &to);
    assert!(report.assert_clean().frames() == [alone(&from), alone(&to)].concat());
    assert_times(&report, 8);
}
