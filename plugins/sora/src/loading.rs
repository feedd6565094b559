//! Loading a model on a thread of an element that has more to do, and keeping it from run to run.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sora_engine_api::{Engine, EngineError, FrameBatch, Level, Model, ModelOptions, Observer, Progress};

use crate::messages::{LoadingTold, Reporter};
use crate::model::ModelInfo;

/// Opening a library takes a fraction of a second; on a machine this far behind nothing helps.
const OPENING_PATIENCE: Duration = Duration::from_secs(60);

/// The model that stays loaded between runs, with what it was opened by.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    model: Mutex<Option<(ModelOptions, Arc<Model>)>>,
    /// The engine is being opened.
    opening: Mutex<bool>,
    opened: Condvar,
}

/// Shared by an element and its worker.
pub(crate) type KeptModel = Arc<Kept>;

impl Kept {
    fn model(&self) -> MutexGuard<'_, Option<(ModelOptions, Arc<Model>)>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was opened by these options.
    pub(crate) fn opened_by(&self, options: &ModelOptions) -> Option<Arc<Model>> {
        self.model().as_ref().filter(|(opened, _)| opened == options).map(|(_, model)| Arc::clone(model))
    }

    /// Keeps this one.
    pub(crate) fn keep(&self, options: ModelOptions, model: Arc<Model>) {
        *self.model() = Some((options, model));
    }

    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.model().is_some()
    }

    /// Gives it up. What is given back frees its memory when it goes.
    pub(crate) fn take(&self) -> Option<(ModelOptions, Arc<Model>)> {
        self.model().take()
    }

    /// Waits for the end of what nothing can break off: a process that ends while a library initialises itself crashes.
    /// Its owner must be gone, so that no other opening begins. Whether there was something to wait for.
    pub(crate) fn wait_until_opened(&self) -> bool {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = *opening;
        // Whoever waits cannot do more than wait.
        drop(self.opened.wait_timeout_while(opening, OPENING_PATIENCE, |opening| *opening));
        waits
    }

    fn set_opening(&self, opening: bool) {
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
        self.opened.notify_all();
    }

    /// Opens the engine; `None` where the owner is gone.
    fn open_engine(&self, owner: &dyn Owner) -> Result<Option<&'static Engine>, EngineError> {
        self.set_opening(true);
        // In this order: who is gone from now on waits for this.
        let engine = if owner.is_gone() { Ok(None) } else { Engine::open().map(Some) };
        self.set_opening(false);
        engine
    }
}

/// Who wants the model.
pub(crate) trait Owner {
    /// Whether nobody waits for it any more.
    fn is_gone(&self) -> bool;
    /// A log line of the engine.
    fn log(&self, level: Level, target: &str, message: &str);
}

/// The kept model, or one that is loaded now, and how long that took; `None` when its owner went first. The beginning of
/// the operation is told unless `told` says that it has been.
pub(crate) fn load(
    kept: &KeptModel,
    info: &ModelInfo,
    owner: &dyn Owner,
    reporter: &Reporter,
    told: &AtomicBool,
) -> Result<Option<(Arc<Model>, Duration)>, EngineError> {
    let began = Instant::now();
    if let Some(model) = kept.opened_by(&info.options) {
        return Ok(Some((model, began.elapsed())));
    }
    if !told.swap(true, Ordering::SeqCst) {
        reporter.start("load", &format!("loading {}", info.name));
    }
    let Some(engine) = kept.open_engine(owner)? else { return Ok(None) };
    let mut loading = Loading { owner, reporter, told: LoadingTold::default() };
    let model = match engine.open_model(&info.options, &mut loading) {
        Ok(model) => Arc::new(model),
        Err(EngineError::Cancelled) => return Ok(None),
        Err(error) => return Err(error),
    };
    kept.keep(info.options.clone(), Arc::clone(&model));
    reporter.complete(&format!("{} is loaded", info.name));
    Ok(Some((model, began.elapsed())))
}

struct Loading<'a> {
    owner: &'a dyn Owner,
    reporter: &'a Reporter,
    told: LoadingTold,
}

impl Observer for Loading<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Progress::Loading { done_bytes, total_bytes } = progress {
            self.told.tell(self.reporter, done_bytes, total_bytes);
        }
        if self.owner.is_gone() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn frames(&mut self, _frames: FrameBatch<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.owner.log(level, target, message);
    }
}
