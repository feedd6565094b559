//! The detector: frames in, verdicts out.

use std::time::Duration;

use crate::error::WatermarkError;
use crate::examine::{Effort, Examiner, Views};
use crate::front_end::Rasteriser;
use crate::key::Key;
use crate::ledger::Ledger;
use crate::payload::Payload;
use crate::plane::LumaPlane;
use crate::verdict::Verdict;
use crate::window::{WINDOW, Window};

/// How far the detector looks for a mark that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Search {
    /// Only frames that were neither scaled relative to their content nor cropped; mirrored or turned by quarters they may be.
    Untouched,
    /// Also one scale for both directions, and any crop.
    Scaled,
    /// Also stretched by up to 15 % in one direction, rotated by up to 6 degrees, scaled and turned by quarters, played at
    /// 0.45 to 2.2 times the speed.
    #[default]
    Full,
}

/// Options of a detector.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How far to look.
    pub search: Search,
    /// A mark is accepted at this bound or below (log10; default -6).
    pub accept_log10_p: f64,
    /// An expected payload is accepted at this bound or below (log10; default -9).
    pub accept_log10_p_expected: f64,
    /// The detector is sure at this bound or below (log10; default -12), if that is accepted too.
    pub sure_log10_p: f64,
}

impl Default for Options {
    fn default() -> Self {
        let search = Search::default();
        Self { search, accept_log10_p: -6.0, accept_log10_p_expected: -9.0, sure_log10_p: -12.0 }
    }
}

impl Options {
    fn check(&self) -> Result<(), WatermarkError> {
        let bounds = [
            ("accept_log10_p", self.accept_log10_p),
            ("accept_log10_p_expected", self.accept_log10_p_expected),
            ("sure_log10_p", self.sure_log10_p),
        ];
        let bad = bounds.into_iter().find(|(_, value)| !(*value < 0.0 && value.is_finite()));
        bad.map_or(Ok(()), |(name, value)| {
            let bound = "a negative number, the logarithm of a probability";
            Err(WatermarkError::Option { name, value: value.to_string(), bound })
        })
    }
}

/// Most keys of a detector: each costs a search of its own.
pub const MAX_KEYS: usize = 64;
/// A rest shorter than this after a whole window is not searched by itself.
const SHORT_REST: f64 = 1.0;
/// A longer time between frames is a gap.
const LONGEST_FRAME: Duration = Duration::from_secs(1);
/// The dear parts of the search run on the first so many windows, and then on one window in so many.
const FULL_WINDOWS: u64 = 2;
const FULL_EVERY: u64 = 8;

/// Looks for marks in the frames of one clip or stream.
///
/// Frames are taken in windows of four seconds: a whole window is examined by the call to [`Detector::push`] that
/// begins the next. Memory does not grow with the clip's length.
pub struct Detector {
    options: Options,
    examiners: Vec<Examiner>,
    ledger: Ledger,
    rasteriser: Option<Rasteriser>,
    window: Window,
    windows: u64,
    frames: u64,
    first: Option<Duration>,
    last: Duration,
}

