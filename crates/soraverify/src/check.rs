//! A detector over all frames of an input.

use std::time::Duration;

use sora_watermark::{Detector, Key, Options, Payload, Search, Verdict, WatermarkError};

use crate::reader::{ReadError, Reader};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Check {
    /// Keys of the marks.
    pub keys: Vec<Key>,
    /// Id that the input is said to carry.
    pub expect: Option<Payload>,
    /// Only the first frame is looked at, as a picture by itself.
    pub still: bool,
    /// How far to look for frames that were moved.
    pub search: Search,
    /// Stop where the detector is sure that the mark is there: whether and whose. Not for a verdict of manifest and mark:
    /// a second id may come later, and both contradict each other then.
    pub until_sure: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// What the detector says of the frames that could be read.
    pub verdict: Verdict,
    /// What kept the rest from being read.
    pub error: Option<ReadError>,
    /// The rest was not looked at: [`Check::until_sure`].
    pub stopped: bool,
}

impl Checked {
    /// Whether the mark that was looked for is there: the expected one, where one was, else any.
    pub fn found(&self) -> bool {
        match &self.verdict.expected {
            Some(expected) => {
                expected.accepted || self.verdict.marks.iter().any(|mark| mark.payload == expected.payload)
            }
            None => !self.verdict.marks.is_empty(),
        }
    }
}

/// Looks for marks in an input; `progress` is told the time of each frame and the length, where that is known.
///
/// # Errors
/// When nothing of the input could be read, or the check itself makes no sense. An input that breaks off
/// is no error: [`Checked`] holds what its beginning says.
pub fn watermark(
    input: &str,
    check: &Check,
    mut progress: impl FnMut(Duration, Option<Duration>),
) -> Result<Checked, ReadError> {
    let mut options = Options::default();
    options.search = check.search;
    let mut detector = Detector::new(check.keys.clone(), options)?;
    if let Some(payload) = check.expect {
        detector.expect(payload);
    }
    let mut reader = Reader::open(input)?;
    let mut frames = 0u64;
    let mut stopped = false;
    let error = loop {
        match reader.next_frame() {
            Ok(None) => break None,
            Err(error) if frames == 0 => return Err(error),
            Err(error) => break Some(error),
            Ok(Some(frame)) => {
                let taken = frame.with_luma(|plane| match detector.push(plane, frame.time) {
                    Err(WatermarkError::TimeBackwards { .. }) => {
                        detector.discontinuity();
                        detector.push(plane, frame.time)
                    }
                    result => result,
                });
                // What was found before stays found, whatever is appended to it.
                match taken {
                    Err(error) if frames == 0 => return Err(error),
                    Err(error) => break Some(error),
                    Ok(()) => {}
                }
                frames += 1;
                progress(frame.time, reader.duration());
                stopped = check.until_sure && detector.is_sure();
                if check.still || stopped {
                    break None;
                }
            }
        }
    };
    if frames == 0 {
        return Err(ReadError::NoVideo);
    }
    Ok(Checked { verdict: detector.verdict(), error, stopped })
}
