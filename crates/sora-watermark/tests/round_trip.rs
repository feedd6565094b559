//! Clips of a moving texture, marked, changed and detected again.

mod common;

use common::{Clip, detect, detector, texture};
use sora_watermark::{Key, Options, Payload};

fn payload() -> Payload {
    Payload::from_id(*b"round trip!")
}

#[test]
fn an_untouched_clip_gives_its_payload_with_a_tiny_bound() {
    let clip = texture(256, 144, 32, 8.0, 1).marked(payload());
    let verdict = detect(&clip, Options::default());
    eprintln!("{verdict:?}");
    assert_eq!(verdict.payload(), Some(payload()));
    assert!(verdict.log10_p < -12.0 && !verdict.conflict());
}

#[test]
fn an_unmarked_clip_gives_nothing() {
    let verdict = detect(&texture(256, 144, 32, 8.0, 1), Options::default());
    eprintln!("{verdict:?}");
    assert!(verdict.marks.is_empty() && verdict.hypotheses > 0);
}

#[test]
fn crop_flip_scale_and_late_start_are_found() {
    let clip = texture(320, 256, 32, 8.0, 2).marked(payload());
    let changes: [(&str, Clip); 5] = [
        ("crop", clip.cropped(41, 30, 203, 170)),
        ("flip", clip.flipped()),
        ("scale", clip.scaled(222, 178)),
        ("stretch", clip.scaled(352, 256)),
        ("late", clip.starting_at(5)),
    ];
    for (name, changed) in changes {
        let start = std::time::Instant::now();
        let verdict = detect(&changed, Options::default());
        eprintln!(
            "{name}: {:?} {:?}",
            start.elapsed(),
            verdict.marks.first().map(|mark| (mark.z, mark.geometry))
        );
        assert_eq!(verdict.payload(), Some(payload()), "{name}");
    }
}

#[test]
fn another_key_sees_nothing() {
    let clip = texture(256, 144, 32, 8.0, 1).marked(payload());
    let mut detector = detector(vec![Key::from_bytes([5; 32])], Options::default());
    clip.push(&mut detector);
    assert!(detector.verdict().marks.is_empty());
}
