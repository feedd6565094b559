//! What cannot be restyled is refused by name; what is odd is passed on as it came.

use gst::prelude::*;
use sora_tests::{Model, play, run};

use crate::feed::{FRAME, Feed, seen};

#[test]
fn interlaced_video_is_refused_by_name() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=2 ! video/x-raw,width=48,height=32,interlace-mode=interleaved ! {} ! fakesink",
        model.soratransform("")
    );
    let report = run(&line);
    let errors = report.errors();
    let text = &errors.first().expect("an error").0;
    assert!(text.contains("interlaced (interleaved)") && text.contains("deinterlace"), "{text}");
}

#[test]
fn settings_that_make_no_sense_are_refused_before_loading() {
    let model = Model::new();
    for (name, part) in [("strength", "strength is not a number"), ("guidance-scale", "guidance-scale")] {
        let playing = play(&format!("videotestsrc ! {} ! fakesink", model.soratransform("")));
        let transform = playing.pipeline.by_name("transform").expect("it is there");
        transform.set_property(name, f64::NAN);
        let text = playing.finish().one_error();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let line = "videotestsrc ! soratransform model-path=/nowhere/model ! fakesink";
    let text = run(line).one_error();
    assert!(text.contains("/nowhere/model"), "{text}");
}

#[test]
fn a_model_that_breaks_while_loading_is_one_error_with_its_reason() {
    let model = Model::new();
    model.write("tokenizer/tokenizer.json", "{}");
    let playing = play(&format!("videotestsrc ! {} ! fakesink", model.soratransform("")));
    let report = playing.finish();
    let ours: Vec<_> = report.errors().into_iter().filter(|(text, _)| text.contains("tokenizer")).collect();
    assert_eq!(ours.len(), 1, "{:?}", report.errors());
    report.assert_progress_is_closed();
}

#[test]
fn missing_and_backward_times_and_holes_lose_no_frame() {
    let hour = gst::ClockTime::from_seconds(3600);
    let times = [
        Some(FRAME * 8),
        None,
        None,
        Some(FRAME * 10),
        // Back by a frame, then by more than a second.
        Some(FRAME * 9),
        Some(gst::ClockTime::ZERO),
        // An hour that is missing, and back again.
        Some(hour),
        Some(hour + FRAME),
        Some(FRAME),
    ];
    let mut feed = Feed::alone("strength=0.5");
    for time in times {
        feed.push_at(time, 48, 32);
    }
    let report = feed.finish();
    let came: Vec<_> = seen(report.assert_clean()).iter().map(|frame| frame.pts).collect();
    assert_eq!(came, times);
}

#[test]
fn a_gap_is_handed_on_in_its_place() {
    let mut feed = Feed::alone("strength=0.5");
    let order = std::sync::Arc::<std::sync::Mutex<Vec<&str>>>::default();
    let list = std::sync::Arc::clone(&order);
    let source = feed.transform().static_pad("src").expect("it has the pad");
    source.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let what = match &info.data {
            Some(gst::PadProbeData::Buffer(_)) => "frame",
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Gap => "gap",
            _ => return gst::PadProbeReturn::Ok,
        };
        list.lock().expect("no panic").push(what);
        gst::PadProbeReturn::Ok
    });
    feed.push(3, 48, 32);
    let gap = gst::event::Gap::builder(FRAME * 3).duration(FRAME).build();
    assert!(feed.playing.src().send_event(gap));
    feed.push(2, 48, 32);
    feed.finish().assert_clean();
    assert_eq!(*order.lock().expect("no panic"), ["frame", "frame", "frame", "gap", "frame", "frame"]);
}

#[test]
fn a_buffer_that_is_no_frame_is_an_error_with_both_sizes() {
    let feed = Feed::alone("strength=0.5");
    let source = feed.playing.src().downcast::<gst_app::AppSrc>().expect("an appsrc");
    source.push_buffer(gst::Buffer::from_slice([0u8; 7])).expect("it is taken");
    let report = feed.finish();
    let texts: Vec<_> = report.errors().into_iter().map(|(text, _)| text).collect();
    let named = |text: &String| text.contains("7 bytes") && text.contains("48x32");
    assert!(texts.iter().any(named), "{texts:?}");
}

#[test]
fn downstream_that_ends_early_ends_upstream() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=1000 ! video/x-raw,width=48,height=32 ! {} ! identity eos-after=6 ! fakesink sync=false",
        model.soratransform("strength=0.5")
    );
    run(&line).assert_clean();
}
