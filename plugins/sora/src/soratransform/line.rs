//! The queue between the streaming thread and the worker: frames in whole blocks, and what must not pass them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What to do with a frame when a whole block waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// Wait until there is room.
    Wait,
    /// Drop the frame that waits longest.
    DropOldest,
}

/// A queue of frames `F`, barriers `B` that no frame passes, and riders `R` that go with a frame.
#[derive(Debug)]
pub(super) struct Line<F, B, R> {
    state: Mutex<State<F, B, R>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<F, B, R> {
    items: VecDeque<Item<F, B, R>>,
    /// Frames among the items.
    frames: usize,
    /// Riders that wait for a frame.
    riders: Vec<R>,
    flushing: bool,
    stopped: bool,
    /// The worker may begin.
    released: bool,
    /// Counts the flushes: work of an earlier epoch is thrown away.
    epoch: u64,
    /// The worker is handing something on that must not be overtaken by a flush.
    handing_on: bool,
    /// The worker is gone.
    left: bool,
    /// No more frames are taken in, for this reason.
    refused: Option<gst::FlowError>,
    /// The worker has failed and takes nothing.
    failed: bool,
}

#[derive(Debug)]
enum Item<F, B, R> {
    Frame(F, Vec<R>),
    Barrier(B),
}

/// What the worker gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work<F, B, R> {
    /// A block of frames, each with its riders; fewer than wanted before a barrier, and when no more came in time.
    Frames(Vec<(F, Vec<R>)>),
    /// Nothing before it is left.
    Barrier(B),
    /// A flush has passed; the number of the new epoch.
    Flushed(u64),
    /// The end.
    Stop,
}

/// Why nothing was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    Flushing,
    /// Downstream takes no more.
    Refused(gst::FlowError),
}

impl Interrupted {
    /// As the answer to upstream.
    pub(super) fn flow(self) -> gst::FlowError {
        match self {
            Self::Flushing => gst::FlowError::Flushing,
            Self::Refused(reason) => reason,
        }
    }
}

impl<F, B, R> Default for Line<F, B, R> {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            frames: 0,
            riders: Vec::new(),
            flushing: false,
            stopped: false,
            released: false,
            epoch: 0,
            handing_on: false,
            left: false,
            refused: None,
            failed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<F, B, R> State<F, B, R> {
    fn accepts(&self) -> Result<(), Interrupted> {
        if self.flushing || self.stopped { Err(Interrupted::Flushing) } else { Ok(()) }
    }

    fn clear(&mut self) {
        self.items.clear();
        self.riders.clear();
        self.frames = 0;
    }

    /// Frames before the first barrier.
    fn run(&self) -> usize {
        self.items.iter().take_while(|item| matches!(item, Item::Frame(..))).count()
    }

    fn drop_oldest(&mut self) -> Option<F> {
        let at = self.items.iter().position(|item| matches!(item, Item::Frame(..)))?;
        let Some(Item::Frame(frame, mut riders)) = self.items.remove(at) else { return None };
        self.frames -= 1;
        match self.items.get_mut(at) {
            Some(Item::Frame(_, next)) => {
                riders.append(next);
                *next = riders;
            }
            _ => {
                riders.append(&mut self.riders);
                self.riders = riders;
            }
        }
        Some(frame)
    }
}

impl<F, B, R> Line<F, B, R> {
    fn lock(&self) -> MutexGuard<'_, State<F, B, R>> {
        // The state is whole at every unlock, also on the way of a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<F, B, R>>) -> MutexGuard<'a, State<F, B, R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame in, which waits behind at most `most` − 1 others; returns a frame that was dropped for it.
    pub(super) fn push_frame(
        &self,
        frame: F,
        most: usize,
        when_full: WhenFull,
    ) -> Result<Option<F>, Interrupted> {
        let mut state = self.lock();
        let mut dropped = None;
        loop {
            state.accepts()?;
            if let Some(reason) = state.refused {
                return Err(Interrupted::Refused(reason));
            }
            if state.frames < most.max(1) {
                break;
            }
            match when_full {
                WhenFull::DropOldest => dropped = state.drop_oldest(),
                WhenFull::Wait => state = self.wait(state),
            }
        }
        let riders = std::mem::take(&mut state.riders);
        state.items.push_back(Item::Frame(frame, riders));
        state.frames += 1;
        drop(state);
        self.changed.notify_all();
        Ok(dropped)
    }

