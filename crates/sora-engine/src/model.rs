//! A loaded model behind a handle.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::thread::ThreadId;

use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Enhancement, Reason};
use sora_diffusion::pipelines::{FrameBatch, GenerationRequest, TextToVideoPipeline};
use sora_engine_api::abi::{
    Bytes, CONTINUE, Level, PromptEnhance, RawCallbacks, RawFrames, RawProgress, Stage,
};
use tch::{Device, Kind};

use crate::call::{Failure, catching};
use crate::convert::{self, ModelOptions};
use crate::exit::Computing;
use crate::log::{Line, with_log};
use crate::registry::{OpenError, Registry};

/// What a `RawModel` pointer points to.
pub(crate) struct Handle(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) pipeline: TextToVideoPipeline,
    device: String,
    dtype: String,
}

/// Two callers get the same model when all of this is equal.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    model_path: PathBuf,
    transformer_file: Option<PathBuf>,
    tiny_vae_file: Option<PathBuf>,
    low_memory: bool,
    device: String,
    kinds: String,
}

/// What the loading thread tells those who wait.
#[derive(Clone)]
enum Note {
    Progress(RawProgress),
    Log(Line),
}

static MODELS: LazyLock<Registry<Key, Loaded, Failure, Note>> = LazyLock::new(Registry::default);

impl Handle {
    pub(crate) fn open(options: &ModelOptions, callbacks: RawCallbacks) -> Result<Self, Failure> {
        let caller = Caller::new(callbacks);
        sora_memory::install();
        let device = options.load.device.resolve()?;
        // A directory that cannot be read has none; the loader says what is wrong with it.
        let kinds = {
            let _computing = Computing::begin();
            options.load.kinds(&options.model_path).ok()
        };
        // The same directory by another way is the same model; one that is not there has only the
        // name it was asked for by, and the loader says what is wrong with it.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
        let key = Key {
            model_path: real(&options.model_path),
            transformer_file: options.load.transformer_file.as_deref().map(real),
            tiny_vae_file: options.load.tiny_vae_file.as_deref().map(real),
            low_memory: options.load.low_memory,
            device: device_name(device),
            kinds: format!("{kinds:?}"),
        };
        let (path, load) = (options.model_path.clone(), options.load.clone());
        let opened = MODELS.open(
            key,
            move |making| {
                let sink = making.clone();
                let log = move |line| {
                    // Only progress calls the loading off: there it can stop.
                    let _ = sink.note(Note::Log(line));
                };
                let computing = Computing::begin();
                let mut progress = |progress| {
                    let note = Note::Progress(convert::progress(progress));
                    computing.outside(|| making.note(note))
                };
                with_log(log, || {
                    catching(|| {
                        let pipeline = TextToVideoPipeline::load(&path, &load, &mut progress)?;
                        Ok(Loaded {
                            device: device_name(pipeline.device()),
                            dtype: dtypes(&pipeline),
                            pipeline,
                        })
                    })
                })
            },
            &mut |note| match note {
                Some(Note::Progress(progress)) => caller.progress(progress),
                Some(Note::Log(line)) => {
                    caller.log(line);
                    ControlFlow::Continue(())
                }
                None => caller.still_wanted(),
            },
        );
        let loaded = match opened {
            Ok(loaded) => loaded,
            Err(OpenError::Cancelled) => return Err(Failure::cancelled()),
            Err(OpenError::Failed(failure)) => return Err(failure),
        };
        if options.sources {
            let _computing = Computing::begin();
            with_log(move |line| caller.log(&line), || loaded.pipeline.load_for_sources())?;
        }
        Ok(Self(loaded))
    }

    pub(crate) fn device(&self) -> &str {
        &self.0.device
    }

    pub(crate) fn dtype(&self) -> &str {
        &self.0.dtype
    }

