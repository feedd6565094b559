//! What the streaming thread and the worker of one clip share: a request one way, frames the other,
//! and an end that either may call. No GStreamer here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sora_engine_api::Generation;

/// Decoded batches that may wait for downstream; the decoder then waits. A batch is what the
/// decoder makes of one latent frame.
const MAX_WAITING: usize = 2;

/// Opening a library takes a fraction of a second; on a machine this far behind nothing helps.
const ENTANGLED_PATIENCE: Duration = Duration::from_secs(60);

/// One clip in the making.
#[derive(Debug, Default)]
pub(super) struct Job {
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    request: Option<Generation>,
    waiting: VecDeque<Batch>,
    /// No more batches will come.
    end: Option<End>,
    /// The worker may begin.
    released: bool,
    /// The worker is in the middle of something that the process must not end in.
    entangled: bool,
    /// The worker has left; nothing of this clip computes any more.
    left: bool,
    flushing: bool,
}

/// How a clip ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All frames were made.
    Complete,
    /// An error has been posted.
    Failed,
}

#[derive(Debug)]
struct Batch {
    pixels: Arc<[u8]>,
    frame_size: usize,
    next: usize,
}

/// One frame, RGB24.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    batch: Arc<[u8]>,
    start: usize,
    size: usize,
}

impl Frame {
    pub(super) fn pixels(&self) -> &[u8] {
        &self.batch[self.start..self.start + self.size]
    }
}

