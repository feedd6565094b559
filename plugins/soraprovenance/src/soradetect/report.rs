//! A verdict as the structure of a message and an event.

use std::time::Duration;

use sora_watermark::{Mark, Verdict};

use crate::analysis::Report;

/// Name of the structure.
pub(super) const NAME: &str = "sora-watermark";

/// The structure that says what `report` says. `origin` is the stream time of the first frame.
pub(super) fn structure(report: &Report, origin: gst::ClockTime) -> gst::Structure {
    let verdict = &report.verdict;
    let mut structure = gst::Structure::builder(NAME)
        .field("found", !verdict.marks.is_empty())
        .field("final", report.last)
        .field("conflict", verdict.conflict())
        .field("frames", report.counts.analysed)
        .field("dropped", report.counts.dropped);
    if let Some(surest) = verdict.marks.first() {
        let (start, end) = span(surest, origin);
        structure = structure
            .field("id", surest.payload.to_string())
            .field("key-id", surest.key.to_string())
            .field("z", surest.z)
            .field("log10-p", surest.log10_p)
            .field("start", start.nseconds())
            .field("end", end.nseconds());
    }
    if let Some(expected) = &verdict.expected {
        structure =
            structure.field("expected", expected.accepted).field("expected-log10-p", expected.log10_p);
    }
    structure.field("marks", gst::Array::new(verdict.marks.iter().map(|mark| of_mark(mark, origin)))).build()
}

fn of_mark(mark: &Mark, origin: gst::ClockTime) -> gst::Structure {
    let (start, end) = span(mark, origin);
    gst::Structure::builder("mark")
        .field("id", mark.payload.to_string())
        .field("key-id", mark.key.to_string())
        .field("z", mark.z)
        .field("log10-p", mark.log10_p)
        .field("start", start.nseconds())
        .field("end", end.nseconds())
        .field("flipped", mark.geometry.flipped)
        .field("scale-x", mark.geometry.scale_x)
        .field("scale-y", mark.geometry.scale_y)
        .field("quarter-turns", i32::from(mark.geometry.quarter_turns))
        .field("rotation", mark.geometry.rotation)
        .field("speed", mark.geometry.speed)
        .build()
}

/// The first and the last moment with the mark.
fn span(mark: &Mark, origin: gst::ClockTime) -> (gst::ClockTime, gst::ClockTime) {
    let time = |time: Option<Duration>| {
        let nanoseconds = time.unwrap_or_default().as_nanos();
        origin
            .saturating_add(gst::ClockTime::from_nseconds(u64::try_from(nanoseconds).unwrap_or(u64::MAX - 1)))
    };
    let start = mark.ranges.iter().map(|range| range.start).min();
    (time(start), time(mark.ranges.iter().map(|range| range.end).max()))
}

/// What of a verdict is news to the elements downstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gist {
    marks: Vec<(String, String)>,
    expected: Option<bool>,
}

impl Gist {
    pub(super) fn of(verdict: &Verdict) -> Self {
        let named = |mark: &Mark| (mark.payload.to_string(), mark.key.to_string());
        let mut marks: Vec<_> = verdict.marks.iter().map(named).collect();
        // Which of two is the surer may change from one report to the next.
        marks.sort();
        Self { marks, expected: verdict.expected.map(|expected| expected.accepted) }
    }
}
