//! One value per key for everybody who asks while it lives.
//!
//! The value is made on a thread of its own, so that nobody who waits for it owns its making: a
//! caller may give up at any moment, and the making is called off only when all have.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a waiting caller is asked whether it still wants the value.
const POLL: Duration = Duration::from_millis(40);

/// How long the last caller that gives up waits for the making to be called off.
const CALL_OFF_PATIENCE: Duration = Duration::from_millis(800);

/// Why a caller did not get the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError<E> {
    /// The caller gave up.
    Cancelled,
    /// Making the value failed; all who waited get the same error.
    Failed(E),
}

/// Values of type `V` shared by key; `N` is what their makers have to say meanwhile.
pub struct Registry<K, V, E, N> {
    slots: Mutex<Slots<K, V, E, N>>,
}

impl<K, V, E, N> Default for Registry<K, V, E, N> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

type Slots<K, V, E, N> = HashMap<K, Arc<Slot<V, E, N>>>;

/// A value and its making.
struct Slot<V, E, N> {
    state: Mutex<State<V, E, N>>,
    changed: Condvar,
    /// The maker, until somebody has waited for its end.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State<V, E, N> {
    /// Callers in `open` that have not got the value yet.
    waiting: usize,
    phase: Phase<V, E>,
    notes: Vec<N>,
}

enum Phase<V, E> {
    Making,
    /// The strong reference keeps the value for those who still wait.
    Made(Weak<V>, Option<Arc<V>>),
    Failed(E),
}

/// Given to the maker of a value.
pub struct Making<V, E, N>(Arc<Slot<V, E, N>>);

// Not derived, which would ask for `V: Clone` and so on.
impl<V, E, N> Clone for Making<V, E, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V, E, N> Making<V, E, N> {
    /// Tells all callers something. Breaks when none is left.
    pub fn note(&self, note: N) -> ControlFlow<()> {
        let mut state = self.0.lock();
        state.notes.push(note);
        self.0.changed.notify_all();
        if state.waiting == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl<V, E, N> Slot<V, E, N> {
    fn lock(&self) -> MutexGuard<'_, State<V, E, N>> {
        // Nothing panics while holding it but for want of memory; the state is whole at all times.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, result: Result<V, E>) {
        let mut state = self.lock();
        state.phase = match result.map(Arc::new) {
            Ok(value) if state.waiting > 0 => Phase::Made(Arc::downgrade(&value), Some(value)),
            Ok(unwanted) => {
                // Freed before the making is over, and not under the lock. Nobody can join meanwhile.
                drop(state);
                drop(unwanted);
                state = self.lock();
                Phase::Made(Weak::new(), None)
            }
            Err(error) => Phase::Failed(error),
        };
        drop(state);
        self.changed.notify_all();
    }

    /// Waits a moment for a making that was called off, and for the end of a thread that is done: a
    /// caller that leaves the process next should leave nothing running behind it.
    fn settle(&self) {
        let called_off =
            |state: &mut State<V, E, N>| state.waiting == 0 && matches!(state.phase, Phase::Making);
        let waited = self.changed.wait_timeout_while(self.lock(), CALL_OFF_PATIENCE, called_off);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if matches!(state.phase, Phase::Making) {
            return;
        }
        drop(state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // `make` does not panic; if it did, there is nothing to add to it.
            let _ = thread.join();
        }
    }
}

impl<K, V, E, N> Registry<K, V, E, N>
where
    K: Eq + Hash,
    V: Send + Sync + 'static,
    E: Clone + From<io::Error> + Send + 'static,
    N: Clone + Send + 'static,
{
    /// The value of `key`: the one that lives, the one being made, or a new one from `make`.
    ///
    /// `make` runs on a thread of its own and must not panic.
    ///
    /// `on_note` is called on this thread with everything that [`Making::note`] was told, and with
    /// `None` some twenty times a second; when it breaks, this caller has given up.
    ///
    /// # Errors
    /// [`OpenError::Failed`] with what `make` said, [`OpenError::Cancelled`].
    pub fn open(
        &self,
        key: K,
        make: impl FnOnce(&Making<V, E, N>) -> Result<V, E> + Send + 'static,
        on_note: &mut dyn FnMut(Option<&N>) -> ControlFlow<()>,
    ) -> Result<Arc<V>, OpenError<E>> {
        let slot = match self.join(key) {
            Joined::Living(value) => return Ok(value),
            Joined::Making(slot) => slot,
            Joined::New(slot) => {
                start(&slot, make);
                slot
            }
        };
        let result = wait(&slot, on_note);
        slot.settle();
        result
    }

    fn join(&self, key: K) -> Joined<V, E, N> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&key) {
            let mut state = slot.lock();
            match &state.phase {
                // Without callers its making is being called off.
                Phase::Making if state.waiting > 0 => {
                    state.waiting += 1;
                    drop(state);
                    return Joined::Making(Arc::clone(slot));
                }
                Phase::Made(value, _) => {
                    if let Some(value) = value.upgrade() {
                        return Joined::Living(value);
                    }
                }
                Phase::Making | Phase::Failed(_) => {}
            }
        }
        let slot = Arc::new(Slot {
            state: Mutex::new(State { waiting: 1, phase: Phase::Making, notes: Vec::new() }),
            changed: Condvar::new(),
            thread: Mutex::default(),
        });
        slots.insert(key, Arc::clone(&slot));
        Joined::New(slot)
    }
}

enum Joined<V, E, N> {
    Living(Arc<V>),
    Making(Arc<Slot<V, E, N>>),
    New(Arc<Slot<V, E, N>>),
}

fn start<V, E, N>(
    slot: &Arc<Slot<V, E, N>>,
    make: impl FnOnce(&Making<V, E, N>) -> Result<V, E> + Send + 'static,
) where
    V: Send + Sync + 'static,
    E: From<io::Error> + Send + 'static,
    N: Send + 'static,
{
    let making = Making(Arc::clone(slot));
    let thread = std::thread::Builder::new().name("sora-load".into());
    let started = thread.spawn(move || {
        let result = make(&making);
        making.0.finish(result);
    });
    match started {
        Ok(thread) => *slot.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
        Err(error) => slot.finish(Err(error.into())),
    }
}

fn wait<V, E: Clone, N: Clone>(
    slot: &Slot<V, E, N>,
    on_note: &mut dyn FnMut(Option<&N>) -> ControlFlow<()>,
) -> Result<Arc<V>, OpenError<E>> {
    let mut seen = 0;
    let mut state = slot.lock();
    loop {
        let news: Vec<N> = state.notes[seen..].to_vec();
        seen = state.notes.len();
        let result = match &mut state.phase {
            Phase::Making => None,
            Phase::Made(_, keep) => keep.clone().map(Ok),
            Phase::Failed(error) => Some(Err(OpenError::Failed(error.clone()))),
        };
        drop(state);
        let mut flow = on_note(None);
        for note in &news {
            if flow.is_continue() {
                flow = on_note(Some(note));
            }
        }
        state = slot.lock();
        let result = if flow.is_break() { Some(Err(OpenError::Cancelled)) } else { result };
        if let Some(result) = result {
            state.waiting -= 1;
            if let (0, Phase::Made(_, keep)) = (state.waiting, &mut state.phase) {
                *keep = None;
            }
            return result;
        }
        if seen == state.notes.len() && matches!(state.phase, Phase::Making) {
            state = match slot.changed.wait_timeout(state, POLL) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
