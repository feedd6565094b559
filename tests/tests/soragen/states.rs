//! Changes of state at any moment: always possible, never late, always reusable.

use std::time::{Duration, Instant};

use gst::prelude::*;
use sora_tests::{Model, Playing, init, play};

/// The element promises two seconds; a busy test machine gets more.
const DEADLINE: Duration = Duration::from_secs(10);

/// Different moments, the same in every run.
fn moments(count: u32, longest: Duration) -> impl Iterator<Item = Duration> {
    let mut random = 12345u32;
    (0..count).map(move |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        longest.mul_f64(f64::from(random >> 8) / f64::from(1 << 24))
    })
}

fn to_null_in_time(playing: &Playing) {
    let began = Instant::now();
    playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
    assert!(began.elapsed() < DEADLINE, "NULL took {:?}", began.elapsed());
}

#[test]
fn an_unlinked_element_goes_up_and_down_three_times() {
    init();
    let model = Model::new();
    let element = gst::ElementFactory::make("soragen")
        .property("model-path", model.path().to_str())
        .property("device", "cpu")
        .build()
        .expect("the element exists");
    // The sequences of the generic state test of gst-plugins-good.
    use gst::State::{Null, Paused, Playing, Ready};
    for state in [
        [Ready, Null, Ready, Paused, Ready, Null].as_slice(),
        &[Ready, Paused, Playing, Paused, Ready, Null],
        &[Ready, Paused, Playing, Paused, Playing, Paused, Ready, Null],
    ]
    .concat()
    {
        element.set_state(state).unwrap_or_else(|error| panic!("{state:?}: {error}"));
        let (result, ..) = element.state(gst::ClockTime::from_seconds(60));
        result.unwrap_or_else(|error| panic!("{state:?}: {error}"));
    }
}

#[test]
fn two_hundred_cycles() {
    let model = Model::new();
    let playing = play(&(model.soragen("seed=1") + " ! fakesink sync=false"));
    for cycle in 0..200 {
        for state in [gst::State::Paused, gst::State::Playing, gst::State::Paused, gst::State::Ready] {
            playing.pipeline.set_state(state).unwrap_or_else(|error| panic!("cycle {cycle}: {error}"));
        }
    }
    let report = playing.stop();
    assert_eq!(report.errors(), []);
    report.assert_progress_is_closed();
}

#[test]
fn null_at_any_moment_of_loading_and_denoising() {
    let model = Model::new();
    for moment in moments(40, Duration::from_millis(400)) {
        let playing = play(&(model.soragen("num-inference-steps=1000") + " ! fakesink sync=false"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(moment);
        to_null_in_time(&playing);
        let report = playing.stop();
        assert_eq!(report.errors(), [], "after {moment:?}");
        report.assert_progress_is_closed();
    }
}

#[test]
fn a_clip_can_be_made_again_after_eos_with_other_settings() {
    let model = Model::new();
    let mut playing =
        play(&(model.soragen("seed=1") + " ! video/x-raw,format=RGB ! appsink name=sink sync=false"));
    for (frames, through) in [(1i32, gst::State::Ready), (5, gst::State::Null), (5, gst::State::Ready)] {
        playing.src().set_property("num-frames", frames);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_end();
        playing.pipeline.set_state(through).expect("down is always possible");
    }
    let report = playing.stop();
    report.assert_clean().assert_progress_is_closed();
    let frames = report.frames();
    assert_eq!(frames.len(), 11);
    assert_eq!(frames[1..6], frames[6..], "same seed, same clip");
}

#[test]
fn a_clip_can_be_made_after_an_error() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("guidance-scale=2") + " ! fakesink sync=false"));
    let src = playing.src();
    src.set_property("guidance-scale", f64::NAN);
    assert!(playing.pipeline.set_state(gst::State::Playing).is_err());
    playing.wait_for_end();
    playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
    src.set_property("guidance-scale", 1.0);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for("EOS", |message| (message.type_() == gst::MessageType::Eos).then_some(()));
    playing.stop().one_error();
}

#[test]
fn eos_ends_the_stream_while_loading_and_while_denoising() {
    let model = Model::new();
    for code in ["load", "generate"] {
        let mut playing = play(&(model.soragen("num-inference-steps=1000") + " ! fakesink sync=false"));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_progress(code);
        let began = Instant::now();
        assert!(playing.src().send_event(gst::event::Eos::new()));
        playing.wait_for_end();
        assert!(began.elapsed() < DEADLINE, "EOS took {:?}", began.elapsed());
        let report = playing.stop();
        report.assert_clean().assert_progress_is_closed();
        let cancelled = report.progress().iter().any(|(kind, ..)| *kind == gst::ProgressType::Canceled);
        assert!(cancelled, "{code} goes on after EOS: {:?}", report.progress());
    }
}

#[test]
fn a_flush_at_any_moment_makes_the_clip_anew() {
    let model = Model::new();
    let start = model.soragen("seed=3 num-inference-steps=20");
    let line = start + " ! video/x-raw,format=RGB ! appsink name=sink sync=false";
    let undisturbed = sora_tests::run(&line);
    let expected = undisturbed.assert_clean().frames();
    for moment in moments(15, Duration::from_millis(150)) {
        let mut playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(moment);
        let src = playing.src();
        assert!(src.send_event(gst::event::FlushStart::new()));
        assert!(src.send_event(gst::event::FlushStop::new(true)));
        playing.wait_for_end();
        let report = playing.stop();
        report.assert_progress_is_closed();
        assert_eq!(report.errors(), [], "after {moment:?}");
        let frames = report.frames();
        // A flush after the last frame comes too late to be followed by another clip's EOS.
        assert!(frames.ends_with(&expected), "{} frames after {moment:?}", frames.len());
    }
}

#[test]
fn pausing_in_the_middle_loses_no_frame() {
    let model = Model::new();
    let line = model.soragen("seed=5 num-frames=9") + " ! video/x-raw,framerate=60/1 ! appsink name=sink";
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_progress("generate");
    for state in [gst::State::Paused, gst::State::Playing, gst::State::Paused, gst::State::Playing] {
        playing.pipeline.set_state(state).expect("it changes");
        let (result, ..) = playing.pipeline.state(gst::ClockTime::from_seconds(60));
        result.expect("it changes");
    }
    playing.wait_for_end();
    let report = playing.stop();
    assert_eq!(report.assert_clean().frames().len(), 9);
}
