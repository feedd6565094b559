//! What verdicts say: time ranges, conflicts, several keys, expected payloads, and the rules of the bound.

mod common;

use std::time::Duration;

use common::{Clip, detect, detector, texture};
use sora_watermark::{
    Embedder, Key, LumaPlane, LumaRange, Options, Payload, PixelLayout, RgbFrameMut, SampleFormat, Search,
    Strength, luma_of_rgb,
};

fn id(n: u8) -> Payload {
    Payload::from_id([n; 11])
}

fn quick() -> Options {
    let mut options = Options::default();
    options.search = Search::Untouched;
    options
}

fn joined(parts: &[Clip]) -> Clip {
    let frames = parts.iter().flat_map(|part| part.frames.clone()).collect();
    Clip { frames, ..parts[0].clone() }
}

#[test]
fn a_splice_is_a_conflict_with_a_time_range_for_each_id() {
    let clip = texture(192, 128, 40, 8.0, 7);
    let verdict = detect(&joined(&[clip.marked(id(1)), clip.marked(id(2))]), quick());
    assert!(verdict.conflict());
    let mark = |n: u8| verdict.marks.iter().find(|mark| mark.payload == id(n)).expect("both ids");
    let (first, second) = (mark(1), mark(2));
    assert!(first.ranges[0].start == Duration::ZERO && first.ranges[0].end >= Duration::from_secs(4));
    let last = second.ranges.last().expect("a range");
    assert!(last.end >= Duration::from_millis(9500) && second.ranges[0].start >= Duration::from_secs(4));
}

#[test]
fn two_ids_on_the_same_frames_are_a_conflict() {
    let clip = texture(256, 192, 32, 8.0, 8).marked(id(1)).marked(id(2));
    let verdict = detect(&clip, quick());
    assert!(verdict.conflict(), "{:?}", verdict.marks);
    assert_eq!(verdict.marks.len(), 2);
}

#[test]
fn marks_of_two_keys_are_both_found_and_are_no_conflict() {
    let other = Key::from_bytes([9; 32]);
    let clip = texture(256, 192, 32, 8.0, 8).marked(id(1)).marked_with(&other, id(2), Strength::Standard);
    let mut detector = detector(vec![Key::public(), other.clone()], quick());
    clip.push(&mut detector);
    let verdict = detector.verdict();
    let mut found: Vec<_> = verdict.marks.iter().map(|mark| (mark.payload, mark.key)).collect();
    found.sort();
    assert_eq!(found, [(id(1), Key::public().id()), (id(2), other.id())]);
    assert!(!verdict.conflict());
}

#[test]
fn an_expected_payload_is_verified_where_blind_decoding_fails() {
    let marked = texture(128, 96, 16, 8.0, 9).marked(id(5));
    // Noise until blind decoding gives up, a little more at each step.
    let noisy = |amplitude: f64| {
        let mut clip = marked.clone();
        for (n, frame) in clip.frames.iter_mut().enumerate() {
            for (i, value) in frame.iter_mut().enumerate() {
                *value = (f64::from(*value) + amplitude * (hash(i, n) - 0.5)).clamp(0.0, 255.0) as u8;
            }
        }
        clip
    };
    let verdict_for = |clip: &Clip, payload| {
        let mut detector = detector(vec![Key::public()], quick());
        detector.expect(payload);
        clip.push(&mut detector);
        detector.verdict()
    };
    let steps = (0..20).map(|step| noisy(8.0 * 1.25f64.powi(step)));
    let lost =
        steps.map(|clip| (verdict_for(&clip, id(5)), clip)).find(|(verdict, _)| verdict.marks.is_empty());
    let (verdict, clip) = lost.expect("enough noise hides the mark from blind decoding");
    let expected = verdict.expected.expect("a payload was expected");
    assert!(expected.accepted && expected.log10_p <= -9.0, "{expected:?}");
    assert!(!verdict_for(&clip, id(6)).expected.expect("a payload was expected").accepted);
}

