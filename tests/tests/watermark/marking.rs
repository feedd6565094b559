//! Frames are marked, each as it comes, and nothing else about the stream changes.

use gst::prelude::*;
use gst_video::VideoFormat;
use sora_tests::run;
use sora_watermark::{Embedder, Key, LumaPlaneMut, LumaRange, SampleFormat, Strength};

use crate::clip::{
    FRAME, ID, SECOND, buffer, bytes, clip, detect, element, harness, info, marked, payload, picture,
};

/// What the embedder makes of a GRAY8 frame at `time`.
fn embedded(width: usize, height: usize, frame: &[u8], time: gst::ClockTime) -> Vec<u8> {
    let mut embedder =
        Embedder::new(&Key::public(), payload(ID), width, height, Strength::Standard).expect("valid");
    let mut frame = frame.to_vec();
    let plane = LumaPlaneMut::new(&mut frame, SampleFormat::U8, width, height, width, LumaRange::Limited);
    embedder.embed(&mut plane.expect("a whole frame"), time.into()).expect("the size is right");
    frame
}

/// Rows of 4 bytes are padded in GStreamer: these widths need none.
const SIZE: (usize, usize) = (320, 240);

#[test]
fn every_format_carries_the_mark() {
    for format in sora_gst::frame::FORMATS {
        let caps = format!("video/x-raw,format={format},width=320,height=240,framerate=25/1");
        let source = format!("videotestsrc num-buffers={SECOND} ! {caps} ! ");
        let sink = " ! appsink name=sink sync=false";
        let plain = run(&format!("{source}identity{sink}"));
        let report = run(&format!("{source}sorawatermark id={ID}{sink}"));
        let frames: Vec<gst::Buffer> =
            report.assert_clean().samples.iter().filter_map(|sample| sample.buffer_owned()).collect();
        assert_eq!(frames.len(), SECOND, "{format}");
        let info = info(*format, 320, 240);
        let verdict = detect(&info, &frames);
        assert_eq!(verdict.payload(), Some(payload(ID)), "{format}: {verdict:?}");
        // Only luma changes; of RGB nothing but red, green and blue.
        let (before, after) = (&plain.frames()[0], &bytes(&frames[0]));
        let untouched = |at: usize| match sora_gst::FrameLayout::new(&info).expect("ours").samples() {
            sora_gst::Samples::Rgb { bytes, red, green, blue } => ![red, green, blue].contains(&(at % bytes)),
            _ => at >= info.stride()[0] as usize * 240,
        };
        let changed = (0..before.len()).filter(|at| before[*at] != after[*at]);
        assert!(changed.clone().all(|at| !untouched(at)), "{format}");
        assert!(changed.count() > 320 * 240 / 4, "{format}: the first frame is marked");
    }
}

#[test]
fn odd_sizes_carry_the_mark() {
    for (format, width, height) in
        [(VideoFormat::I420, 321, 243), (VideoFormat::Nv12, 257, 255), (VideoFormat::Rgb, 323, 241)]
    {
        let caps = format!("video/x-raw,format={format},width={width},height={height},framerate=25/1");
        let line =
            format!("videotestsrc num-buffers={SECOND} ! {caps} ! sorawatermark id={ID} ! appsink name=sink");
        let report = run(&(line + " sync=false"));
        let frames: Vec<gst::Buffer> =
            report.assert_clean().samples.iter().filter_map(|sample| sample.buffer_owned()).collect();
        let verdict = detect(&info(format, width, height), &frames);
        assert_eq!(verdict.payload(), Some(payload(ID)), "{format} {width}x{height}");
    }
}

#[test]
fn every_frame_leaves_at_once_marked_as_its_time_says() {
    let (width, height) = SIZE;
    let mut harness = harness(&format!("sorawatermark id={ID}"), &info(VideoFormat::Gray8, 320, 240));
    // A variable rate, from a first timestamp that is not zero.
    let first = gst::ClockTime::from_seconds(3);
    for (number, time) in [0u64, 40, 333, 334, 1000, 5120].into_iter().enumerate() {
        let time = gst::ClockTime::from_mseconds(time);
        let frame = picture(width, height, number);
        let out = harness.push_and_pull(buffer(frame.clone(), Some(first + time))).expect("it passes");
        assert_eq!(out.pts(), Some(first + time));
        assert_eq!(bytes(&out), embedded(width, height, &frame, time), "at {time}");
    }
    harness.set_upstream_latency(FRAME);
    assert_eq!(harness.query_latency(), Some(FRAME), "none of its own");
}

