//! The thread that loads a model and makes one clip.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use sora_engine_api::{
    Engine, EngineError, FrameBatch, Generation, Level, Model, Observer, Progress, PromptEnhance,
};

use super::imp::CAT;
use super::job::{End, Job};
use super::stats::Stats;
use crate::loading::KeptModel;
use crate::messages::{self, LoadingTold, Reporter};
use crate::model::ModelInfo;

/// A clip in the making: what it shares with its worker, and how it is called off.
#[derive(Clone, Debug)]
pub(super) struct Clip {
    pub(super) job: Arc<Job>,
    reporter: Arc<Reporter>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Clip {
    /// Starts the worker, which begins when its job is released. Posts messages: no lock may be held.
    pub(super) fn start(element: &super::SoraGen, model: ModelInfo, kept: KeptModel) -> Self {
        let reporter = Arc::new(Reporter::new(element.upcast_ref()));
        let clip = Self { job: Arc::default(), reporter, thread: Arc::default() };
        if kept.opened_by(&model.options).is_none() {
            clip.reporter.start("load", &format!("loading {}", model.name));
        }
        let worker = Worker { job: clip.job.clone(), reporter: clip.reporter.clone(), model, kept };
        let thread = std::thread::Builder::new().name("soragen".into());
        match thread.spawn(move || worker.run()) {
            Ok(thread) => *clip.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            Err(error) => {
                clip.reporter.fail(gst::error_msg!(
                    gst::ResourceError::Failed,
                    ("No thread could be started to make the video."),
                    ["{error}"]
                ));
                clip.job.end(End::Failed);
                clip.job.leave();
            }
        }
        clip
    }

    /// Calls the clip off and closes its progress; waits for nothing. Posts messages: no lock may
    /// be held.
    pub(super) fn cancel(&self) {
        self.job.cancel();
        self.reporter.cancel();
    }

    /// Waits for the end of the worker, at most `patience`; `false` if it goes on.
    pub(super) fn wait_for_worker(&self, patience: Duration) -> bool {
        let left = self.job.wait_left(patience);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (true, Some(thread)) = (left, thread) {
            // Panics have been caught inside.
            let _ = thread.join();
        }
        left
    }
}

pub(super) struct Worker {
    pub(super) job: Arc<Job>,
    reporter: Arc<Reporter>,
    model: ModelInfo,
    kept: KeptModel,
}

impl Worker {
    fn run(self) {
        // A panic must not leave the streaming thread waiting.
        let result = catch_unwind(AssertUnwindSafe(|| self.make()));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(EngineError::Internal(format!("panicked: {}", text.unwrap_or("no reason given"))))
        });
        match result {
            Ok(()) => self.job.end(End::Complete),
            // Nobody is told of what happens after a clip was called off.
            Err(_) if self.job.is_cancelled() => {}
            Err(error) => {
                let debug = format!("{:?}", self.model.options);
                self.reporter.fail(messages::of_engine(&error, &debug));
                self.job.end(End::Failed);
            }
        }
        self.job.leave();
    }

    fn make(&self) -> Result<(), EngineError> {
        let model = self.load()?;
        self.update_stats(|stats| {
            stats.model.clone_from(&self.model.name);
            stats.device = model.device();
            stats.dtype = model.dtype();
        });
        let Some(generation) = self.job.wait_for_request() else {
            return Err(EngineError::Cancelled);
        };
        let steps = generation.num_inference_steps;
        self.reporter.start("generate", &format!("step 0 of {steps}"));
        self.update_stats(|stats| stats.generation = Some(generation.clone()));
        let began = Instant::now();
        let opening = self.element().map(|element| element.imp().opening()).unwrap_or_default();
        if generation.num_frames == 0 || opening.is_streamed() {
            self.stream(&model, &generation, opening)?;
            self.update_stats(|stats| stats.generate_time = began.elapsed());
            return Ok(());
        }
        model.generate(&generation, &mut Watch::new(self, Some(&generation), began))?;
        self.reporter.complete("decoded");
        self.update_stats(|stats| stats.generate_time = began.elapsed());
        Ok(())
    }

    fn load(&self) -> Result<Arc<Model>, EngineError> {
        if let Some(model) = self.kept.opened_by(&self.model.options) {
            return Ok(model);
        }
        // The dynamic linker holds a lock while it opens libtorch, for which the application's thread
        // would have to wait in the middle of its change of state.
        if !self.job.wait_for_release() {
            return Err(EngineError::Cancelled);
        }
        let began = Instant::now();
        // A process that ends while a library initialises itself crashes.
        self.job.set_entangled(true);
        let engine = Engine::open();
        self.job.set_entangled(false);
        let engine = engine?;
        if self.job.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let mut watch = Watch::new(self, None, began);
        let model = Arc::new(engine.open_model(&self.model.options, &mut watch)?);
        if self.job.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        self.kept.keep(self.model.options.clone(), Arc::clone(&model));
        self.reporter.complete(&format!("{} is loaded", self.model.name));
        self.update_stats(|stats| stats.load_time = began.elapsed());
        Ok(model)
    }

    /// The element, as long as anybody wants this clip.
    pub(super) fn element(&self) -> Option<super::SoraGen> {
        self.reporter.element().and_then(|element| element.downcast::<super::SoraGen>().ok())
    }

    /// Frames of a block of a stream, but of the first.
    pub(super) fn block_frames(&self) -> usize {
        self.model.block_frames.max(1) as usize
    }

    /// By how much the noise levels of the model's schedule are shifted.
    pub(super) fn shift(&self) -> f64 {
        self.model.shift
    }

    /// Frames of a clip that a video goes on from that can make a difference: as many as the model remembers.
    pub(super) fn context_frames(&self) -> usize {
        (self.model.native.num_frames as usize).saturating_sub(self.block_frames()).max(1)
    }

    pub(super) fn update_stats(&self, update: impl FnOnce(&mut Stats)) {
        if let Some(element) = self.element() {
            element.imp().update_stats(update);
        }
    }

    /// The operation ends with the first frames, not the last: gst-launch plays only when no operation is open, and
    /// in PAUSED the last frames are not made before it plays.
    pub(super) fn frames_flow(&self) {
        self.reporter.complete("decoding, frames are flowing");
    }

    pub(super) fn log_line(&self, level: Level, target: &str, message: &str) {
        let Some(element) = self.reporter.element() else { return };
        self.reporter.log_line(&element, *CAT, level, target, message);
    }
}

