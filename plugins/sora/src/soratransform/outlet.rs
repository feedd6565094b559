//! The queue between the worker and the thread that pushes: a sink that waits for a frame's time must not hold up the
//! next block. No GStreamer here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue of frames `F` and events `E`, each of the epoch that it was made in.
#[derive(Debug)]
pub(super) struct Outlet<F, E> {
    state: Mutex<State<F, E>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<F, E> {
    items: VecDeque<(u64, Out<F, E>)>,
    frames: usize,
    stopped: bool,
}

/// What is to be pushed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out<F, E> {
    Frame(F),
    Event(E),
}

impl<F, E> Default for Outlet<F, E> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), frames: 0, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<F, E> Outlet<F, E> {
    fn lock(&self) -> MutexGuard<'_, State<F, E>> {
        // The state is whole at every unlock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something at the end. A frame waits while `most` others do, unless it is not wanted any more.
    pub(super) fn put(&self, epoch: u64, out: Out<F, E>, most: usize, is_stale: impl Fn() -> bool) {
        let is_frame = matches!(out, Out::Frame(_));
        let mut state = self.lock();
        while is_frame && state.frames >= most.max(1) && !state.stopped && !is_stale() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return;
        }
        state.frames += usize::from(is_frame);
        state.items.push_back((epoch, out));
        drop(state);
        self.changed.notify_all();
    }

    /// The next to be pushed; `None` at the end.
    pub(super) fn take(&self) -> Option<(u64, Out<F, E>)> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                state.frames -= usize::from(matches!(item.1, Out::Frame(_)));
                drop(state);
                self.changed.notify_all();
                return Some(item);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whoever waits with a frame looks again whether it is wanted.
    pub(super) fn reconsider(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// The end: wakes everybody.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.items.clear();
        state.frames = 0;
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn frames_and_events_keep_their_order_and_frames_wait_for_room() {
        let outlet = Outlet::<u32, char>::default();
        outlet.put(0, Out::Event('a'), 1, || false);
        outlet.put(0, Out::Frame(1), 1, || false);
        outlet.put(0, Out::Event('b'), 1, || false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| outlet.put(0, Out::Frame(2), 1, || false));
            let taken: Vec<_> = (0..4).filter_map(|_| outlet.take()).map(|(_, out)| out).collect();
            assert_eq!(taken, [Out::Event('a'), Out::Frame(1), Out::Event('b'), Out::Frame(2)]);
            second.join().expect("no panic");
        });
    }

    #[test]
    fn a_frame_that_is_not_wanted_any_more_waits_no_longer() {
        let outlet = Outlet::<u32, char>::default();
        let stale = AtomicBool::new(false);
        outlet.put(0, Out::Frame(1), 1, || false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| outlet.put(0, Out::Frame(2), 1, || stale.load(Ordering::SeqCst)));
            stale.store(true, Ordering::SeqCst);
            outlet.reconsider();
            second.join().expect("no panic");
            let third = scope.spawn(|| outlet.put(0, Out::Frame(3), 1, || false));
            outlet.stop();
            third.join().expect("no panic");
        });
        assert_eq!(outlet.take(), None);
    }
}
