//! The safe side of the table: models and generations with Rust types and an observer.

use std::any::Any;
use std::ffi::c_void;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::ptr::NonNull;

use crate::abi::{
    self, Bytes, CANCEL, CONTINUE, Device, Dtype, Level, PromptEnhance, Scheduler, Stage, Status,
};
use crate::error::EngineError;
use crate::loader::Engine;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Weights are being read.
    Loading {
        /// Bytes read.
        done_bytes: u64,
        /// Bytes to read in all.
        total_bytes: u64,
    },
    /// The prompt is being encoded.
    Encoding,
    /// A denoising step has been made.
    Step {
        /// Steps made.
        step: u64,
        /// Steps in all.
        of: u64,
    },
    /// Latents are being decoded.
    Decoding {
        /// Frames finished.
        frame: u64,
        /// Frames in all.
        of: u64,
    },
}

/// Finished frames, next in display order.
#[derive(Clone, Copy, Debug)]
pub struct FrameBatch<'a> {
    /// RGB24 `[num_frames, height, width, 3]`, no padding.
    pub pixels: &'a [u8],
    /// Number of frames.
    pub num_frames: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// Who is told what happens during a call, on the thread of the call.
/// `ControlFlow::Break` ends the call with [`EngineError::Cancelled`].
pub trait Observer {
    /// There is progress, or the call asks whether it should still go on.
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;

    /// The prompt that is encoded: the one given, or what the enhancer made of it. Comes once per
    /// generation, before its first step.
    fn prompt(&mut self, prompt: &str) {
        let _ = prompt;
    }

    /// Frames are finished. Blocking here holds the generation back.
    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()>;

    /// The engine has something to say.
    fn log(&mut self, level: Level, target: &str, message: &str);
}

/// Which model to open, and how. Elements with equal options share one model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelOptions {
    /// The model directory.
    pub model_path: PathBuf,
    /// One file with transformer weights to use instead of the directory's.
    pub transformer_file: Option<PathBuf>,
    /// One file with a tiny VAE that decodes instead of the directory's VAE.
    pub tiny_vae_file: Option<PathBuf>,
    /// Where to compute.
    pub device: Device,
    /// In which number format.
    pub dtype: Dtype,
    /// Whether weights are brought to the device layer by layer, each time that they compute, instead of staying there.
    pub low_memory: bool,
    /// Whether what only blocks with a source need is loaded too; else the first such block loads it.
    pub sources: bool,
}

/// One clip to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// What the clip shows; empty for an unconditional clip.
    pub prompt: String,
    /// What guidance leads away from.
    pub negative_prompt: String,
    /// Width of a frame in pixels.
    pub width: u32,
    /// Height of a frame in pixels.
    pub height: u32,
    /// Number of frames.
    pub num_frames: u32,
    /// Number of denoising steps.
    pub num_inference_steps: u32,
    /// Weight of the prompt; no guidance at 1 and below.
    pub guidance_scale: f64,
    /// Seed of the initial noise.
    pub seed: u64,
    /// The sampler.
    pub scheduler: Scheduler,
    /// What is done to the prompt first.
    pub prompt_enhance: PromptEnhance,
}

