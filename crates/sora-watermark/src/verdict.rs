//! What a detector says.

use std::time::Duration;

use crate::key::KeyId;
use crate::payload::Payload;

/// The answer of a [`crate::Detector`] for what it has seen so far.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// Marks that were accepted, the surest first; of a clip with more, the 64 that came first. Empty: no mark found, which
    /// proves nothing about the clip.
    pub marks: Vec<Mark>,
    /// How the expected payload fared, when one was set.
    pub expected: Option<Expected>,
    /// Largest statistic of any decoded hypothesis whose check sum was right, accepted or not; 0 where none was.
    pub best_z: f64,
    /// Bound on the probability, as log10, that a clip without a mark under these keys reaches `best_z`.
    pub log10_p: f64,
    /// Hypotheses decoded so far, over all keys and windows: the factor H of every bound.
    pub hypotheses: u64,
    /// Frames seen.
    pub frames: u64,
    /// Time from the first frame to the last.
    pub duration: Duration,
}

impl Verdict {
    /// The payload of the surest mark.
    pub fn payload(&self) -> Option<Payload> {
        self.marks.first().map(|mark| mark.payload)
    }

    /// Whether two different payloads were found under one key.
    pub fn conflict(&self) -> bool {
        self.marks.iter().enumerate().any(|(i, mark)| {
            self.marks[..i].iter().any(|other| other.key == mark.key && other.payload != mark.payload)
        })
    }
}

/// One accepted mark.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Mark {
    /// What it says: all 96 bits.
    pub payload: Payload,
    /// The key it was found under.
    pub key: KeyId,
    /// The statistic: under no mark it is sub-Gaussian with variance at most 1.
    pub z: f64,
    /// Bound on the probability, as log10, that a clip without a mark under the tried keys gives any verdict
    /// like this one, corrected for every hypothesis and every message.
    pub log10_p: f64,
    /// How the frames lie to the frames that were marked.
    pub geometry: Geometry,
    /// Where in time the mark was found. A window that showed too little by itself is not among them, though what it showed
    /// was added to the windows after it.
    pub ranges: Vec<TimeRange>,
    /// Scores over time. For long clips, neighbours are merged so that their number stays bounded.
    pub scores: Vec<Score>,
}

/// How the seen frames lie to the frames that were marked.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Geometry {
    /// Horizontal size of the seen picture elements relative to an untouched frame of the same height.
    pub scale_x: f64,
    /// Vertical counterpart.
    pub scale_y: f64,
    /// Horizontal shift of the pattern, in chips of 1/256 of the short side, modulo 128.
    pub shift_x: f64,
    /// Vertical counterpart.
    pub shift_y: f64,
    /// Mirrored left to right.
    pub flipped: bool,
    /// Then turned clockwise by so many quarters, 0 to 3. Scales and rotation are those of the turned frames.
    pub quarter_turns: u8,
    /// Rotation in degrees, beside the quarters.
    pub rotation: f64,
    /// Playback speed relative to that of the marked clip.
    pub speed: f64,
    /// Time in the marked clip's pattern cycle of four seconds at which the first seen frame lies.
    pub cycle_offset: Duration,
}

/// A span of time, relative to the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First moment.
    pub start: Duration,
    /// First moment after.
    pub end: Duration,
}

/// The statistic of one span of time for a known payload.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The span.
    pub range: TimeRange,
    /// The statistic of this span alone.
    pub z: f64,
}

/// How an expected payload fared ([`crate::Detector::expect`]).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Expected {
    /// The payload that was expected.
    pub payload: Payload,
    /// The key under which it fared best.
    pub key: KeyId,
    /// Largest statistic.
    pub z: f64,
    /// Bound on the probability, as log10, that a clip without this mark reaches it: no factor for the
    /// messages, since the payload was named before.
    pub log10_p: f64,
    /// Whether the bound is at or below [`crate::Options::accept_log10_p_expected`].
    pub accepted: bool,
}
