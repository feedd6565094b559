//! What comes out is what came in, restyled: each frame once, at its time.

use gst::prelude::*;
use sora_tests::{Model, play, run};

use crate::feed::{FRAME, Feed, caps, picture, seen};

#[test]
fn every_frame_comes_out_at_its_time_also_those_of_a_block_that_is_not_whole() {
    let model = Model::new();
    // One, four, four, and two that are left at EOS; and ends in every place of a block.
    for count in [1, 2, 5, 11, 12] {
        let mut feed = Feed::start(&model, "strength=0.5");
        feed.push(count, 48, 32);
        let report = feed.finish();
        report.assert_clean().assert_progress_is_closed();
        let frames = seen(&report);
        let times: Vec<_> = frames.iter().map(|frame| (frame.pts, frame.duration)).collect();
        let expected: Vec<_> = (0..count).map(|n| (Some(FRAME * n), Some(FRAME))).collect();
        assert_eq!(times, expected);
        for (n, frame) in frames.iter().enumerate() {
            assert_ne!(frame.pixels, picture(n as u64, 48 * 32 * 3), "frame {n} is restyled");
        }
    }
}

#[test]
fn an_empty_stream_ends() {
    let feed = Feed::alone("");
    let report = feed.finish();
    assert_eq!(report.assert_clean().samples.len(), 0);
}

#[test]
fn disabled_or_without_strength_the_very_buffers_pass() {
    let model = Model::new();
    for settings in ["enabled=false", "strength=0"] {
        let line = format!(
            "videotestsrc num-buffers=7 ! video/x-raw,format=I420,width=50,height=34,framerate=8/1 ! {} ! fakesink",
            model.soratransform(settings)
        );
        let playing = play(&line);
        let transform = playing.pipeline.by_name("transform").expect("it is there");
        let passing = ["sink", "src"].map(|name| {
            let buffers = std::sync::Arc::<std::sync::Mutex<Vec<(usize, Vec<u8>)>>>::default();
            let list = std::sync::Arc::clone(&buffers);
            let pad = transform.static_pad(name).expect("it has the pad");
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(buffer) = info.buffer() {
                    let bytes = buffer.map_readable().expect("readable").to_vec();
                    list.lock().expect("no panic").push((buffer.as_ptr() as usize, bytes));
                }
                gst::PadProbeReturn::Ok
            });
            buffers
        });
        playing.finish().assert_clean();
        let [came, went] = passing.map(|list| list.lock().expect("no panic").clone());
        assert_eq!(came.len(), 7);
        assert_eq!(came, went, "{settings}");
    }
}

#[test]
fn the_same_seed_and_frames_give_the_same_video() {
    let model = Model::new();
    let made = |settings: &str| {
        let mut feed = Feed::start(&model, settings);
        feed.push(9, 48, 32);
        seen(feed.finish().assert_clean())
    };
    let once = made("strength=0.5 prompt=\"a ball\"");
    assert_eq!(once, made("strength=0.5 prompt=\"a ball\""));
    assert_ne!(once, made("strength=0.5 prompt=\"snow\""), "the prompt matters");
    assert_ne!(once, made("strength=0.7 prompt=\"a ball\""), "the strength matters");
    let fresh = made("strength=0.5 prompt=\"a ball\" noise-mode=fresh");
    assert_eq!(once[0], fresh[0], "the first block has the stream's noise");
    assert_ne!(once[1..], fresh[1..], "the others have noise of their own");
}

#[test]
fn a_change_of_prompt_or_strength_takes_effect_with_the_next_block() {
    let model = Model::new();
    let made = |change: &dyn Fn(&gst::Element)| {
        let mut feed = Feed::start(&model, "strength=0.5 prompt=\"a ball\"");
        feed.push(5, 48, 32);
        feed.wait_for_frames(5);
        change(&feed.transform());
        feed.push(4, 48, 32);
        seen(feed.finish().assert_clean())
    };
    let same = made(&|_| {});
    for (what, changed) in [
        ("prompt", made(&|element| element.set_property("prompt", "snow"))),
        ("strength", made(&|element| element.set_property("strength", 0.9))),
    ] {
        assert_eq!(same[..5], changed[..5], "{what}");
        for n in 5..9 {
            assert_ne!(same[n], changed[n], "{what}: frame {n}");
        }
    }
    // Nothing waits for a block any more, and the frames of the one that was begun pass as well.
    let off = made(&|element| element.set_property("enabled", false));
    for (n, frame) in off.iter().enumerate().skip(5) {
        assert_eq!(frame.pixels, picture(n as u64, 48 * 32 * 3));
    }
}

#[test]
fn other_caps_in_the_middle_lose_no_frame() {
    let mut feed = Feed::alone("strength=0.5");
    feed.push(3, 48, 32);
    feed.set_caps(&caps(33, 17));
    feed.push(3, 33, 17);
    feed.set_caps(&caps(48, 32));
    feed.push(2, 48, 32);
    let report = feed.finish();
    let widths: Vec<i32> = report
        .assert_clean()
        .samples
        .iter()
        .map(|sample| sample.caps().expect("caps").structure(0).expect("one").get("width").expect("a width"))
        .collect();
    assert_eq!(widths, [48, 48, 48, 33, 33, 33, 48, 48]);
    let times: Vec<_> = seen(&report).iter().map(|frame| frame.pts).collect();
    assert_eq!(times, (0..8).map(|n| Some(FRAME * n)).collect::<Vec<_>>());
}