/// What the streaming thread gets.
#[derive(Debug)]
pub(super) enum Next {
    Frame(Frame),
    End(End),
    /// Interrupted; more may come later.
    Flushing,
    /// The clip was called off.
    Cancelled,
    /// There was none in time.
    Late,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at every unlock, also on the way of a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the clip off. The worker notices at its next report, everybody who waits at once.
    pub(super) fn cancel(&self) {
        let mut state = self.lock();
        self.cancelled.store(true, Ordering::SeqCst);
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Lets [`Job::next`] return at once, until undone.
    pub(super) fn set_flushing(&self, flushing: bool) {
        self.lock().flushing = flushing;
        self.changed.notify_all();
    }

    /// Lets the worker begin.
    pub(super) fn release(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }

    /// The worker's side of [`Job::release`]; `false` when the clip was called off.
    pub(super) fn wait_for_release(&self) -> bool {
        let mut state = self.lock();
        while !state.released && !self.is_cancelled() {
            state = self.wait(state);
        }
        !self.is_cancelled()
    }

    /// Says what to make, once.
    pub(super) fn request(&self, generation: Generation) {
        self.lock().request = Some(generation);
        self.changed.notify_all();
    }

    /// The worker's side of [`Job::request`]; `None` when the clip was called off.
    pub(super) fn wait_for_request(&self) -> Option<Generation> {
        let mut state = self.lock();
        loop {
            if self.is_cancelled() {
                return None;
            }
            if let Some(generation) = state.request.take() {
                return Some(generation);
            }
            state = self.wait(state);
        }
    }

    /// Hands over whole frames of `frame_size` bytes; waits while downstream is behind. `false` when
    /// the clip was called off.
    pub(super) fn push(&self, pixels: &[u8], frame_size: usize) -> bool {
        let batch = Batch { pixels: pixels.into(), frame_size, next: 0 };
        let mut state = self.lock();
        while state.waiting.len() >= MAX_WAITING && !self.is_cancelled() {
            state = self.wait(state);
        }
        if self.is_cancelled() {
            return false;
        }
        if frame_size > 0 && !batch.pixels.is_empty() {
            state.waiting.push_back(batch);
        }
        self.changed.notify_all();
        true
    }

    /// Waits a moment; `false` when the clip was called off.
    pub(super) fn pause(&self, moment: Duration) -> bool {
        let state = self.lock();
        // Whatever wakes it: who calls this looks again.
        drop(self.changed.wait_timeout(state, moment).unwrap_or_else(PoisonError::into_inner));
        !self.is_cancelled()
    }

    /// No more frames will come.
    pub(super) fn end(&self, end: End) {
        self.lock().end = Some(end);
        self.changed.notify_all();
    }

    /// Throws away what waits, but for a batch whose frames are being taken: it was made by other wishes.
    pub(super) fn drop_waiting(&self) -> usize {
        let mut state = self.lock();
        let before = state.waiting.len();
        state.waiting.retain(|batch| batch.next > 0);
        let dropped = before - state.waiting.len();
        drop(state);
        self.changed.notify_all();
        dropped
    }

    /// Frames that wait.
    pub(super) fn frames_waiting(&self) -> usize {
        let frames = |batch: &Batch| batch.pixels.len() / batch.frame_size - batch.next;
        self.lock().waiting.iter().map(frames).sum()
    }

    /// Waits for the next frame, at most for `patience` where there is one.
    pub(super) fn next(&self, patience: Option<Duration>) -> Next {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        loop {
            if state.flushing {
                return Next::Flushing;
            }
            if self.is_cancelled() {
                return Next::Cancelled;
            }
            if let Some(batch) = state.waiting.front_mut() {
                let (start, size) = (batch.next * batch.frame_size, batch.frame_size);
                batch.next += 1;
                let frame = Frame { batch: Arc::clone(&batch.pixels), start, size };
                if start + 2 * size > batch.pixels.len() {
                    state.waiting.pop_front();
                    self.changed.notify_all();
                }
                return Next::Frame(frame);
            }
            if let Some(end) = state.end {
                return Next::End(end);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.wait(state),
                Some(Duration::ZERO) => return Next::Late,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The worker is gone.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.changed.notify_all();
    }

    /// Marks the time in which the process must not end: the opening of a library.
    pub(super) fn set_entangled(&self, entangled: bool) {
        self.lock().entangled = entangled;
        self.changed.notify_all();
    }

    pub(super) fn is_entangled(&self) -> bool {
        self.lock().entangled
    }

    /// Waits until the worker is gone, at most `patience` beyond the time in which it is entangled;
    /// `false` if it is still there.
    pub(super) fn wait_left(&self, patience: Duration) -> bool {
        let wait = |state, patience, busy: fn(&mut State) -> bool| {
            let waited = self.changed.wait_timeout_while(state, patience, busy);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        let mut state = wait(self.lock(), patience, |state| !state.left);
        if state.entangled {
            state = wait(state, ENTANGLED_PATIENCE, |state| state.entangled);
            state = wait(state, patience, |state| !state.left);
        }
        state.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(job: &Job) -> Vec<u8> {
        match job.next(None) {
            Next::Frame(frame) => frame.pixels().to_vec(),
            other => panic!("{other:?} instead of a frame"),
        }
    }

    #[test]
    fn frames_come_one_by_one_in_order_then_the_end() {
        let job = Job::default();
        assert!(job.push(&[1], 1));
        assert!(job.push(&[2, 3, 4, 5], 1));
        job.end(End::Complete);
        for expected in 1..=5 {
            assert_eq!(take(&job), [expected]);
        }
        assert!(matches!(job.next(None), Next::End(End::Complete)));
    }

    #[test]
    fn the_worker_waits_for_a_slow_downstream() {
        let job = Job::default();
        assert!(job.push(&[1], 1) && job.push(&[2], 1));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| job.push(&[3], 1));
            assert_eq!(take(&job), [1]);
            assert!(third.join().expect("no panic"));
            assert_eq!(job.lock().waiting.len(), MAX_WAITING);
        });
    }

    #[test]
    fn what_was_made_by_other_wishes_is_dropped_but_not_a_batch_that_is_begun() {
        let job = Job::default();
        assert!(job.push(&[1, 2], 1) && job.push(&[3, 4], 1));
        assert_eq!(take(&job), [1]);
        assert_eq!(job.frames_waiting(), 3);
        assert_eq!(job.drop_waiting(), 1);
        assert_eq!((take(&job), job.frames_waiting()), (vec![2], 0));
        assert!(matches!(job.next(Some(Duration::ZERO)), Next::Late));
    }

    #[test]
    fn cancelling_wakes_everybody_and_drops_what_waits() {
        let job = Job::default();
        assert!(job.push(&[1], 1) && job.push(&[2], 1));
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| job.push(&[3], 1));
            job.cancel();
            assert!(!pushing.join().expect("no panic"));
        });
        assert!(matches!(job.next(None), Next::Cancelled));
        assert!(job.wait_for_request().is_none());
    }

    #[test]
    fn flushing_interrupts_and_loses_nothing() {
        let job = Job::default();
        assert!(job.push(&[1, 2], 1));
        assert_eq!(take(&job), [1]);
        job.set_flushing(true);
        assert!(matches!(job.next(None), Next::Flushing));
        job.set_flushing(false);
        assert_eq!(take(&job), [2]);
    }
}
