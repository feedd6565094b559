//! The search of a stream for a mark that it carries already, under the key that it is to be marked with.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use sora_watermark::{Detector, Key, Mark, Options, Search};

use super::CheckExisting;
use super::imp::SoraWatermark;
use crate::analysis::{Analysis, AnalysisId, Queue};

/// How much of the stream is searched.
const CHECKED: Duration = Duration::from_secs(5);

/// How far the search is.
#[derive(Default)]
pub(super) enum Check {
    /// Not begun, or not wanted.
    #[default]
    No,
    Running(Arc<Analysis>),
    Done,
    /// Found, and so the marking has ended.
    Stopped,
}

impl SoraWatermark {
    /// Hands the frame to the search, as long as that lasts.
    pub(super) fn check_existing(&self, buffer: &gst::BufferRef, time: Duration) {
        if self.settings().check_existing == CheckExisting::Off {
            return;
        }
        let (layout, key, begun) = {
            let state = self.state();
            let begun = match &state.check {
                Check::No => None,
                Check::Running(analysis) => Some(Arc::clone(analysis)),
                Check::Done | Check::Stopped => return,
            };
            let (Some(layout), Some(key)) = (state.layout.clone(), state.key.clone()) else { return };
            (layout, key, begun)
        };
        // With no lock held: a file waits here, for a search that takes the lock to say what it found.
        let analysis = match begun.map_or_else(|| self.start_check(key), Ok) {
            Ok(analysis) => analysis,
            Err(error) => {
                self.warn(&format!("An existing mark cannot be looked for: {error}"));
                self.state().check = Check::Done;
                return;
            }
        };
        if time >= CHECKED {
            analysis.finish(false);
        } else if let Ok(plane) = layout.map_readable(buffer) {
            analysis.offer(&layout, plane.data(), plane.stride, time);
        }
    }

    fn start_check(&self, key: Key) -> Result<Arc<Analysis>, String> {
        let mut options = Options::default();
        options.search = Search::Scaled;
        let detector = Detector::new(vec![key], options).map_err(|error| error.to_string())?;
        // A live stream is not held up. A file is: it comes faster than it can be searched.
        let mut latency = gst::query::Latency::new();
        let live = self.obj().sink_pad().peer_query(&mut latency) && latency.result().0;
        let queue = Queue { capacity: 8, drop: live, interval: Duration::from_secs(1) };
        let element = self.obj().downgrade();
        let analysis = Analysis::start(detector, queue, move |id, report| {
            let Some(element) = element.upgrade() else { return };
            match report.verdict.marks.first() {
                Some(mark) => element.imp().found_existing(id, mark),
                None if report.last => {
                    element.imp().end_check(id, Check::Done);
                }
                None => {}
            }
        });
        let analysis = Arc::new(analysis?);
        self.state().check = Check::Running(Arc::clone(&analysis));
        Ok(analysis)
    }

    fn found_existing(&self, by: AnalysisId, mark: &Mark) {
        let stop = self.settings().check_existing == CheckExisting::Stop;
        if !self.end_check(by, if stop { Check::Stopped } else { Check::Done }) {
            return;
        }
        let then = if stop { "it is marked no further" } else { "it is marked again, and carries two ids" };
        let text = format!(
            "The stream carries a mark under the key {} already, with the id {}: {then}.",
            mark.key, mark.payload
        );
        let details = gst::Structure::builder("sora-watermark-existing")
            .field("id", mark.payload.to_string())
            .field("key-id", mark.key.to_string())
            .field("log10-p", mark.log10_p);
        let message =
            gst::message::Warning::builder(gst::StreamError::Failed, &text).details(details.build());
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message.src(&*self.obj()).build());
    }

    /// The search is over; `false` when it was before, or is not of this stream any more.
    fn end_check(&self, of: AnalysisId, how: Check) -> bool {
        let mut state = self.state();
        if !matches!(&state.check, Check::Running(analysis) if analysis.id() == of) {
            return false;
        }
        let before = std::mem::replace(&mut state.check, how);
        drop(state);
        drop(before);
        true
    }

    /// The search that runs.
    fn search(&self) -> Option<Arc<Analysis>> {
        match &self.state().check {
            Check::Running(analysis) => Some(Arc::clone(analysis)),
            _ => None,
        }
    }

    /// A clip shorter than what is searched is over: returns when the answer is there.
    pub(super) fn finish_search(&self) {
        if let Some(analysis) = self.search() {
            analysis.finish(true);
        }
    }

    /// Wakes whoever waits for the search, which says nothing more.
    pub(super) fn cancel_search(&self) {
        if let Some(analysis) = self.search() {
            analysis.cancel();
        }
    }

    /// What comes after a flush is searched from its beginning, where the search was called off.
    pub(super) fn forget_search(&self) {
        let mut state = self.state();
        if matches!(state.check, Check::Running(_)) {
            let before = std::mem::take(&mut state.check);
            drop(state);
            drop(before);
        }
    }
}