#[test]
fn frames_without_timestamps_follow_the_frame_rate() {
    let (width, height) = SIZE;
    let mut harness = harness(&format!("sorawatermark id={ID}"), &info(VideoFormat::Gray8, 320, 240));
    for number in 0..12 {
        let frame = picture(width, height, number);
        let out = harness.push_and_pull(buffer(frame.clone(), None)).expect("it passes");
        assert_eq!(bytes(&out), embedded(width, height, &frame, FRAME * number as u64), "frame {number}");
    }
}

#[test]
fn a_frame_that_others_use_is_copied_and_one_that_nobody_uses_is_not() {
    let mut harness = harness(&format!("sorawatermark id={ID}"), &info(VideoFormat::Gray8, 320, 240));
    let place = |buffer: &gst::Buffer| buffer.map_readable().expect("readable").as_ptr();

    let shared = clip(320, 240, 1).remove(0);
    let before = bytes(&shared);
    let out = harness.push_and_pull(shared.clone()).expect("it passes");
    assert_eq!(bytes(&shared), before, "the other owner's frame is as it was");
    assert_ne!(bytes(&out), before);

    // Another buffer on the same memory.
    let twin = shared.copy();
    let out = harness.push_and_pull(twin).expect("it passes");
    assert_eq!(bytes(&shared), before, "the other owner's frame is as it was");
    assert_ne!(bytes(&out), before);

    let own = clip(320, 240, 1).remove(0);
    let memory = place(&own);
    let out = harness.push_and_pull(own).expect("it passes");
    assert_eq!(place(&out), memory, "in place");

    // Not marked, it is not copied either, although it is shared.
    element(&harness).set_property("enabled", false);
    let out = harness.push_and_pull(shared.clone()).expect("it passes");
    assert_eq!(place(&out), place(&shared));
}

#[test]
fn marking_can_be_switched_while_it_runs() {
    let (width, height) = SIZE;
    let mut harness = harness(&format!("sorawatermark id={ID}"), &info(VideoFormat::Gray8, 320, 240));
    for (number, frame) in clip(width, height, 9).into_iter().enumerate() {
        let enabled = number / 3 != 1;
        element(&harness).set_property("enabled", enabled);
        let before = bytes(&frame);
        let out = bytes(&harness.push_and_pull(frame).expect("it passes"));
        let time = FRAME * number as u64;
        let expected = if enabled { embedded(width, height, &before, time) } else { before };
        assert_eq!(out, expected, "frame {number}");
    }
    let stats: gst::Structure = element(&harness).property("stats");
    assert_eq!((stats.get::<u64>("marked"), stats.get::<u64>("passed")), (Ok(6), Ok(3)));
}

#[test]
fn a_new_size_keeps_the_id_and_the_time() {
    let mut harness = harness("sorawatermark", &info(VideoFormat::Gray8, 320, 240));
    let frame_at = |harness: &mut gst_check::Harness, width, height, number: usize| {
        let time = FRAME * number as u64;
        let out =
            harness.push_and_pull(buffer(picture(width, height, number), Some(time))).expect("it passes");
        (bytes(&out), time)
    };
    frame_at(&mut harness, 320, 240, 0);
    let id: String = element(&harness).property("id");
    harness.set_src_caps(info(VideoFormat::Gray8, 640, 360).to_caps().expect("valid caps"));
    let (out, time) = frame_at(&mut harness, 640, 360, 20);
    assert_eq!(element(&harness).property::<String>("id"), id);
    let mut embedder =
        Embedder::new(&Key::public(), payload(&id), 640, 360, Strength::Standard).expect("valid");
    let mut expected = picture(640, 360, 20);
    let plane = LumaPlaneMut::new(&mut expected, SampleFormat::U8, 640, 360, 640, LumaRange::Limited);
    embedder.embed(&mut plane.expect("a whole frame"), time.into()).expect("the size is right");
    assert_eq!(out, expected);
}