impl Engine {
    /// Opens a model, or shares the one that is open with equal options in this process.
    /// Blocks until it is loaded.
    ///
    /// # Errors
    /// [`EngineError::Model`], [`EngineError::Device`], [`EngineError::OutOfMemory`],
    /// [`EngineError::Internal`], [`EngineError::Cancelled`].
    pub fn open_model(
        &'static self,
        options: &ModelOptions,
        observer: &mut dyn Observer,
    ) -> Result<Model, EngineError> {
        let file = |file: &'_ Option<PathBuf>| {
            Bytes::new(file.as_deref().map_or(&[], |path| path.as_os_str().as_bytes()))
        };
        let raw = abi::RawModelOptions {
            model_path: Bytes::new(options.model_path.as_os_str().as_bytes()),
            transformer_file: file(&options.transformer_file),
            tiny_vae_file: file(&options.tiny_vae_file),
            device: options.device.to_raw(),
            dtype: options.dtype as u32,
            low_memory: options.low_memory.into(),
            sources: options.sources.into(),
        };
        let mut model = std::ptr::null_mut();
        self.observed(observer, |callbacks| {
            // SAFETY: all pointers are valid for the call; paths outlive it in `options`.
            unsafe { (self.table.model_open)(&raw, callbacks, &mut model) }
        })?;
        let model =
            NonNull::new(model).ok_or_else(|| EngineError::Internal("the engine gave no model".into()))?;
        Ok(Model { engine: self, raw: model })
    }

    /// Runs `call` with callbacks that reach `observer`. A panic of the observer cancels the call
    /// and goes on once the engine has returned.
    pub(crate) fn observed(
        &self,
        observer: &mut dyn Observer,
        call: impl FnOnce(&abi::RawCallbacks) -> u32,
    ) -> Result<(), EngineError> {
        let mut context = Context { observer, panic: None };
        let callbacks = abi::RawCallbacks {
            user_data: (&raw mut context).cast(),
            progress: on_progress,
            prompt: on_prompt,
            frames: on_frames,
            log: on_log,
        };
        let status = call(&callbacks);
        if let Some(panic) = context.panic {
            resume_unwind(panic);
        }
        self.check(status)
    }

    pub(crate) fn check(&self, status: u32) -> Result<(), EngineError> {
        // SAFETY: the text is copied before this thread calls the engine again.
        let message = || unsafe { (self.table.last_error)().to_text() };
        match Status::from_raw(status) {
            Some(Status::Ok) => Ok(()),
            Some(Status::Cancelled) => Err(EngineError::Cancelled),
            Some(Status::Model) => Err(EngineError::Model(message())),
            Some(Status::Request) => Err(EngineError::Request(message())),
            Some(Status::Device) => Err(EngineError::Device(message())),
            Some(Status::OutOfMemory) => Err(EngineError::OutOfMemory(message())),
            Some(Status::Internal) => Err(EngineError::Internal(message())),
            None => Err(EngineError::Internal(format!("unknown status {status}"))),
        }
    }
}

/// A loaded model, possibly shared with others in this process. Any number of generations may run
/// on it at once; each gives the frames it would give alone.
#[derive(Debug)]
pub struct Model {
    pub(crate) engine: &'static Engine,
    pub(crate) raw: NonNull<abi::RawModel>,
}

// SAFETY: the ABI allows every function to be called from any thread and at the same time.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Makes one clip; returns when the observer has got its last frame.
    ///
    /// # Errors
    /// [`EngineError::Request`], [`EngineError::OutOfMemory`], [`EngineError::Internal`],
    /// [`EngineError::Cancelled`]; [`EngineError::Model`] where the model's prompt enhancer is asked for and
    /// is missing or broken.
    pub fn generate(&self, generation: &Generation, observer: &mut dyn Observer) -> Result<(), EngineError> {
        let raw = abi::RawGeneration {
            prompt: Bytes::new(generation.prompt.as_bytes()),
            negative_prompt: Bytes::new(generation.negative_prompt.as_bytes()),
            width: generation.width,
            height: generation.height,
            num_frames: generation.num_frames,
            num_inference_steps: generation.num_inference_steps,
            guidance_scale: generation.guidance_scale,
            seed: generation.seed,
            scheduler: generation.scheduler as u32,
            prompt_enhance: generation.prompt_enhance as u32,
        };
        self.engine.observed(observer, |callbacks| {
            // SAFETY: all pointers are valid for the call; texts outlive it in `generation`.
            unsafe { (self.engine.table.model_generate)(self.raw.as_ptr(), &raw, callbacks) }
        })
    }

    /// The device really used: `cpu` or `cuda:0`.
    pub fn device(&self) -> String {
        self.describe().map_or_else(String::new, |raw| {
            // SAFETY: the text lives as long as the model.
            unsafe { raw.device.to_text() }
        })
    }

    /// The number format really used: `f32`, `bf16`, `f16`; `bf16, vae f32` where frames are decoded in another one.
    pub fn dtype(&self) -> String {
        self.describe().map_or_else(String::new, |raw| {
            // SAFETY: the text lives as long as the model.
            unsafe { raw.dtype.to_text() }
        })
    }

    fn describe(&self) -> Option<abi::RawDescription> {
        let mut raw = abi::RawDescription { device: Bytes::new(&[]), dtype: Bytes::new(&[]) };
        // SAFETY: both pointers are valid for the call.
        let status = unsafe { (self.engine.table.model_describe)(self.raw.as_ptr(), &mut raw) };
        (status == Status::Ok as u32).then_some(raw)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the handle came from `model_open` and is closed once.
        unsafe { (self.engine.table.model_close)(self.raw.as_ptr()) }
    }
}

