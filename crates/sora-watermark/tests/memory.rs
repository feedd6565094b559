//! What a detector holds, and what it still says, after far more frames than it remembers.
//!
//! One test alone: it counts what the whole program has allocated.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{detector, texture};
use sora_watermark::{
    Embedder, Key, LumaPlaneMut, LumaRange, Options, Payload, SampleFormat, Search, Strength,
};

/// The system's allocator, and how many bytes of it are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both calls are the system allocator's, with the arguments as they came; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that this call asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIDES: (usize, usize) = (96, 64);
const FPS: u32 = 4;
const SECOND: Duration = Duration::from_secs(1);
/// Seconds of the clip, and those in the middle that carry no mark.
const LENGTH: u32 = 1300;
const GAP: std::ops::Range<u32> = 600..650;
/// Scores of a second are kept for so many; then pairs are merged.
const MOST_SCORES: usize = 1024;
/// What these may take, here and in the detector. A byte kept of each pixel would be twenty million by the end.
const SCORES: usize = 100_000;

#[test]
fn memory_is_flat_in_the_clips_length_and_the_verdict_stays_right() {
    let (width, height) = SIDES;
    let payload = Payload::from_id(*b"a long clip");
    let mut options = Options::default();
    options.search = Search::Untouched;
    let mut detector = detector(vec![Key::public()], options);
    let mut embedder =
        Embedder::new(&Key::public(), payload, width, height, Strength::Robust).expect("a good size");
    let shown = texture(width, height, 30, FPS.into(), 5).frames;
    let mut in_use = Vec::with_capacity(2);
    let mut verdict = detector.verdict();
    for n in 0..LENGTH * FPS {
        let time = n * SECOND / FPS;
        let mut frame = shown[n as usize % shown.len()].clone();
        let mut plane =
            LumaPlaneMut::new(&mut frame, SampleFormat::U8, width, height, width, LumaRange::Limited)
                .expect("a good plane");
        if !GAP.contains(&(n / FPS)) {
            embedder.embed(&mut plane, time).expect("its size");
        }
        detector.push(&plane.as_plane(), time).expect("time goes on");
        // The same number of frames of a window, and of the window before.
        if [100 * FPS - 1, LENGTH * FPS - 1].contains(&n) {
            verdict = detector.verdict();
            in_use.push(IN_USE.load(Ordering::Relaxed));
        }
    }
    assert!(in_use[1] < in_use[0] + SCORES, "{in_use:?}");

    let [mark] = &verdict.marks[..] else { panic!("one mark, not {:?}", verdict.marks) };
    assert_eq!((mark.payload, verdict.frames), (payload, u64::from(LENGTH * FPS)));
    // Corrected for what was decoded in all of it, at least once in each window.
    assert!(verdict.hypotheses >= u64::from(LENGTH / 4) && mark.log10_p <= -12.0, "{verdict:?}");
    let last = (LENGTH * FPS - 1) * SECOND / FPS;
    let ranges: Vec<_> = mark.ranges.iter().map(|range| (range.start, range.end)).collect();
    assert_eq!(ranges, [(Duration::ZERO, GAP.start * SECOND), (GAP.end * SECOND, last)]);
    let count = mark.scores.len();
    assert!((MOST_SCORES / 2..MOST_SCORES).contains(&count), "{count} scores");
    let span = |range: sora_watermark::TimeRange| range.end - range.start;
    assert!(
        mark.scores[..count - 1].iter().all(|score| span(score.range) == 2 * SECOND),
        "{:?}",
        mark.scores
    );
}
