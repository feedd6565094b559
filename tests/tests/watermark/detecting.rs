//! What `soradetect` says, when, and to whom.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use sora_tests::{Report, run};

use crate::clip::{FRAME, ID, OTHER_ID, SECOND, buffer, bytes, clip, harness, info, marked, picture};

const CAPS: &str = "video/x-raw,format=I420,width=320,height=240,framerate=25/1";

/// The verdicts on the bus.
fn verdicts(report: &Report) -> Vec<gst::Structure> {
    let structures = report.messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Element(element) => element.structure().map(gst::StructureRef::to_owned),
        _ => None,
    });
    structures.filter(|structure| structure.name() == "sora-watermark").collect()
}

fn flag(structure: &gst::StructureRef, name: &str) -> bool {
    structure.get(name).unwrap_or_else(|error| panic!("{name} of {structure:?}: {error}"))
}

/// What the detector says of frames that another element marked, with nothing dropped.
fn verdict_on(settings: &str, frames: &[gst::Buffer]) -> gst::Structure {
    let mut harness =
        harness(&format!("soradetect drop=false {settings}"), &info(VideoFormat::Gray8, 320, 240));
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    for (number, frame) in frames.iter().enumerate() {
        let frame = buffer(bytes(frame), Some(FRAME * number as u64));
        let before = frame.clone();
        let out = harness.push_and_pull(frame).expect("it passes");
        assert_eq!(out.as_ptr(), before.as_ptr(), "the very buffer passes");
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]));
    let last = messages.last().expect("a verdict");
    last.structure().expect("a structure").to_owned()
}

#[test]
fn a_marked_stream_is_found_on_the_way_and_at_its_end_before_eos() {
    let line = format!(
        "videotestsrc num-buffers=75 ! {CAPS} ! sorawatermark id={ID} ! soradetect drop=false ! fakesink sync=false"
    );
    let report = run(&line);
    let verdicts = verdicts(report.assert_clean());
    assert!(verdicts.len() >= 3, "one for each second: {verdicts:?}");
    let last = verdicts.last().expect("some");
    assert!(verdicts.iter().rev().skip(1).all(|verdict| !flag(verdict, "final")), "{verdicts:?}");
    for verdict in [&verdicts[0], last] {
        assert!(flag(verdict, "found") && !flag(verdict, "conflict"), "{verdict:?}");
        assert_eq!(verdict.get::<String>("id").as_deref(), Ok(ID));
        assert!(verdict.get::<f64>("log10-p").is_ok_and(|bound| bound <= -6.0), "{verdict:?}");
    }
    assert!(flag(last, "final"));
    assert_eq!((last.get::<u64>("frames"), last.get::<u64>("dropped")), (Ok(75), Ok(0)));
    let (start, end) = (last.get::<u64>("start").expect("a time"), last.get::<u64>("end").expect("a time"));
    let second = gst::ClockTime::SECOND.nseconds();
    assert!(start < second / 2 && end > 5 * second / 2 && end <= 3 * second, "{start} to {end}");
    // EOS of the pipeline comes from the sink: after the verdict.
    let at = |wanted| report.messages.iter().rposition(|message| message.type_() == wanted);
    assert!(at(gst::MessageType::Element) < at(gst::MessageType::Eos));
}

#[test]
fn a_stream_without_a_mark_is_said_to_have_none_found() {
    let verdict = verdict_on("", &clip(320, 240, SECOND));
    assert!(!flag(&verdict, "found") && flag(&verdict, "final"), "{verdict:?}");
    assert!(verdict.get::<String>("id").is_err());
    assert!(!verdict.has_field("expected"), "no id was claimed");
}

#[test]
fn a_claimed_id_is_verified() {
    let frames = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND);
    let verdict = verdict_on(&format!("expect-id={ID}"), &frames);
    assert!(flag(&verdict, "expected"), "{verdict:?}");
    let verdict = verdict_on(&format!("expect-id={OTHER_ID}"), &frames);
    assert!(!flag(&verdict, "expected") && flag(&verdict, "found"), "{verdict:?}");
}

