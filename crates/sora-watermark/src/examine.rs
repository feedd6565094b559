//! One window under one key: which hypotheses are decoded, in which order.

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::carrier::{CHIPS, Carriers, PATTERNS, PATTERNS_PER_SECOND, TILE};
use crate::chips::{Orientation, Pose, Pyramid};
use crate::key::{Key, KeyId};
use crate::payload::Payload;
use crate::polar;
use crate::search::{Candidate, FOUND, Family, Scratch, Search, Sight};
use crate::speeds::Speeds;
use crate::statistic::{Evidence, Sums, evidence, log10_p};
use crate::window::{Segments, Window};

/// Candidates of the search that are decoded.
const CANDIDATES: usize = 3;
/// A window shorter than a pattern, in seconds, is taken for a still.
const STILL: f64 = 0.34;
/// Deepest pitch of the search relative to the untouched pitch.
const DEEPEST: f64 = 2.4;

/// Most tracks of a key. Where a mark lies elsewhere in each window, as in a stream of many cuts, each leaves one, and each
/// costs a decode in every window that it gives nothing in: the oldest are forgotten.
pub(crate) const MOST_TRACKS: usize = 16;

/// How far one window is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As [`Effort::Untouched`], but nothing is looked for without motion, which costs the most.
    Glance,
    Untouched,
    Scaled,
    Full,
}

/// How a window is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    AsItIs,
    WithoutMotion,
}

/// A window with what is made of it once for all keys, and only when one needs it: the view that is dear to make, and what
/// the search looks at in each.
pub(crate) struct Views<'a> {
    as_it_is: &'a Window,
    without_motion: OnceLock<Option<Window>>,
    /// Whether more than one key looks.
    several: bool,
    /// By view.
    sights: [OnceLock<Sight>; 2],
    speeds: [OnceLock<Speeds>; 2],
}

impl<'a> Views<'a> {
    /// Of a window that so many keys look at.
    pub(crate) fn new(window: &'a Window, keys: usize) -> Self {
        Self {
            as_it_is: window,
            without_motion: OnceLock::new(),
            several: keys > 1,
            sights: Default::default(),
            speeds: Default::default(),
        }
    }

    fn get(&self, view: View) -> Option<&Window> {
        match view {
            View::AsItIs => Some(self.as_it_is),
            View::WithoutMotion => {
                self.without_motion.get_or_init(|| self.as_it_is.without_motion()).as_ref()
            }
        }
    }

    /// What is looked at in a window of a view, at pitches up to `deepest`.
    fn sight(&self, (view, window): (View, &Window), deepest: f64) -> &Sight {
        self.sights[view as usize].get_or_init(|| {
            let still = window.span() < STILL;
            let image = if still { window.mean() } else { window.lock_in(1.0) };
            let sight = Sight::new(Pyramid::new(image, window.width, window.height, deepest), still);
            if self.several { sight.shared() } else { sight }
        })
    }
}

/// A hypothesis but for the pattern of group 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hypothesis {
    pub(crate) view: View,
    pub(crate) pose: Pose,
    pub(crate) shift: (f64, f64),
    /// Seconds of seen time, at the marked clip's speed, at which an even pattern begins.
    pub(crate) offset: f64,
    pub(crate) speed: f64,
}

/// A payload that came out of a decode with a right CRC.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) payload: Payload,
    pub(crate) z: f64,
    pub(crate) hypothesis: Hypothesis,
    /// The pattern of group 0.
    pub(crate) first: usize,
    /// Untouched pitch of the window, for the report of scales.
    pub(crate) base: f64,
    /// Start, end, correlation and energy of each segment.
    pub(crate) segments: Vec<(f64, f64, f64, f64)>,
}

/// All that one window gave.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) found: Vec<Found>,
    /// Hypotheses decoded blindly.
    pub(crate) decoded: u64,
    /// Largest statistic of any decode whose CRC was right.
    pub(crate) best_z: f64,
    /// Largest statistic of the expected payload, and the hypotheses it was tried under.
    pub(crate) expected_z: f64,
    pub(crate) expected_tried: u64,
    tracks: Vec<Track>,
}

