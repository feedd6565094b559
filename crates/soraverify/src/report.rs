//! What was found, as text for people and as a line of JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use sora_watermark::{Mark, TimeRange, Verdict};

use crate::check::Checked;
use crate::reader::ReadError;

/// Version of the JSON: it grows when a field goes or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// One input, as a line of JSON. Times are in seconds, probabilities are logarithms to base 10.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Report<'r> {
    /// [`VERSION`].
    pub version: u32,
    /// The input, as it was named.
    pub file: &'r str,
    /// The mark that was looked for is there. `null` where nothing could be read.
    pub found: Option<bool>,
    /// What went wrong, also after some of it was read.
    pub error: Option<String>,
    /// The rest was not looked at, since the mark was sure (`--until-sure`).
    pub stopped: bool,
    /// What the frames say.
    #[serde(flatten)]
    pub watermark: Option<Watermark>,
}

/// What a detector says of an input.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Watermark {
    /// Frames looked at.
    pub frames: u64,
    /// Time from the first to the last.
    pub duration: f64,
    /// Two ids under one key.
    pub conflict: bool,
    /// Accepted marks, the surest first.
    pub marks: Vec<ReportedMark>,
    /// How the expected id fared.
    pub expected: Option<ReportedExpected>,
    /// Bound for the best candidate whose check sum was right, accepted or not.
    pub best_log10_p: f64,
    /// Candidates that were decoded; every bound is corrected for them.
    pub hypotheses: u64,
}

/// An accepted mark.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedMark {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Name of the key.
    pub key_id: String,
    /// Bound on the probability that an input without a mark under the tried keys is called marked.
    pub log10_p: f64,
    /// The statistic.
    pub z: f64,
    /// Where in time.
    pub ranges: Vec<[f64; 2]>,
    /// The statistic over time: start, end, z.
    pub scores: Vec<[f64; 3]>,
    /// Scale of the seen frames, across and down.
    pub scale: [f64; 2],
    /// Mirrored left to right.
    pub flipped: bool,
    /// Then turned clockwise by so many quarters.
    pub quarter_turns: u8,
    /// In degrees, beside these.
    pub rotation: f64,
    /// Relative to the marked video.
    pub speed: f64,
}

/// How an expected id fared.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct ReportedExpected {
    /// The id.
    pub id: String,
    /// It is there.
    pub accepted: bool,
    /// Bound on the probability that an input without it fares as well.
    pub log10_p: f64,
}

impl<'r> Report<'r> {
    /// The report on `file`.
    pub fn new(file: &'r str, result: &Result<Checked, ReadError>) -> Self {
        match result {
            Ok(checked) => Self {
                version: VERSION,
                file,
                found: Some(checked.found()),
                error: checked.error.as_ref().map(ToString::to_string),
                stopped: checked.stopped,
                watermark: Some(Watermark::new(&checked.verdict)),
            },
            Err(error) => {
                let error = Some(error.to_string());
                Self { version: VERSION, file, found: None, error, stopped: false, watermark: None }
            }
        }
    }

    /// The report for people, several lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let file = self.file;
        if let Some(watermark) = &self.watermark {
            watermark.write(text, file, self.found == Some(true))?;
            if let Some(error) = &self.error {
                writeln!(text, "  broken    after {:.1} s: {error}", watermark.duration)?;
            }
            if self.stopped {
                writeln!(
                    text,
                    "  stopped   after {:.1} s, being sure: what follows was not looked at",
                    watermark.duration
                )?;
            }
        }
        Ok(())
    }
}

impl Watermark {
    pub(crate) fn new(verdict: &Verdict) -> Self {
        Self {
            frames: verdict.frames,
            duration: verdict.duration.as_secs_f64(),
            conflict: verdict.conflict(),
            marks: verdict.marks.iter().map(ReportedMark::new).collect(),
            expected: verdict.expected.map(|expected| ReportedExpected {
                id: expected.payload.to_string(),
                accepted: expected.accepted,
                log10_p: expected.log10_p,
            }),
            best_log10_p: verdict.log10_p,
            hypotheses: verdict.hypotheses,
        }
    }