/// Turns what the engine reports into messages and frames.
struct Watch<'a> {
    worker: &'a Worker,
    /// What is being made; `None` while a model loads.
    generation: Option<&'a Generation>,
    began: Instant,
    loading: LoadingTold,
    decoding: bool,
}

impl<'a> Watch<'a> {
    fn new(worker: &'a Worker, generation: Option<&'a Generation>, began: Instant) -> Self {
        Self { worker, generation, began, loading: LoadingTold::default(), decoding: false }
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.worker.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        let reporter = &self.worker.reporter;
        match progress {
            Progress::Loading { done_bytes, total_bytes } => {
                self.loading.tell(reporter, done_bytes, total_bytes);
            }
            Progress::Encoding => reporter.progress("encoding the prompt"),
            Progress::Step { step, of } => {
                self.worker.update_stats(|stats| stats.step = step);
                if step > 0 {
                    reporter.progress(&format!("step {step} of {of}"));
                }
            }
            Progress::Decoding { .. } if !self.decoding => {
                self.decoding = true;
                self.worker.update_stats(|stats| stats.denoise_time = self.began.elapsed());
                reporter.progress("decoding");
            }
            _ => {}
        }
        self.go_on()
    }

    fn prompt(&mut self, prompt: &str) {
        self.worker.update_stats(|stats| stats.prompt_used = Some(prompt.to_owned()));
        if let Some(generation) = self.generation.filter(|g| g.prompt_enhance != PromptEnhance::Off) {
            self.worker.reporter.prompt(&generation.prompt, prompt);
        }
    }

    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        self.worker.frames_flow();
        let frame_size = frames.width * frames.height * 3;
        if self.worker.job.push(frames.pixels, frame_size) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.worker.log_line(level, target, message);
    }
}