/// A hypothesis followed from window to window, its evidence added up.
#[derive(Clone)]
struct Track {
    hypothesis: Hypothesis,
    /// Patterns that group 0 may show.
    firsts: Vec<usize>,
    sums: Sums,
    size: (usize, usize),
    /// Whether it gave a mark: then it alone is tried first.
    proven: bool,
}

/// One key's examiner of windows.
pub(crate) struct Examiner {
    key: KeyId,
    carriers: Carriers,
    expected: Option<Vec<f32>>,
    tracks: Vec<Track>,
}

impl Examiner {
    pub(crate) fn new(key: &Key) -> Self {
        Self { key: key.id(), carriers: Carriers::new(key), expected: None, tracks: Vec::new() }
    }

    pub(crate) fn key_id(&self) -> KeyId {
        self.key
    }

    pub(crate) fn expect(&mut self, payload: Payload) {
        self.expected = Some(polar::encode(&payload.protected_bits()));
    }

    #[cfg(test)]
    pub(crate) fn tracks(&self) -> usize {
        self.tracks.len()
    }

    pub(crate) fn forget_tracks(&mut self) {
        self.tracks.clear();
    }

    /// Takes over what a finished window adds to the tracks.
    pub(crate) fn keep_tracks(&mut self, findings: &mut Findings) {
        self.tracks = std::mem::take(&mut findings.tracks);
        // The newest come last, those that are added up from window to window among them.
        self.tracks.drain(..self.tracks.len().saturating_sub(MOST_TRACKS));
    }

    /// Examines a window. `counted` hypotheses were decoded before; a bound at `sure` ends the work.
    pub(crate) fn examine(&self, views: &Views<'_>, effort: Effort, (counted, sure): (u64, f64)) -> Findings {
        let window = views.as_it_is;
        let mut work = Work {
            examiner: self,
            views,
            window,
            view: View::AsItIs,
            base: window.width.min(window.height) as f64 / CHIPS as f64,
            counted,
            sure,
            cache: Vec::new(),
            findings: Findings::default(),
        };
        work.run(effort);
        work.findings
    }
}

/// The examination of one window.
struct Work<'a> {
    examiner: &'a Examiner,
    views: &'a Views<'a>,
    /// The view that is looked at, and which one it is.
    window: &'a Window,
    view: View,
    base: f64,
    counted: u64,
    sure: f64,
    /// Segments by offset and speed: several poses share them.
    cache: Vec<(f64, f64, Segments)>,
    findings: Findings,
}