    /// Takes in what frames must not pass. The frames before it are worked off, also where they make no block.
    pub(super) fn push_barrier(&self, barrier: B) -> Result<(), Interrupted> {
        let mut state = self.lock();
        state.accepts()?;
        state.items.push_back(Item::Barrier(barrier));
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes in what goes before the next frame, and does not break a block.
    pub(super) fn push_rider(&self, rider: R) -> Result<(), Interrupted> {
        let mut state = self.lock();
        state.accepts()?;
        state.riders.push(rider);
        Ok(())
    }

    /// Riders without a frame, for whoever hands on a barrier.
    pub(super) fn take_riders(&self) -> Vec<R> {
        std::mem::take(&mut self.lock().riders)
    }

    /// Frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().frames
    }

    /// Waits for work. `wanted` says how many frames make a block just now; it is asked again after
    /// [`Line::reconsider`]. A block that is begun and not complete within `patience` is given as it is.
    pub(super) fn take(
        &self,
        epoch: u64,
        wanted: impl Fn() -> usize,
        patience: impl Fn() -> Option<Duration>,
    ) -> Work<F, B, R> {
        let mut state = self.lock();
        let mut impatient = false;
        loop {
            if state.stopped {
                return Work::Stop;
            }
            if state.epoch != epoch {
                return Work::Flushed(state.epoch);
            }
            if state.released && !state.flushing {
                let run = state.run();
                let barred = run < state.items.len();
                let want = wanted().max(1);
                if run >= want || (run > 0 && (barred || impatient)) {
                    return Work::Frames(Self::take_run(&mut state, run.min(want), &self.changed));
                }
                if barred && let Some(Item::Barrier(barrier)) = state.items.pop_front() {
                    return Work::Barrier(barrier);
                }
                if let (1.., Some(patience)) = (run, patience()) {
                    let before = state.frames;
                    let waited = self.changed.wait_timeout(state, patience);
                    let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    impatient = timeout.timed_out() && after.frames == before;
                    state = after;
                    continue;
                }
            }
            state = self.wait(state);
        }
    }

    fn take_run(
        state: &mut MutexGuard<'_, State<F, B, R>>,
        count: usize,
        changed: &Condvar,
    ) -> Vec<(F, Vec<R>)> {
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            if let Some(Item::Frame(frame, riders)) = state.items.pop_front() {
                frames.push((frame, riders));
            }
        }
        state.frames -= frames.len();
        changed.notify_all();
        frames
    }

