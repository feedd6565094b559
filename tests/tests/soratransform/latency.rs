//! The latency that is stated is the one there is.

use gst::prelude::*;
use sora_tests::{Model, play};

const LIVE: &str = "videotestsrc is-live=true num-buffers=NUMBER ! video/x-raw,width=48,height=32,framerate=20/1 \
                    ! identity name=before ! TRANSFORM ! fakesink name=sink sync=true";

fn line(number: u32, transform: &str) -> String {
    LIVE.replace("NUMBER", &number.to_string()).replace("TRANSFORM", transform)
}

fn latency(pad: &gst::Pad) -> Option<gst::ClockTime> {
    let mut query = gst::query::Latency::new();
    pad.query(&mut query).then(|| query.result().1)
}

fn own_latency(pipeline: &gst::Pipeline) -> gst::ClockTime {
    let pad = |name| {
        let element = pipeline.by_name(name).expect("it is there");
        element.static_pad("src").expect("it has the pad")
    };
    let before = latency(&pad("before")).expect("a live source answers");
    latency(&pad("transform")).expect("an answer") - before
}

fn stat(element: &gst::Element, name: &str) -> u64 {
    element.property::<gst::Structure>("stats").get(name).expect("a number")
}

#[test]
fn a_block_is_stated_and_passing_untouched_is_nothing() {
    let model = Model::new();
    let mut playing = play(&line(60, &model.soratransform("strength=0.5 queue-policy=wait")));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    // Frames flow before the blocks are measured.
    while stat(&transform, "blocks") < 4 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let stated = own_latency(&playing.pipeline);
    // Three frames of 50 ms wait for the fourth, whatever the machine.
    assert!(stated >= gst::ClockTime::from_mseconds(150), "{stated}");
    // A LATENCY message has told of the change from the first guess; no other element posts one here.
    let told = |message: &gst::Message| (message.type_() == gst::MessageType::Latency).then_some(());
    playing.wait_for("LATENCY message", told);

    transform.set_property("enabled", false);
    assert_eq!(own_latency(&playing.pipeline), gst::ClockTime::ZERO);
    playing.wait_for("LATENCY message", told);
    transform.set_property("enabled", true);
    assert!(own_latency(&playing.pipeline) >= gst::ClockTime::from_mseconds(150));
    playing.wait_for("LATENCY message", told);
    playing.wait_for_end();
    playing.stop().assert_clean();
}

#[test]
fn what_is_stated_covers_what_was_measured() {
    let model = Model::new();
    let mut playing = play(&line(41, &model.soratransform("strength=0.5 queue-policy=wait")));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    let [stated, block, mean] =
        ["latency", "max-block-time", "mean-block-time"].map(|name| stat(&transform, name));
    // The frames' own time and the computation, within what a block took at least and at most.
    let frames = 3 * 50_000_000;
    assert!(mean <= block && stated >= frames, "{stated} {mean} {block}");
    assert!(stated <= frames + block + block / 5, "{stated} is more than {frames} and {block}");
    playing.stop().assert_clean();
}
