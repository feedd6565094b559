//! Which id a stream is marked with, and who learns it.

use gst::prelude::*;
use gst_video::VideoFormat;
use sora_gst::Provenance;
use sora_gst::provenance::CONTEXT_TYPE;
use sora_tests::{play, run};
use sora_watermark::Key;

use crate::clip::{
    FRAME, ID, OTHER_ID, SECOND, buffer, bytes, clip, detect_under, element, harness, info, marked, payload,
};

const SOURCE: &str =
    "videotestsrc num-buffers=3 ! video/x-raw,format=GRAY8,width=320,height=240,framerate=25/1";

fn proposal(id: &str) -> gst::Context {
    let mut proposal = Provenance::default();
    proposal.watermark_id = Some(id.to_owned());
    proposal.to_context(true)
}

/// The contexts that elements published.
fn published(report: &sora_tests::Report) -> Vec<Provenance> {
    let contexts = report.messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::HaveContext(message) => Provenance::from_context(message.context().as_ref()),
        _ => None,
    });
    contexts.collect()
}

#[test]
fn each_run_has_an_id_of_its_own_and_publishes_it() {
    let mut playing = play(&format!("{SOURCE} ! sorawatermark name=src ! fakesink"));
    let mut ids = Vec::new();
    for _ in 0..2 {
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_end();
        playing.pipeline.set_state(gst::State::Ready).expect("down is always possible");
        ids.push(playing.src().property::<String>("id"));
    }
    let key_id: String = playing.src().property("key-id");
    assert_eq!(key_id, Key::public().id().to_string());
    let report = playing.stop();
    assert_ne!(ids[0], ids[1]);
    let published = published(report.assert_clean());
    let said: Vec<_> = published.iter().map(|context| context.watermark_id.clone().expect("an id")).collect();
    assert_eq!(said, ids);
    assert!(published.iter().all(|context| context.key_id.as_deref() == Some(&key_id)));
    let tags: Vec<String> = report
        .messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Tag(tag) => {
                let tags = tag.tags();
                tags.get::<gst::tags::ExtendedComment>().map(|comment| comment.get().to_owned())
            }
            _ => None,
        })
        .collect();
    assert!(tags.contains(&format!("sora-watermark-id={}", ids[0])), "{tags:?}");
}

#[test]
fn the_tags_of_the_source_stay() {
    let line = format!("{SOURCE} ! taginject tags=\"title=ball\" ! sorawatermark id={ID} ! fakesink");
    let report = run(&line);
    report.assert_clean();
    let both = report.messages.iter().any(|message| match message.view() {
        gst::MessageView::Tag(tag) => {
            let tags = tag.tags();
            let title = tags.get::<gst::tags::Title>().is_some_and(|title| title.get() == "ball");
            title && tags.get::<gst::tags::ExtendedComment>().is_some()
        }
        _ => false,
    });
    assert!(both, "one list has the title and the id");
}

#[test]
fn the_property_goes_before_a_proposal_and_a_proposal_before_chance() {
    for (property, expected) in
        [("", OTHER_ID), (&*format!("id={ID}"), ID), (&*format!("id={}", &ID[2..]), ID)]
    {
        let mut playing = play(&format!("{SOURCE} ! sorawatermark name=src {property} ! fakesink"));
        playing.pipeline.set_context(&proposal(OTHER_ID));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        playing.wait_for_end();
        assert_eq!(playing.src().property::<String>("id"), expected, "{property}");
        playing.stop().assert_clean();
    }
}

#[test]
fn a_proposal_that_is_no_id_is_an_error_that_quotes_it() {
    let mut playing = play(&format!("{SOURCE} ! sorawatermark ! fakesink"));
    playing.pipeline.set_context(&proposal("a red ball"));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let report = playing.stop();
    let errors = report.errors();
    assert!(errors[0].0.contains("a red ball") && errors[0].0.contains("24 hexadecimal"), "{errors:?}");
}

#[test]
fn two_streams_of_one_pipeline_have_two_ids() {
    let chain = |name: &str| format!("{SOURCE} ! sorawatermark name={name} ! fakesink sync=false");
    let mut playing = play(&format!("{}  {}", chain("src"), chain("other")));
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let other = playing.pipeline.by_name("other").expect("it is there");
    assert_ne!(playing.src().property::<String>("id"), other.property::<String>("id"));
    playing.stop().assert_clean();
}

#[test]
fn a_second_element_under_the_same_key_passes_the_stream_with_a_warning() {
    let line = format!("{SOURCE} ! sorawatermark id={ID} ! sorawatermark name=src ! appsink name=sink");
    let mut playing = play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    assert_eq!(playing.src().property::<String>("id"), ID);
    let twice = playing.stop();
    let warnings = twice.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(ID), "{warnings:?}");
    let once = run(&format!("{SOURCE} ! sorawatermark id={ID} ! appsink name=sink"));
    assert_eq!(twice.assert_clean().frames(), once.assert_clean().frames());
}

