//! The books: what was found in which window, how many hypotheses were decoded, and the verdict of it.

use std::time::Duration;

use crate::detect::Options;
use crate::examine::{Findings, Found, Hypothesis};
use crate::key::KeyId;
use crate::payload::Payload;
use crate::statistic::log10_p;
use crate::verdict::{Expected, Geometry, Mark, Score, TimeRange, Verdict};
use crate::window::Window;

/// Most different payloads kept; a clip has one, a splice a few.
pub(crate) const MOST_MARKS: usize = 64;
/// Most scores of a mark; beyond, neighbours are merged.
const MOST_SCORES: usize = 1024;
/// Statistic of a score from which its time counts as marked: 1 in 1000 of unmarked seconds reach it.
const PRESENT: f64 = 3.0;

/// A found payload with its scores so far.
#[derive(Clone)]
struct Entry {
    key: KeyId,
    payload: Payload,
    z: f64,
    hypothesis: Hypothesis,
    first: usize,
    base: f64,
    scores: Vec<Span>,
    /// Least length of a score, in seconds.
    resolution: f64,
}

/// A score in its parts.
#[derive(Clone, Copy)]
struct Span {
    start: f64,
    end: f64,
    correlation: f64,
    energy: f64,
}

impl Span {
    fn z(&self) -> f64 {
        if self.energy > 0.0 { self.correlation / self.energy.sqrt() } else { 0.0 }
    }
}

/// What all windows gave.
#[derive(Clone)]
pub(crate) struct Ledger {
    options: Options,
    hypotheses: u64,
    best_z: f64,
    entries: Vec<Entry>,
    expected: Option<Payload>,
    expected_best: Option<(f64, KeyId)>,
    expected_tried: u64,
    /// Time before the last discontinuity.
    shifted: Duration,
}

impl Ledger {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            hypotheses: 0,
            best_z: 0.0,
            entries: Vec::new(),
            expected: None,
            expected_best: None,
            expected_tried: 0,
            shifted: Duration::ZERO,
        }
    }

    pub(crate) fn expect(&mut self, payload: Payload) {
        self.expected = Some(payload);
    }

    pub(crate) fn hypotheses(&self) -> u64 {
        self.hypotheses
    }

    pub(crate) fn shift(&mut self, to: Duration) {
        self.shifted = to;
    }

    pub(crate) fn shifted(&self) -> Duration {
        self.shifted
    }

    /// Counts a window's decodes, whatever became of them.
    pub(crate) fn count(&mut self, findings: &Findings) {
        self.hypotheses += findings.decoded;
        self.expected_tried += findings.expected_tried;
    }

    /// Enters what a window gave.
    pub(crate) fn enter(&mut self, key: KeyId, findings: Findings, window: &Window) {
        self.best_z = self.best_z.max(findings.best_z);
        if findings.expected_tried > 0 && self.expected_best.is_none_or(|(z, _)| findings.expected_z > z) {
            self.expected_best = Some((findings.expected_z, key));
        }
        let mut found = findings.found;
        found.sort_by(|a, b| b.z.total_cmp(&a.z));
        let mut seen: Vec<Payload> = Vec::new();
        for found in found {
            let possible = log10_p(found.z, self.hypotheses, true) <= self.options.accept_log10_p;
            if possible && !seen.contains(&found.payload) {
                seen.push(found.payload);
                self.enter_found(key, found, window);
            }
        }
    }

    fn enter_found(&mut self, key: KeyId, found: Found, window: &Window) {
        let place = self.entries.iter().position(|entry| (entry.key, entry.payload) == (key, found.payload));
        let entry = match place {
            Some(place) => &mut self.entries[place],
            None if self.entries.len() >= MOST_MARKS => return,
            None => {
                let Found { payload, z, hypothesis, first, base, .. } = found;
                let (scores, resolution) = (Vec::new(), 1.0);
                self.entries.push(Entry { key, payload, z, hypothesis, first, base, scores, resolution });
                let last = self.entries.len() - 1;
                &mut self.entries[last]
            }
        };
        if found.z > entry.z {
            (entry.z, entry.hypothesis, entry.first, entry.base) =
                (found.z, found.hypothesis, found.first, found.base);
        }
        let shift = self.shifted.as_secs_f64();
        let end = shift + window.end.as_secs_f64();
        for (i, (start, _, correlation, energy)) in found.segments.iter().enumerate() {
            let next = found.segments.get(i + 1).map_or(end, |(start, ..)| shift + start);
            entry.add(Span { start: shift + start, end: next, correlation: *correlation, energy: *energy });
        }
        while entry.scores.len() > MOST_SCORES {
            entry.coarsen();
        }
    }

    pub(crate) fn is_sure(&self) -> bool {
        let Options { accept_log10_p, accept_log10_p_expected, sure_log10_p, .. } = self.options;
        let wanted = |entry: &&Entry| self.expected.is_none_or(|expected| expected == entry.payload);
        let mut marks = self.entries.iter().filter(wanted);
        let expected = self.expected_best.filter(|_| self.expected.is_some());
        marks.any(|entry| log10_p(entry.z, self.hypotheses, true) <= sure_log10_p.min(accept_log10_p))
            || expected.is_some_and(|(z, _)| {
                log10_p(z, self.expected_tried, false) <= sure_log10_p.min(accept_log10_p_expected)
            })
    }

    pub(crate) fn verdict(&self, frames: u64, duration: Duration) -> Verdict {
        let hypotheses = self.hypotheses;
        let marks = self.entries.iter().filter_map(|entry| {
            let log10_p = log10_p(entry.z, hypotheses, true);
            (log10_p <= self.options.accept_log10_p).then(|| entry.mark(log10_p))
        });
        let mut marks: Vec<Mark> = marks.collect();
        marks.sort_by(|a, b| b.z.total_cmp(&a.z));
        let expected = self.expected.zip(self.expected_best).map(|(payload, (z, key))| {
            let log10_p = log10_p(z, self.expected_tried, false);
            Expected { payload, key, z, log10_p, accepted: log10_p <= self.options.accept_log10_p_expected }
        });
        let log10_p = log10_p(self.best_z, hypotheses, true);
        Verdict { marks, expected, best_z: self.best_z, log10_p, hypotheses, frames, duration }
    }
}

