//! A detector on a thread of its own, fed through a bounded queue.
//!
//! The stream hands over copies of its frames. A full queue either drops the frame from the analysis
//! or holds the stream up; never does the analysis hold a buffer of the stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sora_gst::FrameLayout;
use sora_watermark::{Detector, Verdict};

use crate::planes::Kept;

/// What the analysis says, on its own thread.
pub(crate) struct Report {
    /// The verdict for all frames so far.
    pub(crate) verdict: Verdict,
    /// Everything that was handed over before [`Analysis::finish`] is in it.
    pub(crate) last: bool,
    pub(crate) counts: Counts,
}

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) analysed: u64,
    pub(crate) dropped: u64,
}

/// How the queue behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    /// Frames it holds, at least one.
    pub(crate) capacity: usize,
    /// A full queue drops the frame; else it holds the stream up.
    pub(crate) drop: bool,
    /// Time of the stream from one report to the next.
    pub(crate) interval: Duration,
}

/// Tells an analysis from all others of the process: what is said by one of the stream before is said by none of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnalysisId(u64);

impl AnalysisId {
    fn new() -> Self {
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        Self(BEGUN.fetch_add(1, Ordering::Relaxed))
    }
}

/// The running analysis. Dropping it calls it off.
pub(crate) struct Analysis {
    id: AnalysisId,
    shared: Arc<Shared>,
    queue: Queue,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<(Kept, Duration)>,
    spare: Vec<Vec<u8>>,
    counts: Counts,
    /// Nothing more comes: a last report is wanted.
    finishing: bool,
    /// The thread has ended, or is to end.
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'s>(
        &'s self,
        state: MutexGuard<'s, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'s, State> {
        self.changed.wait_while(state, condition).unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

/// Says that the thread is gone, also when it panics: nobody waits for it then.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Analysis {
    /// Starts the thread; `report` is called on it, with the name of this analysis.
    pub(crate) fn start(
        detector: Detector,
        queue: Queue,
        mut report: impl FnMut(AnalysisId, Report) + Send + 'static,
    ) -> Result<Self, String> {
        let id = AnalysisId::new();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let guard = EndOnDrop(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("sora-detect".into());
        thread
            .spawn(move || work(&guard.0, detector, queue.interval, |said| report(id, said)))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Self { id, shared, queue })
    }

    pub(crate) fn id(&self) -> AnalysisId {
        self.id
    }

    /// Hands a plane over, as it is at `time`, counted from the first frame.
    pub(crate) fn offer(&self, layout: &FrameLayout, plane: &[u8], stride: usize, time: Duration) {
        let capacity = self.queue.capacity.max(1);
        let mut state = self.shared.lock();
        if self.queue.drop && state.frames.len() >= capacity {
            state.counts.dropped += 1;
            return;
        }
        state = self.shared.wait_while(state, |state| state.frames.len() >= capacity && !state.over);
        if state.over {
            return;
        }
        let spare = state.spare.pop().unwrap_or_default();
        drop(state);
        let kept = Kept::copy(layout, plane, stride, spare);
        self.shared.lock().frames.push_back((kept, time));
        self.shared.changed.notify_all();
    }

    /// Nothing more comes. With `wait` this returns after the last report, or when the analysis is
    /// called off by another thread.
    pub(crate) fn finish(&self, wait: bool) {
        let mut state = self.shared.lock();
        state.finishing = true;
        self.shared.changed.notify_all();
        if wait {
            drop(self.shared.wait_while(state, |state| state.finishing && !state.over));
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Ends the thread at its next step and wakes who waits. A search that runs goes on for its while.
    pub(crate) fn cancel(&self) {
        self.shared.end();
    }
}

impl Drop for Analysis {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn work(shared: &Shared, mut detector: Detector, interval: Duration, mut report: impl FnMut(Report)) {
    let mut scratch = Vec::new();
    let mut reported = Duration::ZERO;
    // A search takes its while: what was called off meanwhile says nothing.
    let mut report = |verdict, last, counts| {
        if !shared.lock().over {
            report(Report { verdict, last, counts });
        }
    };
    loop {
        let state = shared.lock();
        let idle = |state: &mut State| state.frames.is_empty() && !state.finishing && !state.over;
        let mut state = shared.wait_while(state, idle);
        if state.over {
            return;
        }
        let Some((kept, time)) = state.frames.pop_front() else {
            let counts = state.counts;
            drop(state);
            report(detector.verdict(), true, counts);
            shared.lock().finishing = false;
            shared.changed.notify_all();
            continue;
        };
        state.counts.analysed += 1;
        let counts = state.counts;
        drop(state);
        shared.changed.notify_all();

        let seen = kept.with_luma(&mut scratch, |plane| match detector.push(plane, time) {
            Err(sora_watermark::WatermarkError::TimeBackwards { .. }) => {
                detector.discontinuity();
                detector.push(plane, time)
            }
            result => result,
        });
        shared.lock().spare.push(kept.into_data());
        // A frame that is no frame for a detector, such as one of 20 pixels, carries no mark.
        if seen.is_ok() && time >= reported + interval {
            reported = time;
            report(detector.interim(), false, counts);
        }
    }
}