    fn write(&self, text: &mut String, file: &str, found: bool) -> std::fmt::Result {
        match (&self.expected, found) {
            (None, true) => writeln!(text, "{file}: a mark was found")?,
            (Some(_), true) => writeln!(text, "{file}: the expected mark was found")?,
            (Some(_), false) => writeln!(text, "{file}: the expected mark was not found")?,
            (None, false) => writeln!(text, "{file}: no mark was found, which proves nothing")?,
        }
        if self.conflict {
            writeln!(text, "  conflict  it carries two ids under one key: it was marked again, or mixed")?;
        }
        if let Some(expected) = &self.expected {
            writeln!(text, "  expected  {} ({})", expected.id, chance(expected.log10_p))?;
        }
        for mark in &self.marks {
            writeln!(text, "  id        {}", mark.id)?;
            writeln!(text, "  key       {}{}", mark.key_id, public(&mark.key_id))?;
            writeln!(text, "  by chance {}", chance(mark.log10_p))?;
            writeln!(text, "  at        {}", times(&mark.ranges))?;
            let changes = mark.changes();
            if !changes.is_empty() {
                writeln!(text, "  frames    {changes}")?;
            }
        }
        Ok(())
    }
}

impl ReportedMark {
    fn new(mark: &Mark) -> Self {
        let range = |range: &TimeRange| [range.start, range.end].map(|time: Duration| time.as_secs_f64());
        Self {
            id: mark.payload.to_string(),
            key_id: mark.key.to_string(),
            log10_p: mark.log10_p,
            z: mark.z,
            ranges: mark.ranges.iter().map(range).collect(),
            scores: mark
                .scores
                .iter()
                .map(|score| {
                    let [start, end] = range(&score.range);
                    [start, end, score.z]
                })
                .collect(),
            scale: [mark.geometry.scale_x, mark.geometry.scale_y],
            flipped: mark.geometry.flipped,
            quarter_turns: mark.geometry.quarter_turns,
            rotation: mark.geometry.rotation,
            speed: mark.geometry.speed,
        }
    }

    /// How the frames lie to those that were marked, where that is not as they were.
    fn changes(&self) -> String {
        let mut changes = Vec::new();
        let [across, down] = self.scale;
        let near = |value: f64, one: f64| (value - one).abs() < 0.005;
        if !near(across, 1.0) || !near(down, 1.0) {
            changes.push(format!("scaled or cropped (pattern at {across:.2} x {down:.2})"));
        }
        if self.flipped {
            changes.push("mirrored".into());
        }
        if self.quarter_turns > 0 {
            changes.push(format!("turned clockwise by {} degrees", 90 * u16::from(self.quarter_turns)));
        }
        if self.rotation.abs() >= 0.1 {
            changes.push(format!("rotated by {:.1} degrees", self.rotation));
        }
        if !near(self.speed, 1.0) {
            changes.push(format!("played at {:.2} times the speed", self.speed));
        }
        changes.join(", ")
    }
}

/// A bound as people read it.
fn chance(log10_p: f64) -> String {
    if log10_p >= 0.0 {
        return "no better than chance".into();
    }
    format!("at most 1 in 10^{:.0}", (-log10_p).floor())
}

fn public(key_id: &str) -> &'static str {
    if key_id == sora_watermark::Key::public().id().to_string() {
        ", the public key: everybody can write such marks"
    } else {
        ""
    }
}

fn times(ranges: &[[f64; 2]]) -> String {
    const SHOWN: usize = 8;
    // Ranges that touch are one to people.
    let mut joined: Vec<[f64; 2]> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range[0] <= last[1] + 0.001 => last[1] = last[1].max(range[1]),
            _ => joined.push(*range),
        }
    }
    let ranges = joined;
    let shown = ranges.iter().take(SHOWN).map(|[start, end]| format!("{start:.1} to {end:.1} s"));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ranges.len() > SHOWN {
        let _ = write!(text, " and {} more", ranges.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rounded_towards_the_safe_side() {
        assert_eq!(chance(-6.99), "at most 1 in 10^6");
        assert_eq!(chance(-1369.3), "at most 1 in 10^1369");
        assert_eq!(chance(1.5), "no better than chance");
    }

    #[test]
    fn long_lists_of_ranges_are_cut() {
        let ranges: Vec<[f64; 2]> =
            (0..10).map(|second| [f64::from(second), f64::from(second) + 0.5]).collect();
        assert_eq!(times(&ranges[..2]), "0.0 to 0.5 s, 1.0 to 1.5 s");
        assert_eq!(times(&[[0.0, 4.0], [4.0, 8.0], [9.0, 10.0]]), "0.0 to 8.0 s, 9.0 to 10.0 s");
        assert!(times(&ranges).ends_with("7.0 to 7.5 s and 2 more"));
    }
}