#[test]
fn only_the_keys_that_are_given_find_a_mark() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, byte: u8| {
        let path = folder.path().join(name);
        std::fs::write(&path, [byte; 32]).expect("the folder can be written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (ours, theirs) = (file("ours", 1), file("theirs", 2));
    let frames = marked(&format!("sorawatermark id={ID} key={ours}"), 320, 240, SECOND);
    for (keys, found) in [("", false), (&*theirs, false), (&*format!("public:{theirs}:{ours}"), true)] {
        let settings = if keys.is_empty() { String::new() } else { format!("key={keys}") };
        let verdict = verdict_on(&settings, &frames);
        assert_eq!(flag(&verdict, "found"), found, "{keys}: {verdict:?}");
    }
}

#[test]
fn two_ids_under_one_key_are_a_conflict() {
    let once = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND * 2);
    // By another element that cannot know of the first.
    let mut second = harness(&format!("sorawatermark id={OTHER_ID}"), &info(VideoFormat::Gray8, 320, 240));
    let twice: Vec<_> =
        once.into_iter().map(|frame| second.push_and_pull(frame).expect("it passes")).collect();
    let verdict = verdict_on("", &twice);
    assert!(flag(&verdict, "conflict"), "{verdict:?}");
    let marks = verdict.get::<gst::Array>("marks").expect("marks");
    let mut ids: Vec<String> = marks
        .iter()
        .map(|mark| {
            let mark = mark.get::<gst::Structure>().expect("a structure");
            mark.get("id").expect("an id")
        })
        .collect();
    ids.sort();
    assert_eq!(ids, [ID, OTHER_ID]);
}

/// The events that came out of the harness, up to EOS.
fn events_until_eos(harness: &mut Harness) -> Vec<gst::Event> {
    std::iter::from_fn(|| harness.try_pull_event()).collect()
}

#[test]
fn elements_behind_it_hear_of_a_mark_before_eos_and_once() {
    let frames = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND * 3);
    let mut harness = harness("soradetect drop=false", &info(VideoFormat::Gray8, 320, 240));
    for frame in frames {
        harness.push_and_pull(frame).expect("it passes");
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    let events = events_until_eos(&mut harness);
    let ours =
        |event: &gst::Event| event.structure().is_some_and(|structure| structure.name() == "sora-watermark");
    let at: Vec<usize> = (0..events.len()).filter(|at| ours(&events[*at])).collect();
    let eos = events.iter().position(|event| event.type_() == gst::EventType::Eos).expect("EOS");
    assert!(at.len() == 1 && at[0] < eos, "{events:?}");
    let event = &events[at[0]];
    assert!(event.is_serialized() && event.type_().is_sticky());
    assert_eq!(
        event.structure().and_then(|structure| structure.get::<String>("id").ok()).as_deref(),
        Some(ID)
    );
}

#[test]
fn every_frame_passes_and_those_that_were_not_analysed_are_counted() {
    let line = format!(
        "videotestsrc num-buffers=200 ! {CAPS} ! soradetect name=src max-buffers=1 ! appsink name=sink sync=false"
    );
    let mut playing = sora_tests::play(&line);
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let stats: gst::Structure = playing.src().property("stats");
    let count = |name| stats.get::<u64>(name).expect("a count");
    assert_eq!(count("frames") + count("dropped"), 200, "{stats:?}");
    assert_eq!(playing.stop().assert_clean().samples.len(), 200);
}

/// What passes a pad: the buffer itself, its time, and its bytes.
type Passed = (usize, Option<gst::ClockTime>, Vec<u8>);