#[test]
fn a_flush_starts_the_time_anew() {
    let (width, height) = SIZE;
    let mut harness = harness(&format!("sorawatermark id={ID}"), &info(VideoFormat::Gray8, 320, 240));
    for start in [0u64, 2_000] {
        let frame = picture(width, height, 1);
        for time in [0u64, 720] {
            let time = gst::ClockTime::from_mseconds(time);
            let pts = gst::ClockTime::from_mseconds(start) + time;
            let out = harness.push_and_pull(buffer(frame.clone(), Some(pts))).expect("it passes");
            assert_eq!(bytes(&out), embedded(width, height, &frame, time), "{start} {time}");
        }
        assert!(harness.push_event(gst::event::FlushStart::new()));
        assert!(harness.push_event(gst::event::FlushStop::new(true)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(harness.push_event(gst::event::Segment::new(&segment)));
    }
}

#[test]
fn late_frames_are_not_dropped() {
    let mut harness = harness("sorawatermark", &info(VideoFormat::Gray8, 320, 240));
    for frame in clip(320, 240, 4) {
        let late =
            gst::event::Qos::new(gst::QOSType::Underflow, 4.0, 1_000_000_000, gst::ClockTime::SECOND * 9);
        harness.push_upstream_event(late);
        harness.push_and_pull(frame).expect("every frame passes");
    }
}

#[test]
fn the_strengths_differ_and_a_target_psnr_is_met() {
    let psnr = |settings: &str| {
        let frames = marked(&format!("sorawatermark id={ID} {settings}"), 320, 240, 1);
        let error: f64 = picture(320, 240, 0)
            .iter()
            .zip(bytes(&frames[0]))
            .map(|(before, after)| f64::from(before.abs_diff(after)).powi(2))
            .sum();
        10.0 * (255.0 * 255.0 * 320.0 * 240.0 / error).log10()
    };
    let [subtle, standard, robust] =
        ["subtle", "standard", "robust"].map(|name| psnr(&format!("strength={name}")));
    assert!(subtle > standard + 1.0 && standard > robust + 1.0, "{subtle} {standard} {robust}");
    assert!(standard > 40.0, "{standard}");
    for target in [38.0, 44.0] {
        let reached = psnr(&format!("target-psnr={target}"));
        assert!((reached - target).abs() < 1.0, "{reached} for {target}");
    }
}

#[test]
fn padded_rows_hold_the_same_marked_picture() {
    for format in [VideoFormat::I420, VideoFormat::Bgr] {
        let info = info(format, 320, 240);
        let mut plain = harness(&format!("sorawatermark id={ID}"), &info);
        let mut padded = harness(&format!("sorawatermark id={ID}"), &info);
        let bytes_of_pixel = if format == VideoFormat::Bgr { 3 } else { 1 };
        let source: Vec<u8> = (0..info.size()).map(|at| (60 + at % 97) as u8).collect();
        let out = plain.push_and_pull(buffer(source.clone(), Some(FRAME))).expect("it passes");
        let out = bytes(&out);

        // The same planes, further apart, after some bytes that are no picture.
        let mut data = vec![7; 128];
        let (mut offsets, mut strides) = (Vec::new(), Vec::new());
        for plane in 0..info.n_planes() as usize {
            let rows = if plane == 0 { 240 } else { 120 };
            let stride = info.stride()[plane] as usize;
            offsets.push(data.len());
            strides.push(stride as i32 + 64);
            for row in source[info.offset()[plane]..].chunks(stride).take(rows) {
                data.extend_from_slice(row);
                data.extend_from_slice(&[9; 64]);
            }
        }
        let mut frame = buffer(data, Some(FRAME));
        let owned = frame.get_mut().expect("one owner");
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add_full(owned, flags, format, 320, 240, &offsets, &strides).expect("a meta");
        let frame = bytes(&padded.push_and_pull(frame).expect("it passes"));
        let row = 320 * bytes_of_pixel;
        for y in 0..240 {
            let at = offsets[0] + y * strides[0] as usize;
            assert_eq!(frame[at..at + row], out[y * info.stride()[0] as usize..][..row], "{format} row {y}");
            assert!(frame[at + row..][..64].iter().all(|byte| *byte == 9), "the padding is as it was");
        }
        assert!(frame[..128].iter().all(|byte| *byte == 7));
    }
}

#[test]
fn padding_may_be_asked_of_it_where_it_may_downstream() {
    use gst::MetaAPI;
    let caps = info(VideoFormat::I420, 320, 240).to_caps().expect("valid caps");
    for offered in [false, true] {
        let mut harness = harness("sorawatermark", &info(VideoFormat::I420, 320, 240));
        if offered {
            harness.add_propose_allocation_meta(gst_video::VideoMeta::meta_api(), None);
        }
        harness.push_and_pull(buffer(vec![99; 320 * 240 * 3 / 2], Some(FRAME))).expect("it passes");
        let mut query = gst::query::Allocation::new(Some(&caps), true);
        let pad = element(&harness).static_pad("sink").expect("a sink pad");
        assert!(pad.query(&mut query));
        // Marked in place, a frame goes on as it lies.
        assert_eq!(query.find_allocation_meta::<gst_video::VideoMeta>().is_some(), offered);
    }
}
