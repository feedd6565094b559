//! Loading a model on a thread of an element that has more to do, and keeping it from run to run.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sora_engine_api::{Engine, EngineError, FrameBatch, Level, Model, ModelOptions, Observer, Progress};

use crate::messages::{LoadingTold, Reporter};
use crate::model::ModelInfo;

/// The model that stays loaded between runs, with what it was opened by.
pub(crate) type KeptModel = Arc<Mutex<Option<(ModelOptions, Arc<Model>)>>>;

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
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().clone().filter(|(options, _)| *options == info.options);
    let began = Instant::now();
    if let Some((_, model)) = known {
        return Ok(Some((model, began.elapsed())));
    }
    if !told.swap(true, Ordering::SeqCst) {
        reporter.start("load", &format!("loading {}", info.name));
    }
    let engine = Engine::open()?;
    let mut loading = Loading { owner, reporter, told: LoadingTold::default() };
    let model = match engine.open_model(&info.options, &mut loading) {
        Ok(model) => Arc::new(model),
        Err(EngineError::Cancelled) => return Ok(None),
        Err(error) => return Err(error),
    };
    *lock() = Some((info.options.clone(), Arc::clone(&model)));
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