impl Entry {
    fn add(&mut self, span: Span) {
        let slot = |start: f64| ((start + 1e-6) / self.resolution).floor();
        match self.scores.last_mut() {
            Some(last) if slot(last.start) == slot(span.start) => {
                last.end = last.end.max(span.end);
                last.correlation += span.correlation;
                last.energy += span.energy;
            }
            _ => self.scores.push(span),
        }
    }

    fn coarsen(&mut self) {
        self.resolution *= 2.0;
        let fine = std::mem::take(&mut self.scores);
        fine.into_iter().for_each(|span| self.add(span));
    }

    fn mark(&self, log10_p: f64) -> Mark {
        let time = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0));
        let range = |span: &Span| TimeRange { start: time(span.start), end: time(span.end) };
        let scores = self.scores.iter().map(|span| Score { range: range(span), z: span.z() }).collect();
        let mut ranges: Vec<TimeRange> = Vec::new();
        for span in self.scores.iter().filter(|span| span.z() >= PRESENT) {
            let next = range(span);
            match ranges.last_mut() {
                Some(last) if next.start <= last.end + Duration::from_millis(1) => last.end = next.end,
                _ => ranges.push(next),
            }
        }
        let Hypothesis { pose, shift, offset, speed, .. } = self.hypothesis;
        let geometry = Geometry {
            scale_x: pose.pitch.0 / self.base,
            scale_y: pose.pitch.1 / self.base,
            shift_x: shift.0,
            shift_y: shift.1,
            flipped: pose.orientation.flipped,
            quarter_turns: pose.orientation.quarter_turns,
            rotation: pose.rotation.to_degrees(),
            speed,
            cycle_offset: time((self.first as f64 / 3.0 - offset).rem_euclid(4.0)),
        };
        let Self { key, payload, z, .. } = *self;
        Mark { payload, key, z, log10_p, geometry, ranges, scores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chips::Pose;
    use crate::examine::View;
    use crate::key::Key;

    /// A ledger after one window in which a decode of statistic `z` passed its CRC, one of 2560 that were tried.
    fn after_a_decode_with_a_right_crc(z: f64) -> Ledger {
        let payload = Payload::new(1, 0, [7; 11]).expect("a payload");
        let pose = Pose::upright((1.0, 1.0));
        let hypothesis = Hypothesis { view: View::AsItIs, pose, shift: (0.0, 0.0), offset: 0.0, speed: 1.0 };
        let segments = vec![(0.0, 1.0, z, 1.0)];
        let found = Found { payload, z, hypothesis, first: 0, base: 1.0, segments };
        let mut findings = Findings::default();
        (findings.found, findings.decoded, findings.best_z) = (vec![found], 2560, z);
        let mut ledger = Ledger::new(Options::default());
        ledger.count(&findings);
        let window = Window::new(128, 128, Duration::ZERO);
        ledger.enter(Key::from_bytes([3; Key::LENGTH]).id(), findings, &window);
        ledger
    }

    #[test]
    fn a_right_crc_alone_accepts_nothing() {
        let second = Duration::from_secs(1);
        for z in [0.5, 6.0, 11.8, 13.0] {
            let ledger = after_a_decode_with_a_right_crc(z);
            let verdict = ledger.verdict(8, second);
            assert_eq!(verdict.marks, [], "z of {z}");
            assert!(verdict.log10_p > -6.0 && !ledger.is_sure(), "z of {z}: {}", verdict.log10_p);
        }
        let verdict = after_a_decode_with_a_right_crc(14.0).verdict(8, second);
        assert_eq!(verdict.marks.len(), 1);
        assert!(verdict.marks[0].log10_p <= -6.0);
    }
}
