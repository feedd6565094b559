//! Timed prompts on the text pad.

use gst::prelude::*;
use sora_tests::{Model, Report, play};

/// Runs a storyboard with a tiny model and returns the frames, and what the prompts were when.
fn told(subtitles: &str, settings: &str) -> (Report, Vec<String>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("story.srt");
    std::fs::write(&file, subtitles).expect("it can be written");
    let model = Model::new();
    let line = format!(
        "{} ! video/x-raw,format=RGB ! appsink name=sink sync=false filesrc location=\"{}\" ! subparse ! src.text",
        model.soragen(&format!("num-frames=0 seed=1 prompt=\"before\" {settings}")),
        file.display()
    );
    let report = play(&line).finish();
    let prompts = prompts(&report);
    (report, prompts)
}

fn prompts(report: &Report) -> Vec<String> {
    let of = |message: &gst::Message| match message.view() {
        gst::MessageView::HaveContext(have) => {
            let told = sora_gst::Provenance::from_context(have.context().as_ref())?;
            let record = sora_record::GenerationRecord::from_json(&told.record?).expect("a valid record");
            match record.prompt {
                Some(sora_record::Prompt::Text(text)) => Some(text),
                other => panic!("{other:?} is no prompt in the clear"),
            }
        }
        _ => None,
    };
    report.messages.iter().filter_map(of).collect()
}

#[test]
fn subtitles_are_a_storyboard_that_ends_with_its_last_cue() {
    let story = "1\n00:00:01,000 --> 00:00:02,000\na red ball\n\n2\n00:00:02,000 --> 00:00:03,000\n<i>a</i> blue & cube\n";
    let (report, prompts) = told(story, "");
    // At 8 frames a second: before the first cue, then blocks of four frames by the cue of their first one.
    assert_eq!(prompts, ["before", "a red ball", "a blue & cube"]);
    let frames = report.assert_clean().frames().len();
    // Blocks begin at 0, 1, 5, 9, 13, 17, 21, 25 frames; the one that begins after 3 s is not made.
    assert_eq!(frames, 25);
}

#[test]
fn a_prompt_fades_in_as_long_as_it_is_told_to() {
    let story = "1\n00:00:00,000 --> 00:00:01,000\na red ball\n\n2\n00:00:01,000 --> 00:00:04,000\nsnow\n";
    let frames = |settings: &str| told(story, settings).0.assert_clean().frames();
    let cut = frames("");
    let [second, two] = ["1000000000", "2000000000"].map(|fade| frames(&format!("prompt-fade={fade}")));
    let kept = frames("prompt-change=keep");
    // Blocks begin at 0, 1, 5, 9, ... frames; the first one after a second with the tenth frame.
    for other in [&second, &two, &kept] {
        assert_eq!(other.len(), cut.len());
        assert!(other[..9] == cut[..9]);
    }
    for (a, b) in [(&second, &cut), (&two, &cut), (&second, &kept), (&second, &two)] {
        assert!(a[9..13] != b[9..13], "what lies between the prompts is like neither");
    }
    assert!(frames("prompt-fade=0") == cut);
}

/// A pipeline whose text comes from the test itself.
fn fed(settings: &str) -> (sora_tests::Playing, gst_app::AppSrc, Model) {
    let model = Model::new();
    let line = format!(
        "{} ! video/x-raw,format=RGB ! appsink name=sink sync=false \
         appsrc name=text format=time caps=text/x-raw,format=utf8 ! src.text",
        model.soragen(&format!("num-frames=0 seed=1 prompt=\"before\" {settings}"))
    );
    let playing = play(&line);
    let text = playing.pipeline.by_name("text").expect("it is there");
    (playing, text.downcast().expect("an appsrc"), model)
}

fn cue(start: u64, length: u64, bytes: &[u8]) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
    let fresh = buffer.get_mut().expect("one owner");
    fresh.set_pts(gst::ClockTime::from_mseconds(start));
    fresh.set_duration(gst::ClockTime::from_mseconds(length));
    buffer
}

#[test]
fn unsorted_and_overlapping_cues_find_their_times() {
    let (mut playing, text, _model) = fed("");
    // All of them are there before anything is made: the source waits for the first, which is not begun before.
    playing.pipeline.set_state(gst::State::Paused).expect("it starts");
    for (start, length, prompt) in [(2000, 1000, "last"), (0, 2500, "long"), (1000, 500, "short")] {
        text.push_buffer(cue(start, length, prompt.as_bytes())).expect("it is taken");
    }
    text.end_of_stream().expect("it is taken");
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let report = playing.stop();
    let prompts = prompts(report.assert_clean());
    // Where cues overlap, the later one; behind its end, the earlier one that goes on.
    assert_eq!(prompts[1..], ["long", "short", "long", "last"], "{prompts:?}");
}

#[test]
fn binary_data_is_passed_over_with_a_warning_and_the_rest_is_told() {
    let (playing, text, _model) = fed("");
    text.push_buffer(cue(0, 500, &[0xff, 0xfe, 0, 1, 2, 0x80])).expect("it is taken");
    text.push_buffer(cue(0, 1000, b"a ball")).expect("it is taken");
    text.push_buffer(cue(0, 1000, &vec![b'x'; 1 << 20])).expect("it is taken");
    text.end_of_stream().expect("it is taken");
    let report = playing.finish();
    report.assert_clean();
    let warnings = report.warnings();
    let told: Vec<_> = warnings.iter().filter(|text| text.contains("text pad")).collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    assert!(told[0].contains("not UTF-8 text (byte 0 of 6)"), "{warnings:?}");
    let prompts = prompts(&report);
    assert!(prompts.last().is_some_and(|prompt| prompt.len() == 16 * 1024), "cut, as the last cue wins");
}

#[test]
fn a_text_stream_without_cues_leaves_the_prompt_and_the_video_without_an_end() {
    let (mut playing, text, _model) = fed("");
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    text.end_of_stream().expect("it is taken");
    while playing.frames_so_far() < 40 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(playing.src().send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    let report = playing.stop();
    assert_eq!(prompts(report.assert_clean()), ["before"]);
}

#[test]
fn a_text_pad_that_stays_silent_holds_nothing_up_at_the_end() {
    let (playing, _text, _model) = fed("");
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let report = playing.stop();
    assert_eq!(report.errors(), []);
    report.assert_progress_is_closed();
}

#[test]
fn a_live_stream_does_not_wait_for_text() {
    let (mut playing, text, _model) = fed("is-live=true num-buffers=9");
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    text.end_of_stream().expect("it is taken");
    assert_eq!(playing.stop().assert_clean().samples.len(), 9);
}

#[test]
fn a_clip_with_an_end_says_that_it_reads_no_text() {
    let model = Model::new();
    let line = format!(
        "{} ! fakesink appsrc caps=text/x-raw,format=utf8 format=time ! src.text",
        model.soragen("seed=1")
    );
    let warnings = play(&line).finish().warnings();
    assert!(warnings.iter().any(|text| text.contains("num-frames=0")), "{warnings:?}");
}
