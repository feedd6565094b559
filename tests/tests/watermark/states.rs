//! Changes of state at any moment, for both elements.

use std::time::{Duration, Instant};

use gst::prelude::*;
use sora_tests::{init, play};

const CAPS: &str = "video/x-raw,format=I420,width=320,height=240,framerate=25/1";
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn an_unlinked_element_goes_up_and_down_three_times() {
    init();
    for factory in ["sorawatermark", "soradetect"] {
        let element = gst::ElementFactory::make(factory).build().expect("the element exists");
        // The sequences of the generic state test of gst-plugins-good.
        use gst::State::{Null, Paused, Playing, Ready};
        for state in [
            [Ready, Null, Ready, Paused, Ready, Null].as_slice(),
            &[Ready, Paused, Playing, Paused, Ready, Null],
            &[Ready, Paused, Playing, Paused, Playing, Paused, Ready, Null],
        ]
        .concat()
        {
            element.set_state(state).unwrap_or_else(|error| panic!("{factory} {state:?}: {error}"));
        }
    }
}

#[test]
fn fifty_cycles() {
    let line =
        format!("videotestsrc ! {CAPS} ! sorawatermark ! soradetect search=untouched ! fakesink sync=false");
    let playing = play(&line);
    for cycle in 0..50 {
        for state in [gst::State::Paused, gst::State::Playing, gst::State::Paused, gst::State::Ready] {
            playing.pipeline.set_state(state).unwrap_or_else(|error| panic!("cycle {cycle}: {error}"));
        }
    }
    assert_eq!(playing.stop().errors(), []);
}

#[test]
fn stopping_does_not_wait_for_the_analysis() {
    // Nothing is dropped, so the stream is held up by the analysis most of the time.
    let line = format!(
        "videotestsrc pattern=snow ! {CAPS} ! soradetect drop=false max-buffers=1 interval=1 search=scaled ! fakesink sync=false"
    );
    for moment in [0, 300] {
        let mut playing = play(&line);
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for("verdict", |message| (message.type_() == gst::MessageType::Element).then_some(()));
        std::thread::sleep(Duration::from_millis(moment));
        let began = Instant::now();
        playing.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
        assert!(began.elapsed() < DEADLINE, "NULL took {:?}", began.elapsed());
        assert_eq!(playing.stop().errors(), []);
    }
}

#[test]
fn a_flush_wakes_a_stream_that_waits_for_the_analysis() {
    let line = format!(
        "videotestsrc name=src pattern=snow ! {CAPS} ! soradetect drop=false max-buffers=1 interval=1 search=scaled ! fakesink sync=false"
    );
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    for start in 0..3 {
        playing.wait_for("verdict", |message| (message.type_() == gst::MessageType::Element).then_some(()));
        let began = Instant::now();
        let flags = gst::SeekFlags::FLUSH;
        playing.pipeline.seek_simple(flags, gst::ClockTime::from_seconds(start)).expect("it can be sought");
        assert!(began.elapsed() < DEADLINE, "the seek took {:?}", began.elapsed());
    }
    assert_eq!(playing.stop().errors(), []);
}