#[test]
fn marks_under_two_keys_live_in_one_stream() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, [7; 32]).expect("the folder can be written");
    let line = format!("sorawatermark id={ID} ! sorawatermark id={OTHER_ID} key={}", file.display());
    let frames = marked(&line, 320, 240, SECOND);
    let keys = vec![Key::public(), Key::from_bytes([7; 32])];
    let verdict = detect_under(keys, &info(VideoFormat::Gray8, 320, 240), &frames);
    let mut found: Vec<_> = verdict.marks.iter().map(|mark| mark.payload).collect();
    found.sort();
    assert_eq!(found, [payload(ID), payload(OTHER_ID)], "{verdict:?}");
    assert!(!verdict.conflict(), "two keys, two owners");
}

#[test]
fn elements_behind_it_learn_the_id_and_what_was_known_before() {
    let mut harness = harness("identity ! sorawatermark", &info(VideoFormat::Gray8, 320, 240));
    let source = element(&harness);
    let pad = source.static_pad("src").expect("a source pad");
    // As soragen would answer.
    pad.add_probe(gst::PadProbeType::QUERY_UPSTREAM, |_, info| {
        let Some(gst::QueryViewMut::Context(query)) = info.query_mut().map(|query| query.view_mut()) else {
            return gst::PadProbeReturn::Ok;
        };
        let mut record = Provenance::default();
        record.record = Some("{\"seed\": 7}".into());
        if sora_gst::provenance::answer(query, &record) {
            gst::PadProbeReturn::Handled
        } else {
            gst::PadProbeReturn::Ok
        }
    });
    let ask = |harness: &mut gst_check::Harness| {
        harness.push_and_pull(clip(320, 240, 1).remove(0)).expect("it passes");
        let bin = harness.element().expect("a bin");
        let mut query = gst::query::Context::new(CONTEXT_TYPE);
        assert!(bin.static_pad("src").expect("a source pad").query(&mut query));
        Provenance::from_context(query.context().expect("an answer")).expect("of our type")
    };
    let known = ask(&mut harness);
    assert_eq!(known.record.as_deref(), Some("{\"seed\": 7}"));
    assert_eq!(known.key_id, Some(Key::public().id().to_string()));
    let bin = harness.element().and_then(|bin| bin.downcast::<gst::Bin>().ok()).expect("a bin");
    let mark = bin.iterate_sorted().into_iter().flatten().next().expect("the element");
    assert_eq!(known.watermark_id, Some(mark.property::<String>("id")));
}

#[test]
fn a_mark_that_the_frames_carry_already_is_found_where_that_is_wanted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, [9; 32]).expect("the folder can be written");
    let key = format!("key={}", file.display());
    let before = marked(&format!("sorawatermark id={ID} {key}"), 320, 240, SECOND * 4);
    for (check, goes_on) in [("warn", true), ("stop", false)] {
        let line = format!("sorawatermark id={OTHER_ID} {key} check-existing={check}");
        let mut harness = harness(&line, &info(VideoFormat::Gray8, 320, 240));
        let bus = gst::Bus::new();
        harness.element().expect("an element").set_bus(Some(&bus));
        let warned = before.iter().cycle().take(SECOND * 600).enumerate().find_map(|(number, frame)| {
            let frame = buffer(bytes(frame), Some(FRAME * number as u64));
            harness.push_and_pull(frame).expect("it passes");
            // As a live stream: the search, on its thread, has time to keep up.
            bus.timed_pop_filtered(gst::ClockTime::from_mseconds(20), &[gst::MessageType::Warning])
        });
        let warned = warned.expect("a warning");
        let gst::MessageView::Warning(warning) = warned.view() else { unreachable!("filtered") };
        assert!(warning.error().message().contains(ID), "{warning:?}");
        let details = warning.details().expect("details");
        assert_eq!(details.get::<String>("id").as_deref(), Ok(ID));
        let frame = clip(320, 240, 1).remove(0);
        let out = harness.push_and_pull(frame.clone()).expect("it passes");
        assert_eq!(bytes(&out) != bytes(&frame), goes_on, "check-existing={check}");
    }
}

#[test]
fn a_mark_that_a_short_clip_carries_is_told_before_its_end_goes_on() {
    let before = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND * 2);
    for (check, live) in [("warn", false), ("stop", false), ("warn", true)] {
        let line = format!("sorawatermark id={OTHER_ID} check-existing={check}");
        let mut harness = harness(&line, &info(VideoFormat::Gray8, 320, 240));
        // What is not live is held up until the search has taken it.
        harness.set_live(live);
        let bus = gst::Bus::new();
        harness.element().expect("an element").set_bus(Some(&bus));
        // As fast as a file comes.
        for (number, frame) in before.iter().enumerate() {
            let frame = buffer(bytes(frame), Some(FRAME * number as u64));
            harness.push_and_pull(frame).expect("it passes");
        }
        assert!(harness.push_event(gst::event::Eos::new()));
        let warned = bus.pop_filtered(&[gst::MessageType::Warning]).expect("a warning, before EOS");
        let gst::MessageView::Warning(warning) = warned.view() else { unreachable!("filtered") };
        assert!(warning.error().message().contains(ID), "{warning:?}");
    }
}
