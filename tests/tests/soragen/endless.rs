//! Clips without an end: block by block, in flat memory, by what is wished for now.

use gst::prelude::*;
use sora_tests::{Model, play};

const SINK: &str = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";

fn stat(element: &gst::Element, name: &str) -> u64 {
    element.property::<gst::Structure>("stats").get(name).expect("a number")
}

fn mean(frame: &[u8]) -> f64 {
    frame.iter().map(|byte| f64::from(*byte)).sum::<f64>() / frame.len() as f64
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

/// The embedded model: what it has learned shows.
fn embedded(settings: &str) -> String {
    let path = sora_tests::root().join("models/sora-tiny");
    format!("soragen name=src model-path=\"{}\" device=cpu {settings}", path.display())
}

/// Memory of this process that is in use, in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kilobytes * 1024.0
}

#[test]
fn it_goes_on_and_its_times_do_not_drift() {
    let model = Model::new();
    let report = sora_tests::run(&(model.soragen("num-frames=0 num-buffers=401 seed=1") + SINK));
    report.assert_progress_is_closed();
    let frames = report.assert_clean().frames();
    assert_eq!(frames.len(), 401);
    for (n, sample) in report.samples.iter().enumerate() {
        let buffer = sample.buffer().expect("a buffer");
        assert_eq!(buffer.pts(), Some(gst::ClockTime::from_mseconds(125) * n as u64));
        assert_eq!(buffer.offset(), n as u64);
    }
    let again = sora_tests::run(&(model.soragen("num-frames=0 num-buffers=41 seed=1") + SINK));
    assert_eq!(again.frames(), frames[..41], "same seed, same video");
}

#[test]
fn memory_is_flat() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("num-frames=0 seed=1") + " ! fakesink sync=false"));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let src = playing.src();
    let wait_for = |blocks| {
        while stat(&src, "blocks") < blocks {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        resident()
    };
    // Until every cache is full and the allocator has what it needs.
    let before = wait_for(150);
    let after = wait_for(600);
    assert!(after < before * 1.03, "{before} bytes after 150 blocks, {after} after 600");
    assert!(src.send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    playing.stop().assert_clean();
}

#[test]
fn the_duration_is_not_known_and_the_record_has_no_number_of_frames() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("num-frames=0 seed=1") + " ! fakesink sync=false"));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for("provenance", |message| match message.view() {
        gst::MessageView::HaveContext(have) => {
            let told = sora_gst::Provenance::from_context(have.context().as_ref())?;
            let record = sora_record::GenerationRecord::from_json(&told.record?).expect("a valid record");
            assert_eq!((record.frames, record.seed), (None, Some(1)));
            Some(())
        }
        _ => None,
    });
    assert_eq!(playing.pipeline.query_duration::<gst::ClockTime>(), None);
    assert!(playing.src().send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    playing.stop().assert_clean();
}