#[test]
fn any_size_format_and_rate_keeps_its_caps() {
    let model = Model::new();
    for caps in [
        "format=I420,width=1,height=1,framerate=8/1",
        "format=NV12,width=33,height=17,framerate=30000/1001",
        "format=I420,width=7680,height=4320,framerate=8/1",
        "format=I420_10LE,width=64,height=48,framerate=25/1",
        "format=GRAY8,width=20,height=80,framerate=0/1",
        "format=RGBA,width=640,height=64,framerate=8/1,pixel-aspect-ratio=4/3",
        "format=YUY2,width=64,height=48,framerate=8/1,colorimetry=bt709",
    ] {
        let line = format!(
            "videotestsrc num-buffers=2 ! video/x-raw,{caps} ! {} ! appsink name=sink sync=false",
            model.soratransform("strength=0.4")
        );
        let report = run(&line);
        // Without a rate the test source makes one frame.
        let expected = if caps.contains("framerate=0/1") { 1 } else { 2 };
        assert_eq!(report.assert_clean().samples.len(), expected, "{caps}");
        let wanted: gst::Caps = format!("video/x-raw,{caps}").parse().expect("valid caps");
        for sample in &report.samples {
            let got = sample.caps().expect("caps");
            assert!(got.is_subset(&wanted), "{got} for {wanted}");
            let info = gst_video::VideoInfo::from_caps(got).expect("raw video");
            assert_eq!(sample.buffer().expect("a buffer").size(), info.size(), "{caps}");
        }
    }
}

#[test]
fn metas_flags_and_the_segment_are_kept() {
    let model = Model::new();
    let line = format!(
        "videotestsrc num-buffers=6 timestamp-offset=5000000000 ! video/x-raw,width=48,height=32,framerate=8/1 ! {} \
         ! appsink name=sink sync=false",
        model.soratransform("strength=0.5")
    );
    let playing = play(&line);
    let transform = playing.pipeline.by_name("transform").expect("it is there");
    let sink = transform.static_pad("sink").expect("it has the pad");
    let reference = gst::Caps::new_empty_simple("timestamp/x-test");
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            let time = buffer.pts().expect("a time") + gst::ClockTime::from_seconds(1);
            gst::ReferenceTimestampMeta::add(buffer, &reference, time, gst::ClockTime::NONE);
            gst_video::VideoRegionOfInterestMeta::add(buffer, "face", (1, 2, 3, 4));
            buffer.set_flags(gst::BufferFlags::MARKER);
        }
        gst::PadProbeReturn::Ok
    });
    let segments = ["sink", "src"].map(|name| {
        let list = std::sync::Arc::<std::sync::Mutex<Vec<gst::Segment>>>::default();
        let seen = std::sync::Arc::clone(&list);
        let pad = transform.static_pad(name).expect("it has the pad");
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::EventView::Segment(segment)) = info.event().map(|event| event.view()) {
                seen.lock().expect("no panic").push(segment.segment().clone());
            }
            gst::PadProbeReturn::Ok
        });
        list
    });
    let report = playing.finish();
    assert_eq!(report.assert_clean().samples.len(), 6);
    for sample in &report.samples {
        let buffer = sample.buffer().expect("a buffer");
        let time = buffer.meta::<gst::ReferenceTimestampMeta>().expect("the meta is kept").timestamp();
        assert_eq!(Some(time), buffer.pts().map(|pts| pts + gst::ClockTime::from_seconds(1)));
        let region = buffer.meta::<gst_video::VideoRegionOfInterestMeta>().expect("the meta is kept");
        assert_eq!(region.rect(), (1, 2, 3, 4));
        assert!(buffer.flags().contains(gst::BufferFlags::MARKER));
    }
    let [came, went] = segments.map(|list| list.lock().expect("no panic").clone());
    assert_eq!(came.len(), 1);
    assert_eq!(came, went);
}

#[test]
fn the_record_says_that_footage_was_edited() {
    let mut feed = Feed::alone("strength=0.5 prompt=\"a pencil sketch\"");
    feed.push(1, 48, 32);
    feed.wait_for_frames(1);
    let source = feed.transform().static_pad("src").expect("it has the pad");
    let mut query = gst::query::Context::new(sora_gst::provenance::CONTEXT_TYPE);
    assert!(source.query(&mut query));
    let told = sora_gst::Provenance::from_context(query.context().expect("an answer")).expect("of the type");
    let record =
        sora_record::GenerationRecord::from_json(&told.record.expect("a record")).expect("a valid one");
    assert_eq!(record.mode, sora_record::Mode::Restyle);
    assert_eq!(record.prompt, Some(sora_record::Prompt::Text("a pencil sketch".into())));
    assert_eq!((record.width, record.height, record.seed), (Some(48), Some(32), Some(1)));
    feed.finish().assert_clean();
}

#[test]
fn video_that_passes_untouched_is_not_said_to_be_edited() {
    let mut feed = Feed::alone("enabled=false");
    feed.push(2, 48, 32);
    feed.wait_for_frames(2);
    let source = feed.transform().static_pad("src").expect("it has the pad");
    let mut query = gst::query::Context::new(sora_gst::provenance::CONTEXT_TYPE);
    assert!(!source.query(&mut query), "nothing is known: {query:?}");
    feed.finish().assert_clean();
}