impl Work<'_> {
    /// Turns to another view, if the window has it.
    fn see(&mut self, view: View) -> bool {
        let Some(window) = self.views.get(view) else { return false };
        (self.window, self.view) = (window, view);
        self.cache.clear();
        true
    }

    fn run(&mut self, effort: Effort) {
        if self.follow_proven(effort) {
            return;
        }
        // What is found as it is costs no search for motion; all that is harder is looked for without motion.
        if self.untouched() {
            return;
        }
        if effort != Effort::Glance && self.see(View::WithoutMotion) && self.untouched() {
            return;
        }
        let [upright, _] = self.untouched_poses();
        let in_place = matches!(effort, Effort::Glance | Effort::Untouched);
        let deepest = if in_place { self.base } else { self.base * DEEPEST };
        let sight = self.views.sight((self.view, self.window), deepest);
        let still = sight.still;
        let search = Search::new(&self.examiner.carriers, sight);
        let mut scratch = Scratch::new();
        // Untouched in space, any time.
        for pose in self.untouched_poses() {
            let candidate = search.fixed(pose, self.untouched_shift(pose), &mut scratch);
            self.decode_candidate(candidate, 1.0, still);
            self.try_expected_at_all_times(candidate, still);
        }
        if self.is_sure() {
            return;
        }
        let mut candidates = vec![search.at(upright, Orientation::NOT_TURNED, &mut scratch)];
        // Whether a picture was turned is tried beside the candidates: so many more tries shall not crowd out a weak one.
        let turned = search.at(upright, Orientation::TURNED, &mut scratch);
        candidates.extend(Some(turned).filter(Candidate::is_strong));
        if !in_place && !strong(&candidates) {
            candidates.extend(search.among(
                Family::Isotropic,
                self.base,
                Orientation::NOT_TURNED,
                (CANDIDATES, 0.0),
            ));
        }
        if effort == Effort::Full {
            let families = [
                (Family::Rotated, Orientation::NOT_TURNED, 0.0),
                (Family::Stretched, Orientation::NOT_TURNED, 0.0),
                (Family::Isotropic, Orientation::TURNED, FOUND),
            ];
            for (family, orientations, least) in families {
                if strong(&candidates) {
                    break;
                }
                candidates.extend(search.among(family, self.base, orientations, (CANDIDATES, least)));
            }
        }
        candidates.sort_by(|a, b| b.z.total_cmp(&a.z));
        let beside = Some(&turned).filter(|turned| !turned.is_strong());
        for candidate in candidates.iter().take(CANDIDATES).chain(beside) {
            let refined = search.refine(*candidate, &mut scratch);
            self.decode_candidate(refined, 1.0, still);
            if self.is_sure() {
                return;
            }
        }
        if effort == Effort::Full && !still && !strong(&candidates) {
            self.search_speeds(&search, upright, &mut scratch);
        }
    }

    /// Poses of frames that were not scaled: as they are, and mirrored.
    fn untouched_poses(&self) -> [Pose; 2] {
        let upright = Pose::upright((self.base, self.base));
        [upright, Pose { orientation: Orientation::NOT_TURNED[1], ..upright }]
    }

    /// Tries frames untouched in space and in time, which no search noise can hurt; whether a mark is sure.
    fn untouched(&mut self) -> bool {
        for pose in self.untouched_poses() {
            let (view, shift) = (self.view, self.untouched_shift(pose));
            self.attempt(Hypothesis { view, pose, shift, offset: 0.0, speed: 1.0 }, &[0]);
        }
        self.is_sure()
    }

    /// Tries the hypotheses that gave marks in windows before; whether one does again.
    fn follow_proven(&mut self, effort: Effort) -> bool {
        let size = (self.window.width, self.window.height);
        let tracks = &self.examiner.tracks;
        for track in tracks.iter().filter(|track| track.proven && track.size == size) {
            if effort == Effort::Glance && track.hypothesis.view == View::WithoutMotion {
                continue;
            }
            if track.hypothesis.view != self.view && !self.see(track.hypothesis.view) {
                continue;
            }
            self.attempt(track.hypothesis, &track.firsts);
            if self.is_sure() {
                return true;
            }
            self.findings.tracks.push(track.clone());
        }
        self.see(View::AsItIs);
        false
    }

    /// The shift of a pattern that lies as it was embedded: none, or the mirrored frame's.
    fn untouched_shift(&self, pose: Pose) -> (f64, f64) {
        let chips = self.window.width as f64 / self.base - 1.0;
        (if pose.orientation.flipped { (-chips).rem_euclid(TILE as f64) } else { 0.0 }, 0.0)
    }

    fn decode_candidate(&mut self, candidate: Candidate, speed: f64, still: bool) {
        let Candidate { pose, shift, phase, .. } = candidate;
        if still {
            // All frames show one pattern; the pilot's sign says whether an even or an odd one.
            let odd = usize::from(phase != 0.0);
            let firsts: Vec<usize> = (0..PATTERNS).filter(|first| first % 2 == odd).collect();
            let start = self.window.start.as_secs_f64() * speed;
            self.attempt(Hypothesis { view: self.view, pose, shift, offset: start - 1e-3, speed }, &firsts);
            return;
        }
        let length = 1.0 / PATTERNS_PER_SECOND;
        let offset = (phase - std::f64::consts::FRAC_PI_2) * length / std::f64::consts::PI;
        let offset = offset.rem_euclid(2.0 * length);
        let firsts: Vec<usize> = (0..PATTERNS).step_by(2).collect();
        self.attempt(Hypothesis { view: self.view, pose, shift, offset, speed }, &firsts);
    }

    fn search_speeds(&mut self, search: &Search<'_>, upright: Pose, scratch: &mut Scratch) {
        let speeds = self.views.speeds[self.view as usize].get_or_init(|| Speeds::new(self.window, upright));
        let Some((candidate, speed)) = speeds.best(self.window, search, upright) else { return };
        let (width, height) = (self.window.width, self.window.height);
        let sight = Sight::new(Pyramid::new(self.window.lock_in(speed), width, height, self.base), false);
        let search = Search::new(&self.examiner.carriers, &sight);
        let candidate = search.at(upright, &[candidate.pose.orientation], scratch);
        let refined = search.refine(candidate, scratch);
        self.decode_candidate(refined, speed, false);
    }

    /// The expected payload where it was embedded, at every time it may have been: eight offsets in the
    /// time of two patterns.
    fn try_expected_at_all_times(&mut self, candidate: Candidate, still: bool) {
        let Some(code) = self.examiner.expected.as_deref() else { return };
        let carriers = &self.examiner.carriers;
        for step in 0..if still { 1 } else { 8 } {
            let offset = f64::from(step) / (4.0 * PATTERNS_PER_SECOND);
            let segments = segments_of(&mut self.cache, self.window, offset, 1.0);
            let mut sums = Sums::default();
            sums.add(&evidence(carriers, segments, candidate.pose, candidate.shift));
            for first in (0..PATTERNS).step_by(if still { 1 } else { 2 }) {
                self.findings.expected_z = self.findings.expected_z.max(sums.z(carriers, first, code));
                self.findings.expected_tried += 1;
            }
        }
    }

    /// Decodes one hypothesis for each pattern that group 0 may show.
    fn attempt(&mut self, hypothesis: Hypothesis, firsts: &[usize]) {
        let Hypothesis { pose, shift, offset, speed, .. } = hypothesis;
        let carriers = &self.examiner.carriers;
        let segments = segments_of(&mut self.cache, self.window, offset, speed);
        let evidence = evidence(carriers, segments, pose, shift);
        let mut sums = Sums::default();
        sums.add(&evidence);
        self.decode_all(&sums, &evidence, hypothesis, firsts);
        self.follow(&evidence, hypothesis, firsts, sums);
    }

    /// Adds the evidence of a hypothesis seen before to its track and decodes the sum.
    fn follow(&mut self, evidence: &Evidence, hypothesis: Hypothesis, firsts: &[usize], sums: Sums) {
        let size = (self.window.width, self.window.height);
        // By itself: that another one gave a mark says nothing of this one.
        let counted = self.counted + self.findings.decoded;
        let given =
            |found: &&Found| found.hypothesis == hypothesis && log10_p(found.z, counted, true) <= self.sure;
        let found = self.findings.found.iter().find(given).map(|found| found.first);
        let proven = found.is_some();
        let known =
            self.examiner.tracks.iter().find(|t| t.size == size && t.hypothesis == hypothesis && !t.proven);
        let sums = match known {
            Some(track) if !proven => {
                let mut total = track.sums.clone();
                total.add(evidence);
                self.decode_all(&total, evidence, hypothesis, firsts);
                total
            }
            _ => sums,
        };
        // A hypothesis that gave a mark keeps only the pattern that it gave it with.
        let firsts = found.map_or_else(|| firsts.to_vec(), |first| vec![first]);
        let track = Track { hypothesis, firsts, sums, size, proven };
        // Only hypotheses that the next window tries again as they are can add up: those at fixed offsets. Proven ones are
        // kept to be tried first.
        if proven || hypothesis.offset == 0.0 {
            self.findings.tracks.push(track);
        }
    }

    fn decode_all(&mut self, sums: &Sums, evidence: &Evidence, hypothesis: Hypothesis, firsts: &[usize]) {
        let carriers = &self.examiner.carriers;
        let decoded: Vec<_> =
            firsts.par_iter().map(|first| (*first, sums.decode(carriers, *first))).collect();
        self.findings.decoded += firsts.len() as u64;
        for (first, decoded) in decoded {
            if let Some((payload, z)) = decoded {
                self.findings.best_z = self.findings.best_z.max(z);
                let code = polar::encode(&payload.protected_bits());
                self.enter(payload, z, hypothesis, first, evidence, &code);
                if log10_p(z, self.counted + self.findings.decoded, true) <= self.sure {
                    self.look_for_a_second(sums, evidence, hypothesis, first, payload, &code);
                }
            }
            if let Some(code) = &self.examiner.expected {
                self.findings.expected_z = self.findings.expected_z.max(sums.z(carriers, first, code));
                self.findings.expected_tried += 1;
            }
        }
    }

    fn enter(
        &mut self,
        payload: Payload,
        z: f64,
        hypothesis: Hypothesis,
        first: usize,
        evidence: &Evidence,
        code: &[f32],
    ) {
        let carriers = &self.examiner.carriers;
        let segment = |segment: &crate::statistic::SegmentEvidence| {
            let (correlation, energy) = segment.score(carriers, first, code);
            (segment.start, segment.end, correlation, energy)
        };
        let segments = evidence.segments.iter().map(segment).collect();
        self.findings.found.push(Found { payload, z, hypothesis, first, base: self.base, segments });
    }

    /// A second payload at the same place: what is left when the first is taken away is decoded once more.
    ///
    /// The bound is that of the whole evidence; the rest must pass it too, since a near code word of the first
    /// payload correlates with the whole.
    fn look_for_a_second(
        &mut self,
        sums: &Sums,
        evidence: &Evidence,
        hypothesis: Hypothesis,
        first: usize,
        payload: Payload,
        code: &[f32],
    ) {
        let carriers = &self.examiner.carriers;
        let rest = sums.without(carriers, first, code);
        self.findings.decoded += 1;
        let Some((second, rest_z)) = rest.decode(carriers, first) else { return };
        let second_code = polar::encode(&second.protected_bits());
        let z = sums.z(carriers, first, &second_code);
        let counted = self.counted + self.findings.decoded;
        let passes = [z, rest_z].iter().all(|z| log10_p(*z, counted, true) <= self.sure);
        if second != payload && passes {
            self.enter(second, z, hypothesis, first, evidence, &second_code);
        }
    }

    fn is_sure(&self) -> bool {
        let counted = self.counted + self.findings.decoded;
        self.findings.found.iter().any(|found| log10_p(found.z, counted, true) <= self.sure)
    }
}