/// What `user_data` points to during a call.
struct Context<'a> {
    observer: &'a mut dyn Observer,
    panic: Option<Box<dyn Any + Send>>,
}

/// Calls the observer; a panic is kept for later, and from then on everything is refused.
///
/// # Safety
/// `user_data` is a [`Context`] that nobody else uses during the call.
unsafe fn notify(user_data: *mut c_void, tell: impl FnOnce(&mut dyn Observer) -> ControlFlow<()>) -> u32 {
    // SAFETY: the caller's promise.
    let context = unsafe { &mut *user_data.cast::<Context<'_>>() };
    if context.panic.is_some() {
        return CANCEL;
    }
    match catch_unwind(AssertUnwindSafe(|| tell(context.observer))) {
        Ok(ControlFlow::Continue(())) => CONTINUE,
        Ok(ControlFlow::Break(())) => CANCEL,
        Err(panic) => {
            context.panic = Some(panic);
            CANCEL
        }
    }
}

unsafe extern "C" fn on_progress(user_data: *mut c_void, raw: *const abi::RawProgress) -> u32 {
    // SAFETY: the engine passes a valid progress for the call.
    let abi::RawProgress { stage, done, total } = unsafe { *raw };
    let progress = match Stage::from_raw(stage) {
        Some(Stage::Loading) => Progress::Loading { done_bytes: done, total_bytes: total },
        Some(Stage::Step) => Progress::Step { step: done, of: total },
        Some(Stage::Decoding) => Progress::Decoding { frame: done, of: total },
        Some(Stage::Encoding) | None => Progress::Encoding,
    };
    // SAFETY: `user_data` is what `observed` put there.
    unsafe { notify(user_data, |observer| observer.progress(progress)) }
}

unsafe extern "C" fn on_prompt(user_data: *mut c_void, prompt: Bytes) {
    // SAFETY: the engine passes a valid text for the call.
    let prompt = unsafe { prompt.to_text() };
    // SAFETY: `user_data` is what `observed` put there.
    unsafe {
        notify(user_data, |observer| {
            observer.prompt(&prompt);
            ControlFlow::Continue(())
        });
    }
}

unsafe extern "C" fn on_frames(user_data: *mut c_void, raw: *const abi::RawFrames) -> u32 {
    // SAFETY: the engine passes valid frames for the call.
    let raw = unsafe { *raw };
    let frames = FrameBatch {
        // SAFETY: as above.
        pixels: unsafe { raw.pixels.as_slice() },
        num_frames: raw.num_frames as usize,
        height: raw.height as usize,
        width: raw.width as usize,
    };
    // SAFETY: `user_data` is what `observed` put there.
    unsafe { notify(user_data, |observer| observer.frames(frames)) }
}

unsafe extern "C" fn on_log(user_data: *mut c_void, level: u32, target: Bytes, message: Bytes) {
    let level = Level::from_raw(level).unwrap_or(Level::Debug);
    // SAFETY: the engine passes valid texts for the call.
    let (target, message) = unsafe { (target.to_text(), message.to_text()) };
    // SAFETY: `user_data` is what `observed` put there.
    unsafe {
        notify(user_data, |observer| {
            observer.log(level, &target, &message);
            ControlFlow::Continue(())
        });
    }
}
