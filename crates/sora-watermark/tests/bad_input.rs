//! Inputs that no clip should have: an error with the value and the bound, or a stated rule.

mod common;

use std::time::Duration;

use common::{detect, detector, texture};
use sora_watermark::{
    Detector, Embedder, Key, LumaPlane, LumaPlaneMut, LumaRange, MAX_KEYS, Options, Payload, SampleFormat,
    Strength, WatermarkError,
};

const PAYLOAD: [u8; 11] = [3; 11];

fn embedder(width: usize, height: usize) -> Result<Embedder, WatermarkError> {
    Embedder::new(&Key::public(), Payload::from_id(PAYLOAD), width, height, Strength::Standard)
}

#[test]
fn zero_frames_give_an_empty_verdict() {
    let verdict = detector(vec![Key::public()], Options::default()).verdict();
    assert!(verdict.marks.is_empty());
    assert_eq!((verdict.frames, verdict.hypotheses, verdict.log10_p), (0, 0, 0.0));
}

#[test]
fn one_marked_frame_is_enough_and_one_unmarked_frame_gives_nothing() {
    let clip = texture(256, 144, 1, 8.0, 4);
    let verdict = detect(&clip.marked(Payload::from_id(PAYLOAD)), Options::default());
    assert_eq!(verdict.payload(), Some(Payload::from_id(PAYLOAD)));
    assert!(detect(&clip, Options::default()).marks.is_empty());
}

#[test]
fn black_and_white_clips_give_nothing_and_carry_what_their_range_lets_them() {
    for value in [0, 16, 235, 255] {
        let mut clip = texture(128, 128, 8, 8.0, 5);
        clip.frames.iter_mut().for_each(|frame| frame.fill(value));
        let verdict = detect(&clip, Options::default());
        assert!(verdict.marks.is_empty(), "{value}");
        let marked = clip.marked(Payload::from_id(PAYLOAD));
        // The mark moves nothing out of the range, and what lies beyond it no further out.
        let allowed = |v: &u8| (16.min(value)..=235.max(value)).contains(v);
        assert!(marked.frames.iter().flatten().all(allowed), "{value}");
    }
}

#[test]
fn tiny_and_huge_frames_are_refused_with_the_bound() {
    let error = |width, height| embedder(width, height).expect_err("a bad size").to_string();
    assert_eq!(error(63, 200), "63x200 is too small for a mark: both sides must be at least 64 pixels");
    assert!(error(64, 2000).contains("ratio at most 16"));
    assert!(embedder(64, 64).is_ok());
}

#[test]
fn a_size_change_is_an_error_for_the_embedder_and_leaves_the_frame_alone() {
    let mut embedder = embedder(96, 64).expect("a good size");
    let mut data = vec![100; 64 * 96];
    let mut plane =
        LumaPlaneMut::new(&mut data, SampleFormat::U8, 64, 96, 64, LumaRange::Full).expect("a good plane");
    let error = embedder.embed(&mut plane, Duration::ZERO).expect_err("another size").to_string();
    assert_eq!(error, "a frame of 64x96 came to an embedder made for 96x64");
    assert!(data.iter().all(|value| *value == 100));
}

#[test]
fn a_size_change_in_mid_stream_starts_a_new_window_for_the_detector() {
    let payload = Payload::from_id(PAYLOAD);
    let (first, second) =
        (texture(128, 96, 16, 8.0, 1).marked(payload), texture(160, 128, 16, 8.0, 2).marked(payload));
    let mut detector = detector(vec![Key::public()], Options::default());
    first.push(&mut detector);
    for (n, frame) in second.frames.iter().enumerate() {
        let plane =
            LumaPlane::new(frame, SampleFormat::U8, 160, 128, 160, LumaRange::Limited).expect("a good plane");
        detector.push(&plane, Duration::from_secs(2) + second.time(n)).expect("time goes on");
    }
    let verdict = detector.verdict();
    assert_eq!(verdict.payload(), Some(payload));
    assert_eq!((verdict.frames, verdict.conflict()), (32, false));
}

#[test]
fn a_stride_larger_than_the_width_marks_the_pixels_and_not_the_padding() {
    let clip = texture(100, 80, 1, 8.0, 6);
    let marked = clip.marked(Payload::from_id(PAYLOAD));
    let mut padded: Vec<u8> = clip.frames[0].chunks(100).flat_map(|row| [row, &[7; 28]].concat()).collect();
    let mut plane = LumaPlaneMut::new(&mut padded, SampleFormat::U8, 100, 80, 128, LumaRange::Limited)
        .expect("a good plane");
    embedder(100, 80).expect("a good size").embed(&mut plane, Duration::ZERO).expect("its size");
    for (row, expected) in padded.chunks(128).zip(marked.frames[0].chunks(100)) {
        assert_eq!((&row[..100], &row[100..]), (expected, &[7; 28][..]));
    }
}

#[test]
fn time_that_runs_backwards_is_refused_and_a_discontinuity_allows_it() {
    let clip = texture(64, 64, 1, 8.0, 1);
    let plane =
        LumaPlane::new(&clip.frames[0], SampleFormat::U8, 64, 64, 64, LumaRange::Full).expect("a good plane");
    let mut detector = detector(vec![Key::public()], Options::default());
    detector.push(&plane, Duration::from_secs(5)).expect("the first frame");
    let error = detector.push(&plane, Duration::from_secs(4)).expect_err("backwards").to_string();
    assert_eq!(error, "frame time 4000000000 ns is before that of the frame before, 5000000000 ns");
    detector.discontinuity();
    detector.push(&plane, Duration::from_secs(4)).expect("after a discontinuity");
    assert_eq!(detector.verdict().frames, 2);
}

#[test]
fn detectors_refuse_no_keys_too_many_and_bounds_that_are_no_probabilities() {
    let error = |keys: usize, accept: f64| {
        let mut options = Options::default();
        options.accept_log10_p = accept;
        Detector::new(vec![Key::public(); keys], options).map(|_| ()).expect_err("refused").to_string()
    };
    assert!(error(0, -6.0).contains("0 were given"));
    assert!(error(MAX_KEYS + 1, -6.0).contains("at most 64"));
    for bad in [f64::NAN, 0.0, 1.0, f64::NEG_INFINITY] {
        assert!(error(1, bad).starts_with(&format!("accept_log10_p is {bad}")), "{bad}");
    }
}