/// Noise in [0, 1) by place and frame.
fn hash(i: usize, n: usize) -> f64 {
    let mut h = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (n as u64 + 1).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    h = (h ^ h >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (h >> 40) as f64 / (1u64 << 24) as f64
}

#[test]
fn a_detector_is_sure_once_what_was_asked_for_is_found() {
    let marked = texture(192, 128, 34, 8.0, 3).marked(id(1));
    let plain = texture(192, 128, 34, 8.0, 3);
    let sure_at = |clip: &Clip, expected: Option<u8>, sure_log10_p: f64| {
        let mut options = quick();
        options.sure_log10_p = sure_log10_p;
        let mut detector = detector(vec![Key::public()], options);
        if let Some(n) = expected {
            detector.expect(id(n));
        }
        (0..clip.frames.len()).find(|n| {
            clip.push_one(&mut detector, *n);
            detector.is_sure()
        })
    };
    // A window is done when the frame after it comes.
    assert_eq!(sure_at(&marked, None, -12.0), Some(32));
    assert_eq!(sure_at(&marked, Some(1), -12.0), Some(32));
    assert_eq!(sure_at(&marked, Some(2), -12.0), None, "another mark is no answer");
    assert_eq!(sure_at(&marked, None, -1e6), None, "it is not as sure as that");
    assert_eq!(sure_at(&plain, None, -12.0), None);
    assert_eq!(sure_at(&plain, Some(1), -1e-6), None, "nobody is sure of what is not accepted");
}

#[test]
fn asking_often_counts_its_hypotheses() {
    let clip = texture(128, 96, 8, 8.0, 3);
    let mut detector = detector(vec![Key::public()], quick());
    clip.push(&mut detector);
    let (first, second) = (detector.verdict(), detector.verdict());
    assert!(first.hypotheses > 0 && second.hypotheses == 2 * first.hypotheses);
}

#[test]
fn an_interim_verdict_tells_of_frames_in_place_at_once_and_of_others_when_their_window_is_full() {
    let marked = texture(256, 192, 40, 8.0, 16).marked(id(6));
    let joined = texture(256, 192, 40, 8.0, 16).marked(id(6)).starting_at(3);
    let cropped = marked.cropped(21, 13, 178, 150);
    let told = |clip: &Clip, frames: usize| {
        let mut detector = detector(vec![Key::public()], Options::default());
        (0..frames).for_each(|n| clip.push_one(&mut detector, n));
        let interim = detector.interim();
        assert!(interim.hypotheses > 0, "it counts what it tried");
        (interim.payload(), detector.verdict().payload())
    };
    let found = Some(id(6));
    assert_eq!(told(&marked, 16), (found, found));
    assert_eq!(told(&joined, 16), (found, found));
    assert_eq!(told(&cropped, 32), (None, found), "the window is not full before the next frame comes");
    assert_eq!(told(&cropped, 33), (found, found));
}

#[test]
fn more_keys_and_more_windows_count_more_hypotheses() {
    let clip = texture(128, 96, 72, 8.0, 3);
    let count = |keys: Vec<Key>, clip: &Clip| {
        let mut detector = detector(keys, quick());
        clip.push(&mut detector);
        detector.verdict().hypotheses
    };
    let key = |n: u8| Key::from_bytes([n; 32]);
    let short = Clip { frames: clip.frames[..32].to_vec(), ..clip.clone() };
    let one = count(vec![key(1)], &short);
    assert_eq!(count(vec![key(1), key(2)], &short), 2 * one);
    assert!(count(vec![key(1)], &clip) > 2 * one);
}

#[test]
fn faster_and_slower_playback_is_found() {
    let clip = texture(192, 128, 32, 8.0, 10).marked(id(4)).starting_at(3);
    for fps in [6.4, 10.0] {
        let verdict = detect(&Clip { fps, ..clip.clone() }, Options::default());
        assert_eq!(verdict.payload(), Some(id(4)), "{fps}");
    }
}

#[test]
fn turned_and_mirrored_frames_are_found() {
    let clip = texture(200, 136, 32, 8.0, 13).marked(id(5));
    let mut turned = clip.clone();
    for quarters in 0..4u8 {
        for flipped in [false, true] {
            let seen = if flipped { turned.flipped() } else { turned.clone() };
            let verdict = detect(&seen, Options::default());
            assert_eq!(verdict.payload(), Some(id(5)), "{quarters} {flipped}: best z {}", verdict.best_z);
            let geometry = verdict.marks[0].geometry;
            // Mirroring comes first in a geometry: of what is turned and then mirrored, the turn is the other way round.
            let expected = if flipped { (4 - quarters) % 4 } else { quarters };
            assert_eq!((geometry.flipped, geometry.quarter_turns), (flipped, expected), "{geometry:?}");
        }
        turned = turned.turned();
    }
}

#[test]
fn a_clip_turned_and_cropped_is_found() {
    let clip = texture(300, 220, 32, 8.0, 14).marked(id(5)).turned().cropped(21, 33, 170, 190);
    let verdict = detect(&clip, Options::default());
    assert_eq!(verdict.payload(), Some(id(5)), "best z {}", verdict.best_z);
    assert_eq!(verdict.marks[0].geometry.quarter_turns, 1);
}

#[test]
fn several_keys_see_what_each_sees_alone() {
    let (mine, other) = (Key::from_bytes([3; 32]), Key::from_bytes([4; 32]));
    let clip = texture(256, 192, 24, 8.0, 15).marked_with(&mine, id(6), Strength::Standard).scaled(178, 134);
    let under = |keys: Vec<Key>| {
        let mut detector = detector(keys, Options::default());
        clip.push(&mut detector);
        detector.verdict()
    };
    let alone = [&mine, &other].map(|key| under(vec![key.clone()]));
    let together = under(vec![other, mine]);
    assert_eq!(together.hypotheses, alone[0].hypotheses + alone[1].hypotheses);
    assert_eq!((together.marks.len(), alone[0].marks.len(), alone[1].marks.len()), (1, 1, 0));
    let (a, b) = (&together.marks[0], &alone[0].marks[0]);
    assert_eq!((a.payload, a.key, a.z, a.geometry), (b.payload, b.key, b.z, b.geometry));
}

#[test]
fn rotation_is_found() {
    let clip = texture(256, 256, 32, 8.0, 11).marked(id(4));
    // A few degrees less, and the low frequencies already show at the upright pose, which is tried first.
    let (sin, cos) = 5f64.to_radians().sin_cos();
    let mut turned = clip.clone();
    for (frame, source) in turned.frames.iter_mut().zip(&clip.frames) {
        for (i, out) in frame.iter_mut().enumerate() {
            let (u, v) = ((i % 256) as f64 - 127.5, (i / 256) as f64 - 127.5);
            let (x, y) = (127.5 + cos * u - sin * v, 127.5 + sin * u + cos * v);
            let inside = (0.0..255.0).contains(&x) && (0.0..255.0).contains(&y);
            let at = |x: usize, y: usize| f64::from(source[y * 256 + x]);
            *out = if inside {
                let (x0, y0, s, t) = (x as usize, y as usize, x.fract(), y.fract());
                let row = |y| at(x0, y) * (1.0 - s) + at(x0 + 1, y) * s;
                (row(y0) * (1.0 - t) + row(y0 + 1) * t).round() as u8
            } else {
                16
            };
        }
    }
    let verdict = detect(&turned, Options::default());
    assert_eq!(verdict.payload(), Some(id(4)), "best z {}", verdict.best_z);
    assert!((verdict.marks[0].geometry.rotation.abs() - 5.0).abs() < 0.3);
}

#[test]
fn rgb_and_ten_bit_frames_are_marked_as_luma_is() {
    let clip = texture(128, 96, 16, 8.0, 12);
    let layout = PixelLayout::new(4, 2, 1, 0).expect("BGRx");
    let mut embedder =
        Embedder::new(&Key::public(), id(6), 128, 96, Strength::Standard).expect("a good size");
    let (mut rgb, mut ten) = (detector(vec![Key::public()], quick()), detector(vec![Key::public()], quick()));
    for (n, frame) in clip.frames.iter().enumerate() {
        let mut pixels: Vec<u8> = frame.iter().flat_map(|value| [*value, *value, *value, 99]).collect();
        let mut picture = RgbFrameMut::new(&mut pixels, layout, 128, 96, 512).expect("a good frame");
        embedder.embed_rgb(&mut picture, clip.time(n)).expect("its size");
        assert!(pixels.chunks(4).all(|pixel| pixel[3] == 99 && pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let mut luma = Vec::new();
        luma_of_rgb(&pixels, layout, 128, 96, 512, &mut luma).expect("a good frame");
        let plane =
            LumaPlane::new(&luma, SampleFormat::U8, 128, 96, 128, LumaRange::Full).expect("a good plane");
        rgb.push(&plane, clip.time(n)).expect("time goes on");

        let mut words: Vec<u8> =
            frame.iter().flat_map(|value| (u16::from(*value) << 8).to_le_bytes()).collect();
        let mut plane = sora_watermark::LumaPlaneMut::new(
            &mut words,
            SampleFormat::U10High,
            128,
            96,
            256,
            LumaRange::Limited,
        )
        .expect("a good plane");
        embedder.embed(&mut plane, clip.time(n)).expect("its size");
        ten.push(&plane.as_plane(), clip.time(n)).expect("time goes on");
        assert!(words.chunks(2).all(|word| word[0] & 63 == 0), "the low bits of P010 stay empty");
    }
    assert_eq!(rgb.verdict().payload(), Some(id(6)));
    assert_eq!(ten.verdict().payload(), Some(id(6)));
}

#[test]
fn the_delta_is_what_embedding_adds() {
    let clip = texture(200, 101, 1, 8.0, 13);
    let marked = clip.marked(id(6));
    let mut embedder =
        Embedder::new(&Key::public(), id(6), 200, 101, Strength::Standard).expect("a good size");
    let plane = LumaPlane::new(&clip.frames[0], SampleFormat::U8, 200, 101, 200, LumaRange::Limited);
    let delta = embedder.delta(&plane.expect("a good plane"), Duration::ZERO).expect("its size");
    for ((before, after), delta) in clip.frames[0].iter().zip(&marked.frames[0]).zip(delta) {
        let moved =
            (i16::from(*before) + delta).clamp(16.min(i16::from(*before)), 235.max(i16::from(*before)));
        assert_eq!(i16::from(*after), moved);
    }
}

#[test]
fn the_strength_asked_for_is_the_psnr_reached() {
    let clip = texture(256, 192, 4, 8.0, 14);
    for db in [38.0, 45.0] {
        let marked = clip.marked_with(&Key::public(), id(1), Strength::psnr(db).expect("in range"));
        assert!((clip.psnr(&marked) - db).abs() < 0.7, "{db}: {}", clip.psnr(&marked));
    }
    let psnr = |strength| clip.psnr(&clip.marked_with(&Key::public(), id(1), strength));
    let (subtle, standard, robust) =
        (psnr(Strength::Subtle), psnr(Strength::Standard), psnr(Strength::Robust));
    assert!(subtle > standard && standard > robust && standard > 39.8, "{subtle} {standard} {robust}");
}