#[test]
fn another_prompt_shows_within_two_blocks() {
    // One block is being made when the prompt changes; those that wait are dropped. Snow by day is bright, and the
    // same at night in neon is dark.
    let mut playing = play(
        &(embedded("num-frames=0 seed=3 prompt=\"a red ball stands on the snow, pencil sketch\"")
            + " ! video/x-raw,format=RGB,width=64,height=64 ! appsink name=sink sync=false max-buffers=1"),
    );
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let src = playing.src();
    while playing.frames_so_far() < 9 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let at = playing.frames_so_far();
    src.set_property("prompt", "a red ball stands on the sea at night, neon");
    while playing.frames_so_far() < at + 24 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(src.send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    let report = playing.stop();
    let means: Vec<f64> = report.assert_clean().frames().iter().map(|frame| mean(frame)).collect();
    // What was on its way, what was being made, and the first block by the new prompt: 4 frames each.
    let (before, after) = (means[at - 1], means[at + 12]);
    assert!(before > 170.0 && after < 100.0, "mean brightness {before} before, {after} after: {means:?}");
}

#[test]
fn a_past_that_is_kept_goes_on_and_one_that_is_cut_does_not() {
    let model = Model::new();
    let made = |change: &str| {
        let line = model.soragen(&format!("num-frames=0 seed=1 prompt=\"a ball\" prompt-change={change}"))
            + " ! video/x-raw,format=RGB ! appsink name=sink sync=true max-buffers=1";
        let mut playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        let src = playing.src();
        while playing.frames_so_far() < 5 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        src.set_property("prompt", "snow");
        let at = playing.frames_so_far();
        while playing.frames_so_far() < at + 16 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(src.send_event(gst::event::Eos::new()));
        playing.wait_for_end();
        assert_eq!(src.property::<String>("prompt-used"), "snow");
        playing.stop().assert_clean().frames()
    };
    let (kept, cut) = (made("keep"), made("cut"));
    assert_eq!(kept[..5], cut[..5]);
    assert_ne!(kept.last(), cut.last());
}

#[test]
fn blocks_join_without_a_flicker() {
    let report = sora_tests::run(
        &(embedded("num-frames=0 num-buffers=129 seed=3 prompt=\"a red ball rolls on the grass\"")
            + " ! video/x-raw,format=RGB ! appsink name=sink sync=false"),
    );
    let frames = report.assert_clean().frames();
    let steps: Vec<f64> = frames.windows(2).map(|pair| difference(&pair[0], &pair[1])).collect();
    // Frame 0 is a block, then four at a time: step 0, 4, 8, ... leads from one block to the next.
    let (mut border, mut inner) = (Vec::new(), Vec::new());
    for (n, step) in steps.iter().enumerate().skip(8) {
        if n % 4 == 0 { border.push(*step) } else { inner.push(*step) }
    }
    let average = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let (border, all) = (average(&border), average(&steps[8..]));
    println!("{border:.2} levels at the borders of blocks, {:.2} inside", average(&inner));
    assert!(border <= 1.6 * all, "{border} levels at the borders of blocks, {all} on average");
}

#[test]
fn hundreds_of_changes_block_nothing() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("num-frames=0 seed=1") + " ! fakesink sync=false"));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let src = playing.src();
    playing.wait_for_progress("generate");
    for n in 0..1000u32 {
        src.set_property("prompt", format!("scene number {n}"));
        src.set_property("guidance-scale", f64::from(n % 3));
        src.set_property("negative-prompt", if n % 2 == 0 { "rain" } else { "" });
        let _ = stat(&src, "queued");
    }
    // It still makes blocks, now by the last prompt.
    let blocks = stat(&src, "blocks");
    while stat(&src, "blocks") < blocks + 3 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(src.property::<String>("prompt-used"), "scene number 999");
    assert!(src.send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    playing.stop().assert_clean();
}

/// A live stream that takes far longer to make than to show, watched until it has shown so many frames.
fn overloaded(policy: &str, frames: usize) -> (sora_tests::Report, gst::Element) {
    let model = Model::new();
    let settings = format!(
        "num-frames=0 seed=1 is-live=true lag-policy={policy} num-inference-steps=20 num-buffers={frames}"
    );
    let line = model.soragen(&settings)
        + " ! video/x-raw,format=RGB,framerate=1000/1 ! appsink name=sink sync=false";
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let src = playing.src();
    (playing.stop(), src)
}

fn assert_told(report: &sora_tests::Report) {
    let warnings = report.warnings();
    let told = |text: &String| text.contains("not made as fast as it is shown");
    assert!(warnings.iter().any(told), "{warnings:?}");
}

#[test]
fn lag_is_slowed_down_for() {
    let (report, src) = overloaded("slow-down", 30);
    let frames = report.assert_clean().frames();
    assert!(frames.windows(2).all(|pair| pair[0] != pair[1]), "every frame is a new one");
    assert_eq!((stat(&src, "dropped"), stat(&src, "repeated")), (0, 0));
    assert!(stat(&src, "late-frames") > 0);
    assert_told(&report);
}

#[test]
fn lag_is_made_up_for_by_dropping() {
    let (report, src) = overloaded("drop", 10);
    let dropped = stat(&src, "dropped");
    assert!(dropped > 0 && stat(&src, "repeated") == 0);
    let counts: Vec<u64> = report.qos().into_iter().map(|(_, dropped)| dropped).collect();
    assert_eq!(counts, (1..=dropped).collect::<Vec<_>>(), "a QOS message for each");
    let offsets: Vec<u64> =
        report.assert_clean().samples.iter().map(|s| s.buffer().expect("a buffer").offset()).collect();
    assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "{offsets:?}");
    assert!(offsets[9] > 9, "time went on over what was dropped: {offsets:?}");
    assert_told(&report);
}

#[test]
fn lag_is_bridged_by_the_last_frame() {
    let (report, src) = overloaded("repeat-last", 60);
    let frames = report.assert_clean().frames();
    let repeated = frames.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert!(repeated > 0 && stat(&src, "repeated") >= repeated, "{repeated}");
    assert_eq!(stat(&src, "dropped"), 0);
    assert_told(&report);
}

#[test]
fn null_at_any_moment_of_a_stream() {
    let model = Model::new();
    for moment in 0..20 {
        let playing =
            play(&(model.soragen("num-frames=0 num-inference-steps=50") + " ! fakesink sync=false"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(17 * moment));
        let report = playing.stop();
        assert_eq!(report.errors(), [], "moment {moment}");
        report.assert_progress_is_closed();
    }
}