impl Detector {
    /// A detector for marks under any of these keys.
    ///
    /// # Errors
    /// Without a key, with more than [`MAX_KEYS`], or when a bound of the options is not a negative number.
    pub fn new(keys: Vec<Key>, options: Options) -> Result<Self, WatermarkError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(WatermarkError::Keys { found: keys.len(), max: MAX_KEYS });
        }
        options.check()?;
        Ok(Self {
            examiners: keys.iter().map(Examiner::new).collect(),
            ledger: Ledger::new(options.clone()),
            options,
            rasteriser: None,
            window: Window::default(),
            windows: 0,
            frames: 0,
            first: None,
            last: Duration::ZERO,
        })
    }

    /// Also asks for this payload, named before the clip is seen: it is verified at far lower statistics.
    ///
    /// Call it before the first frame: frames examined earlier are not looked at again.
    pub fn expect(&mut self, payload: Payload) {
        self.examiners.iter_mut().for_each(|examiner| examiner.expect(payload));
        self.ledger.expect(payload);
    }

    /// Takes the next frame. `time` is its presentation time on any clock that does not run backwards. Frames may
    /// have any valid size; a change of size starts a new window.
    ///
    /// # Errors
    /// [`WatermarkError::TimeBackwards`]; the frame is not taken.
    pub fn push(&mut self, plane: &LumaPlane<'_>, time: Duration) -> Result<(), WatermarkError> {
        if self.first.is_some() && time < self.last {
            let (found_ns, previous_ns) = (time.as_nanos(), self.last.as_nanos());
            return Err(WatermarkError::TimeBackwards { found_ns, previous_ns });
        }
        let first = *self.first.get_or_insert(time);
        let since = time - first;
        let size = (plane.width, plane.height);
        let other_size = self.rasteriser.as_ref().is_none_or(|rasteriser| rasteriser.size() != size);
        let full = self.has_frames() && since >= self.window.start + WINDOW;
        if self.has_frames() && (other_size || full) {
            // The last frame lasted until this one came, unless there was a gap.
            if since.saturating_sub(self.window.end) < LONGEST_FRAME {
                self.window.end = since;
            }
            self.finish_window();
        }
        if other_size {
            self.rasteriser = Some(Rasteriser::new(plane.width, plane.height));
        }
        if !self.has_frames() {
            let (width, height) = crate::front_end::raster_size(plane.width, plane.height);
            self.window = Window::new(width, height, since);
        }
        if let Some(rasteriser) = &mut self.rasteriser {
            self.window.add(rasteriser.raster(plane), since);
        }
        self.last = time;
        self.frames += 1;
        Ok(())
    }

    /// Ends the window: frames after a seek or a cut do not lie on the same cycle of patterns as those before. The
    /// next frame may have any time. Marks found stay found.
    pub fn discontinuity(&mut self) {
        self.finish_window();
        self.examiners.iter_mut().for_each(Examiner::forget_tracks);
        // Times go on from here, whatever the next frame's clock says.
        self.ledger.shift(self.elapsed());
        self.first = None;
    }

    /// Whether what was asked is answered: a mark, the expected one where there is one, is accepted at
    /// [`Options::sure_log10_p`]. It changes when a window is done, so ask after each [`Detector::push`].
    ///
    /// Further frames can only say where the mark is, and whether there are others: whoever asks no more than whether a
    /// clip is marked, and by whom, may stop. Whoever asks for time ranges or for a second id may not.
    pub fn is_sure(&self) -> bool {
        self.ledger.is_sure()
    }

    /// The answer for all frames so far. A window that is not full yet is examined as it is, which counts its
    /// hypotheses too.
    pub fn verdict(&mut self) -> Verdict {
        let effort = self.effort();
        self.tell(effort)
    }

    /// The answer while frames still come: of a window that is not full yet, only what costs a small part of a search is
    /// looked for, a mark on frames that lie as they were embedded, at any time of its cycle, and marks that were found
    /// before. A mark that was moved, or that moving pictures hide, is told when its window is full.
    ///
    /// It counts its hypotheses as [`Detector::verdict`] does, which is the one to ask when no more frames come.
    pub fn interim(&mut self) -> Verdict {
        self.tell(Effort::Glance)
    }

    fn tell(&mut self, effort: Effort) -> Verdict {
        self.window.close();
        if self.window.is_empty() {
            return self.ledger.verdict(self.frames, self.elapsed());
        }
        let found = self.examine(effort);
        found.iter().for_each(|findings| self.ledger.count(findings));
        // The window goes on: what it gave so far belongs into this verdict only.
        let mut ledger = self.ledger.clone();
        for (examiner, findings) in self.examiners.iter().zip(found) {
            ledger.enter(examiner.key_id(), findings, &self.window);
        }
        ledger.verdict(self.frames, self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.ledger.shifted() + self.first.map_or(Duration::ZERO, |first| self.last - first)
    }

    fn has_frames(&self) -> bool {
        !self.window.is_empty()
    }

    fn finish_window(&mut self) {
        self.window.close();
        if !self.window.is_empty() {
            let found = self.examine(self.effort());
            for (examiner, mut findings) in self.examiners.iter_mut().zip(found) {
                examiner.keep_tracks(&mut findings);
                self.ledger.count(&findings);
                self.ledger.enter(examiner.key_id(), findings, &self.window);
            }
            self.windows += 1;
        }
        self.window = Window::default();
    }

    /// How far the window is searched when it is done.
    fn effort(&self) -> Effort {
        let short_rest = self.windows > 0 && self.window.span() < SHORT_REST;
        let all = self.windows < FULL_WINDOWS || self.windows.is_multiple_of(FULL_EVERY);
        match self.options.search {
            Search::Untouched => Effort::Untouched,
            _ if short_rest => Effort::Untouched,
            Search::Full if all => Effort::Full,
            _ => Effort::Scaled,
        }
    }

    fn examine(&self, effort: Effort) -> Vec<crate::examine::Findings> {
        let bounds = (self.ledger.hypotheses(), self.options.sure_log10_p);
        let views = Views::new(&self.window, self.examiners.len());
        self.examiners.iter().map(|examiner| examiner.examine(&views, effort, bounds)).collect()
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.examiners.iter().map(Examiner::key_id).collect();
        f.debug_struct("Detector").field("keys", &keys).field("frames", &self.frames).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::Embedder;
    use crate::examine::MOST_TRACKS;
    use crate::ledger::MOST_MARKS;
    use crate::plane::{LumaPlaneMut, LumaRange, SampleFormat};
    use crate::strength::Strength;
    use crate::verdict::TimeRange;

    const SIDE: usize = 96;
    /// Six frames a second, so that each pattern has two.
    const WINDOW_FRAMES: u32 = 24;
    const FRAME: Duration = Duration::from_nanos(166_666_667);

    /// A detector that looked at so many windows; `mark` says of each what it is marked with, and how far on in the cycle
    /// of patterns its first frame is.
    fn after(windows: u32, mark: impl Fn(u32) -> (Payload, Duration)) -> Detector {
        let options = Options { search: Search::Untouched, ..Options::default() };
        let (key, format) = (Key::public(), SampleFormat::U8);
        let mut detector = Detector::new(vec![key.clone()], options).expect("good options");
        for n in 0..windows {
            let (payload, on) = mark(n);
            let mut embedder =
                Embedder::new(&key, payload, SIDE, SIDE, Strength::Robust).expect("a good size");
            for frame in 0..WINDOW_FRAMES {
                let mut luma: Vec<u8> =
                    (0..SIDE * SIDE).map(|i| (100 + (i * i / 977 + i / 3) % 40) as u8).collect();
                let mut plane = LumaPlaneMut::new(&mut luma, format, SIDE, SIDE, SIDE, LumaRange::Limited)
                    .expect("a good plane");
                embedder.embed(&mut plane, on + frame * FRAME).expect("its size");
                detector.push(&plane.as_plane(), (n * WINDOW_FRAMES + frame) * FRAME).expect("time goes on");
            }
        }
        detector
    }

    #[test]
    fn a_mark_that_lies_elsewhere_in_each_window_is_followed_and_not_all_of_it_remembered() {
        let payload = Payload::from_id([7; 11]);
        // A pattern and a bit further on each time: what gave a mark in one window gives none in the next ones.
        let windows = 2 * MOST_TRACKS as u32;
        let mut detector = after(windows, |n| (payload, n * Duration::from_millis(410)));
        let tracks = detector.examiners[0].tracks();
        assert!(tracks <= MOST_TRACKS, "{tracks}");
        let verdict = detector.verdict();
        assert_eq!((verdict.payload(), verdict.marks.len()), (Some(payload), 1));
        let whole = TimeRange { start: Duration::ZERO, end: (windows * WINDOW_FRAMES - 1) * FRAME };
        assert_eq!(verdict.marks[0].ranges, [whole]);
        assert!(verdict.marks[0].log10_p <= -12.0, "{}", verdict.marks[0].log10_p);
    }

    #[test]
    fn of_more_ids_than_are_kept_the_first_are_told_with_their_times() {
        let id = |n: u32| Payload::from_id([n as u8; 11]);
        let more = MOST_MARKS as u32 + 6;
        let mut detector = after(more, |n| (id(n), Duration::ZERO));
        let verdict = detector.verdict();
        assert_eq!(verdict.marks.len(), MOST_MARKS);
        assert!(verdict.conflict());
        for n in 0..MOST_MARKS as u32 {
            let mark =
                verdict.marks.iter().find(|mark| mark.payload == id(n)).expect("it was among the first");
            let [start, end] = [n, n + 1].map(|n| n * WINDOW_FRAMES * FRAME);
            assert_eq!(mark.ranges, [TimeRange { start, end }], "id {n}");
            assert!(mark.log10_p <= -12.0, "{}", mark.log10_p);
        }
    }
}