    /// Hands something on unless a flush or the end has come since `epoch`; a flush waits until it is done.
    pub(super) fn hand_on<T>(&self, epoch: u64, hand_on: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = self.lock();
            if state.epoch != epoch || state.stopped {
                return None;
            }
            state.handing_on = true;
        }
        let result = hand_on();
        self.lock().handing_on = false;
        self.changed.notify_all();
        Some(result)
    }

    /// Whether work of this epoch is of no use any more.
    pub(super) fn is_stale(&self, epoch: u64) -> bool {
        let state = self.lock();
        state.stopped || state.epoch != epoch
    }

    /// Throws away what waits, but for what is to be kept, and what is being worked on; nothing is taken in until
    /// [`Line::flush_stop`].
    pub(super) fn flush_start(&self, keep: impl Fn(&B) -> bool, keep_rider: impl Fn(&R) -> bool) {
        let mut state = self.lock();
        state.flushing = true;
        if !state.failed {
            state.refused = None;
        }
        state.epoch += 1;
        let waiting = std::mem::take(&mut state.riders);
        state.frames = 0;
        for item in std::mem::take(&mut state.items) {
            match item {
                Item::Barrier(barrier) if keep(&barrier) => state.items.push_back(Item::Barrier(barrier)),
                Item::Barrier(_) => {}
                Item::Frame(_, riders) => state.riders.extend(riders),
            }
        }
        state.riders.extend(waiting);
        state.riders.retain(keep_rider);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until nothing of before the flush can be handed on any more, then takes in again.
    pub(super) fn flush_stop(&self) {
        let mut state = self.lock();
        while state.handing_on && !state.stopped {
            state = self.wait(state);
        }
        state.flushing = false;
        drop(state);
        self.changed.notify_all();
    }

    /// No more frames are taken in until a flush, unless one has come since `epoch`.
    pub(super) fn refuse(&self, epoch: u64, reason: gst::FlowError) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.refused = Some(reason);
            state.items.retain(|item| matches!(item, Item::Barrier(_)));
            state.frames = 0;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// No more frames are taken in, whatever comes: the worker has failed.
    pub(super) fn refuse_for_good(&self, reason: gst::FlowError) {
        let mut state = self.lock();
        state.refused = Some(reason);
        state.failed = true;
        state.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the end has come.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Why no more frames are taken in.
    pub(super) fn refusal(&self) -> Option<gst::FlowError> {
        self.lock().refused
    }

    /// Asks again how many frames make a block.
    pub(super) fn reconsider(&self) {
        // Whoever waits either has not yet looked, or is woken: the lock is taken in between.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Lets the worker begin.
    pub(super) fn release(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }

    /// The worker's side of [`Line::release`]; `false` when the end came first.
    pub(super) fn wait_for_release(&self) -> bool {
        let mut state = self.lock();
        while !state.released && !state.stopped {
            state = self.wait(state);
        }
        !state.stopped
    }

    /// The end: wakes everybody.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// The worker is gone.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.changed.notify_all();
    }

    /// Waits until the worker is gone; `false` if it is still there after `patience`.
    pub(super) fn wait_left(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| !state.left);
        waited.unwrap_or_else(PoisonError::into_inner).0.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestLine = Line<u32, char, char>;

    fn line() -> TestLine {
        let line = TestLine::default();
        line.release();
        line
    }

    fn take(line: &TestLine, wanted: usize) -> Work<u32, char, char> {
        line.take(0, || wanted, || None)
    }

    fn frames(list: &[u32]) -> Work<u32, char, char> {
        Work::Frames(list.iter().map(|frame| (*frame, Vec::new())).collect())
    }

    #[test]
    fn frames_come_in_blocks_and_none_passes_a_barrier() {
        let line = line();
        for frame in 0..6 {
            assert_eq!(line.push_frame(frame, 10, WhenFull::Wait), Ok(None));
        }
        line.push_barrier('e').expect("it takes in");
        assert_eq!(take(&line, 4), frames(&[0, 1, 2, 3]));
        assert_eq!(take(&line, 4), frames(&[4, 5]), "what is left before a barrier is no whole block");
        assert_eq!(take(&line, 4), Work::Barrier('e'));
    }

    #[test]
    fn of_a_full_line_the_oldest_frame_goes_and_its_riders_stay() {
        let line = line();
        line.push_rider('t').expect("it takes in");
        for frame in 0..3 {
            assert_eq!(line.push_frame(frame, 2, WhenFull::DropOldest), Ok((frame == 2).then_some(0)));
        }
        assert_eq!(take(&line, 2), Work::Frames(vec![(1, vec!['t']), (2, vec![])]));
        line.push_rider('u').expect("it takes in");
        line.push_frame(7, 1, WhenFull::DropOldest).expect("it takes in");
        assert_eq!(line.push_frame(8, 1, WhenFull::DropOldest), Ok(Some(7)));
        assert_eq!(take(&line, 1), Work::Frames(vec![(8, vec!['u'])]));
    }

    #[test]
    fn a_full_line_makes_the_source_wait() {
        let line = line();
        line.push_frame(1, 1, WhenFull::Wait).expect("room");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| line.push_frame(2, 1, WhenFull::Wait));
            assert_eq!(take(&line, 1), frames(&[1]));
            assert_eq!(second.join().expect("no panic"), Ok(None));
        });
        assert_eq!(take(&line, 1), frames(&[2]));
    }

    #[test]
    fn a_flush_wakes_who_waits_and_leaves_nothing_of_before() {
        let line = line();
        line.push_frame(1, 1, WhenFull::Wait).expect("room");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| line.push_frame(2, 1, WhenFull::Wait));
            line.flush_start(|barrier| *barrier == 'c', |_| true);
            assert_eq!(second.join().expect("no panic"), Err(Interrupted::Flushing));
        });
        line.flush_stop();
        assert_eq!(line.hand_on(0, || ()), None, "work of before the flush is stale");
        assert_eq!(take(&line, 1), Work::Flushed(1));
        line.push_frame(3, 1, WhenFull::Wait).expect("room");
        assert_eq!(line.take(1, || 1, || None), frames(&[3]));
    }

    #[test]
    fn what_is_kept_over_a_flush_comes_after_it() {
        let line = line();
        line.push_barrier('c').expect("it takes in");
        line.push_rider('t').expect("it takes in");
        line.push_frame(1, 4, WhenFull::Wait).expect("room");
        line.push_barrier('e').expect("it takes in");
        line.flush_start(|barrier| *barrier == 'c', |_| true);
        line.flush_stop();
        assert_eq!(take(&line, 4), Work::Flushed(1));
        assert_eq!(line.take(1, || 4, || None), Work::Barrier('c'));
        line.push_frame(2, 4, WhenFull::Wait).expect("room");
        assert_eq!(line.take(1, || 1, || None), Work::Frames(vec![(2, vec!['t'])]));
    }

    #[test]
    fn a_block_that_stays_incomplete_is_given_after_a_while() {
        let line = line();
        line.push_frame(1, 4, WhenFull::Wait).expect("room");
        assert_eq!(line.take(0, || 4, || Some(Duration::from_millis(1))), frames(&[1]));
    }

    #[test]
    fn the_size_of_a_block_may_change_while_one_is_begun() {
        let line = line();
        line.push_frame(1, 4, WhenFull::Wait).expect("room");
        let wanted = std::sync::atomic::AtomicUsize::new(4);
        std::thread::scope(|scope| {
            let taking =
                scope.spawn(|| line.take(0, || wanted.load(std::sync::atomic::Ordering::SeqCst), || None));
            wanted.store(1, std::sync::atomic::Ordering::SeqCst);
            line.reconsider();
            assert_eq!(taking.join().expect("no panic"), frames(&[1]));
        });
    }

    #[test]
    fn what_downstream_refuses_is_refused_upstream_until_a_flush() {
        let line = line();
        line.push_frame(1, 4, WhenFull::Wait).expect("room");
        line.push_barrier('e').expect("it takes in");
        line.refuse(0, gst::FlowError::NotLinked);
        let refused = Err(Interrupted::Refused(gst::FlowError::NotLinked));
        assert_eq!(line.push_frame(2, 4, WhenFull::Wait), refused);
        assert_eq!(take(&line, 4), Work::Barrier('e'), "events go on");
        line.flush_start(|barrier| *barrier == 'c', |_| true);
        line.refuse(0, gst::FlowError::Flushing);
        line.flush_stop();
        assert_eq!(line.push_frame(3, 4, WhenFull::Wait), Ok(None), "a refusal of before the flush is over");
    }

    #[test]
    fn the_end_wakes_everybody() {
        let line = line();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| take(&line, 1));
            line.stop();
            assert_eq!(taking.join().expect("no panic"), Work::Stop);
        });
        assert_eq!(line.push_frame(1, 1, WhenFull::Wait), Err(Interrupted::Flushing));
    }
}