#[test]
fn a_live_stream_is_told_of_while_it_runs_and_passes_as_it_is_without_latency() {
    // Without an end: what is said of it is said while it runs.
    let mut playing = sora_tests::play(&format!(
        "videotestsrc is-live=true do-timestamp=true ! {CAPS} ! sorawatermark name=mark id={ID} ! soradetect name=src ! appsink name=sink"
    ));
    let passed = Arc::<Mutex<Vec<(&str, Passed)>>>::default();
    let detect = playing.src();
    for side in ["sink", "src"] {
        let passed = Arc::clone(&passed);
        let pad = detect.static_pad(side).expect("a filter has both pads");
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().expect("a buffer is what was asked for");
            let seen = (buffer.as_ptr() as usize, buffer.pts(), bytes(buffer));
            passed.lock().expect("no other probe panicked").push((side, seen));
            gst::PadProbeReturn::Ok
        });
    }
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    let found = playing.wait_for("find", |message| {
        let structure = message.structure().filter(|structure| structure.name() == "sora-watermark")?;
        flag(structure, "found").then(|| structure.to_owned())
    });
    assert!(!flag(&found, "final"), "{found:?}");
    assert_eq!(found.get::<String>("id").as_deref(), Ok(ID));

    let latency = |element: &gst::Element| {
        let mut query = gst::query::Latency::new();
        let pad = element.static_pad("src").expect("a filter has both pads");
        assert!(pad.query(&mut query), "{} answers", element.name());
        query.result()
    };
    let before = latency(&playing.pipeline.by_name("mark").expect("it is there"));
    assert!(before.0, "the source is live");
    assert_eq!(latency(&detect), before, "none of its own");

    assert!(playing.pipeline.send_event(gst::event::Eos::new()));
    playing.wait_for_end();
    let report = playing.stop();
    assert!(flag(verdicts(report.assert_clean()).last().expect("some"), "final"));
    // Each frame is out before the next one comes in, as it came.
    let passed = passed.lock().expect("no probe panicked");
    assert!(!passed.is_empty() && passed.len() == 2 * report.samples.len(), "{}", passed.len());
    for pair in passed.chunks(2) {
        assert!(pair[0].0 == "sink" && pair[1].0 == "src" && pair[0].1 == pair[1].1, "at {:?}", pair[0].1.1);
    }
}

#[test]
fn a_flush_begins_a_new_verdict_here_and_for_the_elements_behind() {
    let frames = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND * 2);
    let mut harness = harness("soradetect drop=false", &info(VideoFormat::Gray8, 320, 240));
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    let mut verdicts = Vec::new();
    for frame in frames {
        harness.push_and_pull(frame).expect("it passes");
    }
    verdicts.extend(bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Element]));
    // What was found goes on with the next frame.
    harness.push_and_pull(buffer(picture(320, 240, 0), Some(FRAME * 50))).expect("it passes");
    assert!(harness.push_event(gst::event::FlushStart::new()));
    assert!(harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    verdicts.extend(std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element])));
    let found = |message: &gst::Message| flag(message.structure().expect("a structure"), "found");
    assert!(verdicts.iter().any(found), "{verdicts:?}");

    for frame in clip(320, 240, 10) {
        harness.push_and_pull(frame).expect("it passes");
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    // Nothing of before comes late, of a search that was under way.
    let after: Vec<_> = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element])).collect();
    for message in &after {
        let verdict = message.structure().expect("a structure");
        assert!(
            !flag(verdict, "found") && verdict.get::<u64>("frames").is_ok_and(|n| n <= 10),
            "{verdict:?}"
        );
    }
    let last = after.last().and_then(|message| message.structure()).expect("a verdict");
    assert!(flag(last, "final") && last.get::<u64>("frames") == Ok(10), "{last:?}");
    let events = events_until_eos(&mut harness);
    let told: Vec<bool> = (events.iter().filter_map(|event| event.structure()))
        .filter(|structure| structure.name() == "sora-watermark")
        .map(|structure| flag(structure, "found"))
        .collect();
    assert_eq!(told, [true, false], "what was told before the flush is taken back");
}

#[test]
fn frames_without_timestamps_follow_one_another() {
    let frames = marked(&format!("sorawatermark id={ID}"), 320, 240, SECOND * 2);
    let mut harness = harness("soradetect drop=false", &info(VideoFormat::Gray8, 320, 240));
    let bus = gst::Bus::new();
    harness.element().expect("an element").set_bus(Some(&bus));
    for frame in &frames {
        harness.push_and_pull(buffer(bytes(frame), None)).expect("it passes");
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    let last =
        std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element])).last().expect("a verdict");
    let verdict = last.structure().expect("a structure");
    assert!(flag(verdict, "final") && flag(verdict, "found"), "{verdict:?}");
    assert_eq!(verdict.get::<String>("id").as_deref(), Ok(ID));
}