/// Segments at an offset and a speed, made once.
fn segments_of<'a>(
    cache: &'a mut Vec<(f64, f64, Segments)>,
    window: &Window,
    offset: f64,
    speed: f64,
) -> &'a Segments {
    let place = cache.iter().position(|(o, s, _)| (*o, *s) == (offset, speed)).unwrap_or_else(|| {
        cache.push((offset, speed, window.segments(offset, speed)));
        cache.len() - 1
    });
    &cache[place].2
}

fn strong(candidates: &[Candidate]) -> bool {
    candidates.iter().any(Candidate::is_strong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_mark_that_lies_ever_elsewhere_the_newest_places_are_followed() {
        let place = |n: usize| {
            let pose = Pose::upright((1.0, 1.0));
            Hypothesis { view: View::AsItIs, pose, shift: (n as f64, 0.0), offset: 0.1, speed: 1.0 }
        };
        let mut examiner = Examiner::new(&Key::public());
        for n in 0..10 * MOST_TRACKS {
            // Nothing that was followed gave the mark again, and so it was found at a place of its own.
            let track = Track {
                hypothesis: place(n),
                firsts: vec![0],
                sums: Sums::default(),
                size: (64, 64),
                proven: true,
            };
            let tracks = examiner.tracks.iter().cloned().chain([track]).collect();
            examiner.keep_tracks(&mut Findings { tracks, ..Findings::default() });
        }
        let kept: Vec<_> = examiner.tracks.iter().map(|track| track.hypothesis).collect();
        assert_eq!(kept, (9 * MOST_TRACKS..10 * MOST_TRACKS).map(place).collect::<Vec<_>>());
    }
}
