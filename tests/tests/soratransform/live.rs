//! Load: more frames than can be restyled, and settings that change all the time.

use gst::prelude::*;
use sora_tests::{Model, play};

fn stats(transform: &gst::Element) -> gst::Structure {
    transform.property("stats")
}

fn number(stats: &gst::Structure, name: &str) -> u64 {
    stats.get(name).expect("a number")
}

#[test]
fn the_oldest_frames_are_dropped_where_a_block_takes_too_long_and_people_are_told() {
    let model = Model::new();
    // Frames come as fast as they can be made; a block takes hundreds of steps.
    let line = format!(
        "videotestsrc num-buffers=3000 ! video/x-raw,width=48,height=32,framerate=8/1 ! {} ! appsink name=sink sync=false",
        model.soratransform("strength=1 num-inference-steps=200 queue-policy=drop-oldest")
    );
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    let mut most = 0;
    while number(&stats(&transform), "frames-in") < 3000 {
        most = most.max(number(&stats(&transform), "queued"));
    }
    playing.wait_for_end();
    let after = stats(&transform);
    let [came, went, dropped] = ["frames-in", "frames-out", "dropped"].map(|name| number(&after, name));
    let report = playing.stop();
    report.assert_clean();
    assert_eq!((came, came), (3000, went + dropped), "every frame went or was counted");
    assert!(dropped > 2000 && most <= 4, "{dropped} dropped, {most} waited");
    assert_eq!(report.samples.len() as u64, went);
    let times: Vec<_> = report.samples.iter().map(|s| s.buffer().expect("a buffer").pts()).collect();
    assert!(times.is_sorted(), "frames stay in order");
    assert_eq!(times.last(), Some(&Some(gst::ClockTime::from_mseconds(125) * 2999)), "the newest are kept");
    let counts: Vec<u64> = report.qos().into_iter().map(|(_, dropped)| dropped).collect();
    assert_eq!(counts, (1..=dropped).collect::<Vec<_>>(), "a QOS message for each");
    let warnings = report.warnings();
    let told = |text: &String| text.contains("frames dropped in");
    assert!(warnings.iter().any(told), "{warnings:?}");
}

#[test]
fn a_source_that_can_wait_loses_nothing() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=33 ! video/x-raw,width=48,height=32,framerate=8/1 ! {} ! appsink name=sink sync=false",
        model.soratransform("strength=1 num-inference-steps=20")
    );
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    assert_eq!(number(&stats(&transform), "dropped"), 0);
    assert_eq!(playing.stop().assert_clean().samples.len(), 33);
}

#[test]
fn hundreds_of_changes_while_frames_flow_block_nothing() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=1200 ! video/x-raw,width=48,height=32,framerate=8/1 ! {} ! appsink name=sink sync=false",
        model.soratransform("strength=0.5")
    );
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    for n in 0..500u32 {
        transform.set_property("prompt", format!("a scene of number {n}"));
        transform.set_property("strength", f64::from(n % 11) / 10.0);
        transform.set_property("enabled", n % 7 != 0);
        transform.set_property("guidance-scale", f64::from(n % 3));
        let _ = stats(&transform);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    transform.set_property("enabled", true);
    playing.wait_for_end();
    let report = playing.stop();
    assert_eq!(report.assert_clean().samples.len(), 1200);
    let times: Vec<_> = report.samples.iter().map(|s| s.buffer().expect("a buffer").pts()).collect();
    assert!(times.is_sorted() && times[1199] == Some(gst::ClockTime::from_mseconds(125) * 1199));
}

#[test]
fn two_in_one_pipeline_share_a_model_and_do_not_disturb_each_other() {
    let model = Model::new();
    let alone = {
        let line = format!(
            "videotestsrc num-buffers=9 ! video/x-raw,width=48,height=32,format=RGB,framerate=8/1 ! {} \
             ! appsink name=sink sync=false",
            model.soratransform("strength=0.5")
        );
        sora_tests::run(&line).assert_clean().frames()
    };
    let second = model.soratransform("strength=0.9").replace("name=transform ", "");
    let line = format!(
        "videotestsrc num-buffers=9 ! video/x-raw,width=48,height=32,format=RGB,framerate=8/1 ! {} \
         ! appsink name=sink sync=false videotestsrc num-buffers=60 ! video/x-raw,width=48,height=32 ! {second} \
         ! fakesink sync=false",
        model.soratransform("strength=0.5")
    );
    assert_eq!(sora_tests::run(&line).assert_clean().frames(), alone);
}

#[test]
fn flashes_stay_with_their_clicks() {
    let model = Model::new();
    // The time of each buffer is what a muxer and a sink go by: audio beside the video is not touched, so that the
    // video's times are those of the source is all there is to it.
    let line = format!(
        "videotestsrc num-buffers=17 pattern=blink ! video/x-raw,width=48,height=32,framerate=8/1 \
         ! tee name=t ! queue max-size-buffers=0 max-size-time=0 max-size-bytes=0 ! {} ! appsink name=sink sync=false \
         t. ! queue max-size-buffers=0 max-size-time=0 max-size-bytes=0 ! fakesink name=reference sync=false \
         signal-handoffs=true",
        model.soratransform("strength=0.1")
    );
    let playing = play(&line);
    let reference = std::sync::Arc::<std::sync::Mutex<Vec<Option<gst::ClockTime>>>>::default();
    let list = std::sync::Arc::clone(&reference);
    let sink = playing.pipeline.by_name("reference").expect("it is there");
    let pad = sink.static_pad("sink").expect("it has the pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        list.lock().expect("no panic").push(info.buffer().and_then(|buffer| buffer.pts()));
        gst::PadProbeReturn::Ok
    });
    let report = playing.finish();
    let came: Vec<_> =
        report.assert_clean().samples.iter().map(|s| s.buffer().expect("a buffer").pts()).collect();
    assert_eq!(came, *reference.lock().expect("no panic"));
}
