//! Leaving the process while libtorch computes.
//!
//! `exit` runs libtorch's destructors while other threads may still be inside it, which crashes. An
//! element that is stopped does not wait for a long denoising step, so this happens to anybody who
//! presses Ctrl-C in one. A handler that is registered after libtorch's own runs before them: it lets the
//! computations reach their next callback and keeps them there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A large model on a slow machine may need longer for a step; then leaving comes first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reports of a model loading and of its first clip; later ones meet nothing new.
const REGISTRATIONS: usize = 1024;

struct State {
    computing: usize,
    leaving: bool,
}

static STATE: Mutex<State> = Mutex::new(State { computing: 0, leaving: false });
static CHANGED: Condvar = Condvar::new();

/// Marks this thread as computing until dropped.
pub(crate) struct Computing(());

impl Computing {
    pub(crate) fn begin() -> Self {
        register();
        enter();
        Self(())
    }

    /// Runs a callback of the caller, during which this thread is not inside libtorch.
    pub(crate) fn outside<T>(&self, callback: impl FnOnce() -> T) -> T {
        leave();
        let result = callback();
        register();
        enter();
        result
    }
}

/// Handlers run in the reverse order of their registration, and libtorch registers more destructors
/// whenever it does something for the first time. So this one is registered again and again while
/// things happen for the first time; once it has run, the others find nothing to do.
fn register() {
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    if TIMES.fetch_add(1, Ordering::Relaxed) < REGISTRATIONS {
        // SAFETY: the handler is a function of this library, which is never closed.
        unsafe { libc::atexit(wait_for_computations) };
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    while state.leaving {
        // The process is about to end; this thread must not touch libtorch again.
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.computing += 1;
}

fn leave() {
    STATE.lock().unwrap_or_else(PoisonError::into_inner).computing -= 1;
    CHANGED.notify_all();
}

extern "C" fn wait_for_computations() {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    state.leaving = true;
    // Whether they stopped or patience ran out, there is nothing more to do.
    let _ = CHANGED.wait_timeout_while(state, PATIENCE, |state| state.computing > 0);
}