    pub(crate) fn generate(
        &self,
        mut request: GenerationRequest,
        enhance: PromptEnhance,
        callbacks: RawCallbacks,
    ) -> Result<(), Failure> {
        let caller = Caller::new(callbacks);
        let computing = Computing::begin();
        let mut on_progress = |progress| computing.outside(|| caller.progress(&convert::progress(progress)));
        let mut on_frames = |frames: FrameBatch<'_>| computing.outside(|| caller.frames(frames));
        with_log(
            move |line| caller.log(&line),
            || {
                if enhance == PromptEnhance::Local {
                    request.prompt = self.enhanced(request.prompt)?;
                }
                computing.outside(|| caller.prompt(&request.prompt));
                let made = self.0.pipeline.generate(&request, &mut on_progress, &mut on_frames);
                sora_memory::trim();
                Ok(made?)
            },
        )
    }
}

impl Handle {
    /// The prompt expanded, or as it is with a word to the user why.
    fn enhanced(&self, prompt: String) -> Result<String, Failure> {
        Ok(match self.0.pipeline.enhance_prompt(&prompt, Decoding::Greedy)? {
            Enhancement::Expanded(expansion) => {
                tracing::info!("the prompt \"{prompt}\" was expanded to \"{expansion}\"");
                expansion
            }
            Enhancement::Unchanged(Reason::Empty) => prompt,
            Enhancement::Unchanged(reason) => {
                tracing::warn!("prompt-enhance leaves the prompt as it is: {reason}");
                prompt
            }
        })
    }
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The transformer's number format, and the decoder's where that is another one.
fn dtypes(pipeline: &TextToVideoPipeline) -> String {
    let kinds = pipeline.kinds();
    let transformer = if kinds.fp8 { "fp8" } else { dtype_name(kinds.transformer) };
    let decoder = dtype_name(pipeline.decoder_kind());
    if transformer == decoder { transformer.into() } else { format!("{transformer}, vae {decoder}") }
}

fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        _ => "f32",
    }
}

/// The caller's callbacks, called on the caller's thread only.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    callbacks: RawCallbacks,
    thread: ThreadId,
}

// SAFETY: `log` is the only method that may be reached from elsewhere, and it checks the thread
// before it touches the pointer.
unsafe impl Send for Caller {}
// SAFETY: as above.
unsafe impl Sync for Caller {}

impl Caller {
    pub(crate) fn new(callbacks: RawCallbacks) -> Self {
        Self { callbacks, thread: std::thread::current().id() }
    }

    pub(crate) fn progress(&self, progress: &RawProgress) -> ControlFlow<()> {
        // SAFETY: the callbacks are valid during the call that gave them, on its thread.
        flow(unsafe { (self.callbacks.progress)(self.callbacks.user_data, progress) })
    }

    /// Asks without news: zero of zero bytes.
    fn still_wanted(&self) -> ControlFlow<()> {
        self.progress(&RawProgress { stage: Stage::Loading as u32, done: 0, total: 0 })
    }

    fn prompt(&self, prompt: &str) {
        // SAFETY: as for `progress`.
        unsafe { (self.callbacks.prompt)(self.callbacks.user_data, Bytes::new(prompt.as_bytes())) };
    }

    pub(crate) fn frames(&self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let raw = RawFrames {
            pixels: Bytes::new(frames.data),
            num_frames: side(frames.num_frames),
            height: side(frames.height),
            width: side(frames.width),
        };
        // SAFETY: as for `progress`.
        flow(unsafe { (self.callbacks.frames)(self.callbacks.user_data, &raw) })
    }

    pub(crate) fn log(&self, line: &Line) {
        if std::thread::current().id() != self.thread {
            return;
        }
        let (level, target, message): (Level, _, _) = (line.level, &line.target, &line.message);
        let (target, message) = (Bytes::new(target.as_bytes()), Bytes::new(message.as_bytes()));
        // SAFETY: as for `progress`; the thread has been checked.
        unsafe { (self.callbacks.log)(self.callbacks.user_data, level as u32, target, message) };
    }
}

fn flow(answer: u32) -> ControlFlow<()> {
    if answer == CONTINUE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}
