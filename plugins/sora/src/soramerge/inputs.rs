//! The two queues between the streaming threads and the worker.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst_video::VideoInfo;

/// Frames that may wait on one input.
const MOST_WAITING: usize = 4;
/// How often somebody who waits looks whether time runs.
const SLICE: Duration = Duration::from_millis(50);

/// One of the two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

impl Side {
    /// The name of its pad.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Item {
    /// A frame and its running time.
    Frame(gst::Buffer, Option<gst::ClockTime>),
    /// The format of the frames after it.
    Caps(gst::Caps, VideoInfo),
    /// The end.
    Eos,
}

/// What the worker gets.
#[derive(Debug)]
pub(super) enum Taken {
    Item(Item),
    /// Nothing came in time.
    Late,
    /// The run is over.
    Stopped,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    frames: usize,
    flushing: bool,
    /// The worker wants no more of it.
    done: bool,
}

#[derive(Debug, Default)]
struct State {
    from: Queue,
    to: Queue,
    released: bool,
    stopped: bool,
    refused: Option<gst::FlowError>,
}

impl State {
    fn queue(&mut self, side: Side) -> &mut Queue {
        match side {
            Side::From => &mut self.from,
            Side::To => &mut self.to,
        }
    }
}

/// Both queues.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inputs {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at every unlock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something in; a frame waits for room, or, where it must not, takes that of the oldest one, which is then
    /// dropped: `true`.
    pub(super) fn push(&self, side: Side, item: Item, drops: bool) -> Result<bool, gst::FlowError> {
        let is_frame = matches!(item, Item::Frame(..));
        let mut state = self.lock();
        let mut dropped = false;
        loop {
            let (stopped, refused) = (state.stopped, state.refused);
            let queue = state.queue(side);
            if stopped || queue.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if queue.done {
                return Err(gst::FlowError::Eos);
            }
            if let Some(reason) = refused {
                return Err(reason);
            }
            if !is_frame || queue.frames < MOST_WAITING {
                break;
            }
            if drops {
                let oldest = queue.items.iter().position(|item| matches!(item, Item::Frame(..)));
                queue.items.remove(oldest.expect("as many wait as may"));
                queue.frames -= 1;
                dropped = true;
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let queue = state.queue(side);
        queue.frames += usize::from(is_frame);
        queue.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        Ok(dropped)
    }

    /// The next item. With `patience` only within so much time, as far as `time_runs`.
    pub(super) fn take(&self, side: Side, patience: Option<Duration>, time_runs: impl Fn() -> bool) -> Taken {
        let mut waited = Duration::ZERO;
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Taken::Stopped;
            }
            let released = state.released;
            if let (true, Some(item)) = (released, state.queue(side).items.pop_front()) {
                state.queue(side).frames -= usize::from(matches!(item, Item::Frame(..)));
                drop(state);
                self.changed.notify_all();
                return Taken::Item(item);
            }
            if patience.is_some_and(|patience| waited >= patience) {
                return Taken::Late;
            }
            let began = Instant::now();
            let slice = self.changed.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner);
            drop(slice);
            if time_runs() {
                waited += began.elapsed();
            }
            state = self.lock();
        }
    }

    /// Nothing more is taken in on this side.
    pub(super) fn done(&self, side: Side) {
        let mut state = self.lock();
        let queue = state.queue(side);
        queue.done = true;
        queue.items.clear();
        queue.frames = 0;
        drop(state);
        self.changed.notify_all();
    }

    /// Throws away what waits on this side; nothing is taken in until the flush is over.
    pub(super) fn flush(&self, side: Side, flushing: bool) {
        let mut state = self.lock();
        let queue = state.queue(side);
        queue.flushing = flushing;
        queue.items.retain(|item| matches!(item, Item::Caps(..)));
        queue.frames = 0;
        drop(state);
        self.changed.notify_all();
    }

    /// No more frames are taken in, for this reason.
    pub(super) fn refuse(&self, reason: gst::FlowError) {
        self.lock().refused = Some(reason);
        self.changed.notify_all();
    }

    /// The worker may begin.
    pub(super) fn release(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }

    /// The worker's side of [`Inputs::release`]; `false` when the run is over.
    pub(super) fn wait_for_release(&self) -> bool {
        let mut state = self.lock();
        while !state.released && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped
    }

    /// The end of the run: wakes everybody.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Item {
        gst::init().expect("GStreamer starts");
        Item::Frame(gst::Buffer::new(), None)
    }

    #[test]
    fn an_input_waits_for_room_and_one_that_may_not_drops_its_oldest() {
        let inputs = Inputs::default();
        inputs.release();
        for _ in 0..MOST_WAITING {
            assert_eq!(inputs.push(Side::To, frame(), false), Ok(false));
        }
        assert_eq!(inputs.push(Side::To, frame(), true), Ok(true));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| inputs.push(Side::To, frame(), false));
            assert!(matches!(inputs.take(Side::To, None, || true), Taken::Item(Item::Frame(..))));
            assert_eq!(waiting.join().expect("no panic"), Ok(false));
            let waiting = scope.spawn(|| inputs.push(Side::To, frame(), false));
            inputs.flush(Side::To, true);
            assert_eq!(waiting.join().expect("no panic"), Err(gst::FlowError::Flushing));
        });
        inputs.flush(Side::To, false);
        inputs.done(Side::To);
        assert_eq!(inputs.push(Side::To, frame(), false), Err(gst::FlowError::Eos));
    }

    #[test]
    fn patience_counts_only_while_time_runs() {
        let inputs = Inputs::default();
        inputs.release();
        assert!(matches!(inputs.take(Side::From, Some(Duration::ZERO), || false), Taken::Late));
        let asked = std::cell::Cell::new(0);
        let time_runs = || {
            asked.set(asked.get() + 1);
            asked.get() > 3
        };
        assert!(matches!(inputs.take(Side::From, Some(Duration::from_millis(1)), time_runs), Taken::Late));
        assert_eq!(asked.get(), 4);
        inputs.stop();
        assert!(matches!(inputs.take(Side::From, None, || true), Taken::Stopped));
    }
}
