//! Changes of state and flushes at any moment: always possible, never late, always reusable.

use std::time::{Duration, Instant};

use gst::prelude::*;
use sora_tests::{Model, init, play};

use crate::feed::{FRAME, Feed, seen};

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

#[test]
fn an_unlinked_element_goes_up_and_down_three_times() {
    init();
    let model = Model::new();
    let element = gst::ElementFactory::make("soratransform")
        .property("model-path", model.path().to_str())
        .property("device", "cpu")
        .build()
        .expect("the element exists");
    use gst::State::{Null, Paused, Playing, Ready};
    for state in [
        [Ready, Null, Ready, Paused, Ready, Null].as_slice(),
        &[Ready, Paused, Playing, Paused, Ready, Null],
        &[Ready, Paused, Playing, Paused, Playing, Paused, Ready, Null],
    ]
    .concat()
    {
        element.set_state(state).unwrap_or_else(|error| panic!("{state:?}: {error}"));
    }
}

#[test]
fn two_hundred_cycles() {
    let model = Model::new();
    let line =
        format!("videotestsrc ! video/x-raw,width=48,height=32 ! {} ! fakesink", model.soratransform(""));
    let playing = play(&line);
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
fn null_at_any_moment() {
    let model = Model::new();
    let line = format!(
        "videotestsrc ! video/x-raw,width=48,height=32 ! {} ! fakesink sync=false",
        model.soratransform("strength=1 num-inference-steps=1000")
    );
    for moment in moments(30, Duration::from_millis(500)) {
        let playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(moment);
        let began = Instant::now();
        playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
        assert!(began.elapsed() < DEADLINE, "NULL took {:?}", began.elapsed());
        let report = playing.stop();
        assert_eq!(report.errors(), [], "after {moment:?}");
        report.assert_progress_is_closed();
    }
}

#[test]
fn after_a_flush_the_stream_begins_anew() {
    let model = Model::new();
    let mut feed = Feed::start(&model, "strength=0.5");
    feed.push(5, 48, 32);
    let undisturbed = seen(feed.finish().assert_clean());
    for moment in moments(15, Duration::from_millis(100)) {
        let mut feed = Feed::start(&model, "strength=0.5");
        feed.push(4, 48, 32);
        std::thread::sleep(moment);
        let sink = feed.transform().static_pad("sink").expect("it has the pad");
        assert!(sink.send_event(gst::event::FlushStart::new()));
        assert!(sink.send_event(gst::event::FlushStop::new(false)));
        // The source has been told to stop by the flush, or has pushed all already: a new pipeline of the same
        // frames shows that the element is as good as new.
        let report = feed.playing.stop();
        assert_eq!(report.errors(), [], "after {moment:?}");
        let frames = seen(&report);
        assert!(undisturbed.starts_with(&frames), "{} frames after {moment:?}", frames.len());
    }
    assert_eq!(undisturbed.last().map(|frame| frame.pts), Some(Some(FRAME * 4)));
}

#[test]
fn a_seek_while_a_block_is_computed_shows_nothing_of_before() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=40 ! video/x-raw,format=RGB,width=48,height=32,framerate=8/1 ! {} \
         ! appsink name=sink sync=false",
        model.soratransform("strength=1 num-inference-steps=30")
    );
    for moment in moments(8, Duration::from_millis(300)) {
        let mut playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        std::thread::sleep(moment);
        let target = gst::ClockTime::from_seconds(2);
        let sought = playing.pipeline.seek_simple(gst::SeekFlags::FLUSH, target).is_ok();
        playing.wait_for_end();
        let report = playing.stop();
        let times: Vec<_> =
            report.assert_clean().samples.iter().map(|s| s.buffer().expect("a buffer").pts()).collect();
        if sought {
            // Frames of before the seek, then from its target on, each once.
            let at = times.iter().rposition(|time| *time == Some(target)).expect("the target comes");
            let after: Vec<_> = (16..16 + (times.len() - at) as u64).map(|n| Some(FRAME * n)).collect();
            assert_eq!(times[at..], after, "after {moment:?}");
        }
    }
}

#[test]
fn it_can_be_used_again_after_eos_and_after_an_error() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=6 ! video/x-raw,width=48,height=32 ! {} ! appsink name=sink sync=false",
        model.soratransform("strength=0.5")
    );
    let mut playing = play(&line);
    for through in [gst::State::Ready, gst::State::Null, gst::State::Ready] {
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_end();
        playing.pipeline.set_state(through).expect("down is always possible");
    }
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    transform.set_property("strength", f64::NAN);
    assert!(playing.pipeline.set_state(gst::State::Playing).is_err());
    playing.wait_for_end();
    playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
    transform.set_property("strength", 0.5);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for("EOS", |message| (message.type_() == gst::MessageType::Eos).then_some(()));
    let report = playing.stop();
    report.one_error();
    assert_eq!(report.samples.len(), 4 * 6);
}
