//! What comes with the frames: times, tags, progress, queries, statistics.

use gst::prelude::*;
use sora_tests::{Model, play, run};

const SINK: &str = " ! appsink name=sink sync=false";

#[test]
fn timestamps_follow_the_frame_number() {
    let model = Model::new();
    let wish = " ! video/x-raw,framerate=30000/1001";
    let report = run(&(model.soragen("num-frames=9") + wish + SINK));
    let mut expected = gst::ClockTime::ZERO;
    for (index, sample) in report.assert_clean().samples.iter().enumerate() {
        let buffer = sample.buffer().expect("a sample has a buffer");
        assert_eq!(buffer.pts(), Some(expected));
        assert_eq!(buffer.offset(), index as u64);
        assert_eq!(buffer.flags().contains(gst::BufferFlags::DISCONT), index == 0);
        expected += buffer.duration().expect("frames have a duration");
    }
    // Nine frames of 1001/30000 s.
    assert_eq!(expected.nseconds(), 300_300_000);
}

#[test]
fn progress_is_told_and_closed() {
    let model = Model::new();
    let report = run(&(model.soragen("num-inference-steps=3") + SINK));
    report.assert_clean().assert_progress_is_closed();
    let texts: Vec<String> = report.progress().into_iter().map(|(_, _, text)| text).collect();
    for part in ["loading 100 %", "step 1 of 3", "step 3 of 3", "decoding"] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
    }
}

/// The tags that come before the first frame.
fn tags(model: &Model, settings: &str) -> gst::TagList {
    let mut playing = play(&(model.soragen(&format!("seed=77 prompt=\"a red ball\" {settings}")) + SINK));
    let sink = playing.pipeline.by_name("sink").expect("the sink");
    let (sender, events) = std::sync::mpsc::channel();
    let types = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    sink.static_pad("sink").expect("a sink has a pad").add_probe(types, move |_, info| {
        let said = match &info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Tag(tag) => Some(Some(tag.tag_owned())),
                _ => None,
            },
            Some(gst::PadProbeData::Buffer(_)) => Some(None),
            _ => None,
        };
        if let Some(said) = said {
            // The test may have what it wants already.
            let _ = sender.send(said);
        }
        gst::PadProbeReturn::Ok
    });
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    playing.stop().assert_clean();
    events.recv().expect("something came").expect("tags come before the first frame")
}

#[test]
fn tags_name_model_and_seed_before_the_first_frame_and_the_prompt_where_it_may_be_read() {
    let model = Model::new();
    for settings in ["", "prompt-policy=omit"] {
        let tags = tags(&model, settings).to_string();
        assert!(!tags.contains("red ball") && tags.contains("seed"), "{settings}: {tags}");
    }
    let tags = tags(&model, "prompt-policy=text");
    assert_eq!(tags.get::<gst::tags::Title>().expect("a title").get(), "a red ball");
    let comment = tags.get::<gst::tags::Comment>().expect("a comment");
    let name = model.path().file_name().and_then(|name| name.to_str()).expect("the folder has a name");
    for part in ["seed=77", "num-inference-steps=2", &format!("model={name}")] {
        assert!(comment.get().contains(part), "{part}: {}", comment.get());
    }
    assert!(tags.get::<gst::tags::ApplicationName>().expect("a name").get().starts_with("soragen"));
}

#[test]
fn a_random_seed_can_be_read_and_makes_the_same_clip_again() {
    let model = Model::new();
    let end = " ! video/x-raw,format=RGB ! appsink name=sink sync=false";
    let mut playing = play(&(model.soragen("seed=-1") + end));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let src = playing.src();
    let seed = src.property::<i64>("seed-used");
    assert!(seed >= 0);
    assert_eq!(src.property::<i64>("seed"), -1, "the setting stays");
    let stats = src.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("seed"), Ok(seed as u64));
    assert_eq!(stats.get::<u64>("frames"), Ok(5));
    assert_eq!(stats.get::<String>("device").as_deref(), Ok("cpu"));
    let first = playing.stop();
    let again = run(&(model.soragen(&format!("seed={seed}")) + end));
    assert_eq!(first.assert_clean().frames(), again.assert_clean().frames());
    let other = run(&(model.soragen(&format!("seed={}", seed + 1)) + end));
    assert_ne!(first.frames(), other.assert_clean().frames(), "another seed, another clip");
}

#[test]
fn duration_and_position_are_known() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("num-frames=9") + " ! fakesink sync=true"));
    playing.pipeline.set_state(gst::State::Paused).expect("it starts");
    let (result, ..) = playing.pipeline.state(gst::ClockTime::from_seconds(60));
    result.expect("it prerolls");
    let duration = playing.pipeline.query_duration::<gst::ClockTime>();
    assert_eq!(duration, Some(gst::ClockTime::from_mseconds(1125)));
    let frames = playing.src().query_duration::<gst::format::Default>();
    assert_eq!(frames, Some(gst::format::Default::from_u64(9)));
    assert_eq!(playing.pipeline.query_position::<gst::ClockTime>(), Some(gst::ClockTime::ZERO));
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    assert!(playing.src().query(&mut seeking));
    assert!(!seeking.result().0, "a clip cannot be sought");
    playing.pipeline.set_state(gst::State::Playing).expect("it plays");
    playing.wait_for_end();
    let end = playing.pipeline.query_position::<gst::ClockTime>();
    assert_eq!(end, Some(gst::ClockTime::from_mseconds(1125)));
    playing.stop().assert_clean();
}

#[test]
fn a_live_source_states_its_latency_and_keeps_the_clock() {
    let model = Model::new();
    let mut playing = play(&(model.soragen("is-live=true num-frames=5") + " ! appsink name=sink sync=true"));
    let change = playing.pipeline.set_state(gst::State::Paused).expect("it starts");
    assert_eq!(change, gst::StateChangeSuccess::NoPreroll);
    playing.pipeline.set_state(gst::State::Playing).expect("it plays");
    playing.wait_for_end();
    let mut latency = gst::query::Latency::new();
    assert!(playing.src().query(&mut latency));
    assert_eq!(latency.result(), (true, gst::ClockTime::from_mseconds(125), None));
    let report = playing.stop();
    let report = report.assert_clean();
    let times: Vec<_> = report
        .samples
        .iter()
        .map(|sample| sample.buffer().and_then(|buffer| buffer.pts()).expect("frames have a time"))
        .collect();
    assert_eq!(times.len(), 5);
    for pair in times.windows(2) {
        assert!(pair[1] >= pair[0] + gst::ClockTime::from_mseconds(125), "{times:?}");
    }
}

#[test]
fn a_rounded_number_of_frames_is_said() {
    let model = Model::new();
    for (asked, made) in [(2, 1), (4, 5), (7, 5), (8, 9)] {
        let report = run(&(model.soragen(&format!("num-frames={asked}")) + SINK));
        assert_eq!(report.assert_clean().samples.len(), made);
        let warnings = report.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(&format!("{made} frames")), "{warnings:?}");
    }
}
