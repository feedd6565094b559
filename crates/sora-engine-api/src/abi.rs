//! The binary interface of `libsoraengine.so`.
//!
//! The library exports one symbol, [`ENTRY_POINT`], of type [`EntryPoint`]; it answers with a
//! table of functions, or with null when it does not speak the version asked for. Rules that hold
//! for every function of the table:
//!
//! - it may be called from any thread, and several calls may run at once;
//! - it never unwinds: a panic becomes [`Status::Internal`];
//! - texts and callbacks it is given are borrowed for the call, and callbacks are called on the
//!   calling thread only;
//! - when it returns anything but [`Status::Ok`], [`EngineTable::last_error`] says why, until the
//!   next call on the same thread.

use std::ffi::{CStr, c_void};

/// Raised by every change to a type or a function below.
pub const ABI_VERSION: u32 = 6;

/// The one symbol that the engine exports.
pub const ENTRY_POINT: &CStr = c"sora_engine_table";

/// Type of [`ENTRY_POINT`]: asks for a version, gets a table that lives for ever, or null.
pub type EntryPoint = unsafe extern "C" fn(abi_version: u32) -> *const EngineTable;

/// Borrowed bytes; UTF-8 unless the field says otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// First byte; may be dangling when `len` is 0.
    pub data: *const u8,
    /// Number of bytes.
    pub len: usize,
}

impl Bytes {
    /// The bytes of `slice`, which must outlive every use of the result.
    pub fn new(slice: &[u8]) -> Self {
        Self { data: slice.as_ptr(), len: slice.len() }
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    /// `data` must point to `len` readable bytes for as long as the result is used.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Safety
    /// As for [`Bytes::as_slice`].
    pub unsafe fn to_text(self) -> String {
        // SAFETY: the caller's promise.
        String::from_utf8_lossy(unsafe { self.as_slice() }).into_owned()
    }
}

/// Declares an enum that crosses the ABI as a `u32` and is checked on arrival.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value,)* }

        impl $name {
            /// The variant with this number, if there is one.
            pub fn from_raw(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

wire_enum! {
    /// How a call ended.
    Status {
        /// Done.
        Ok = 0,
        /// A callback asked to stop.
        Cancelled = 1,
        /// The model directory is missing, broken or of an unsupported kind.
        Model = 2,
        /// The request asks for what this model cannot do.
        Request = 3,
        /// The device is not there or not usable.
        Device = 4,
        /// Memory of the device or of the machine ran out.
        OutOfMemory = 5,
        /// A defect: libtorch failed in a way nobody foresaw, or the engine panicked.
        Internal = 6,
    }
}

wire_enum! {
    /// Number format of the computation.
    Dtype {
        /// f32 on the CPU, bf16 on CUDA.
        Auto = 0,
        /// 32-bit floats.
        F32 = 1,
        /// bfloat16.
        Bf16 = 2,
        /// IEEE half precision.
        F16 = 3,
        /// 8 bits for the large matrices of the transformer, bfloat16 for the rest of it.
        Fp8 = 4,
    }
}

wire_enum! {
    /// The sampler of the denoising loop.
    Scheduler {
        /// The one that the model directory names.
        Model = 0,
        /// `UniPCMultistepScheduler`.
        UniPc = 1,
        /// `FlowMatchEulerDiscreteScheduler`.
        FlowMatchEuler = 2,
    }
}

wire_enum! {
    /// What is done to a prompt before it is encoded.
    PromptEnhance {
        /// Nothing.
        Off = 0,
        /// The model's own prompt enhancer expands it.
        Local = 1,
    }
}

wire_enum! {
    /// Weight of a log line.
    Level {
        /// Something failed.
        Error = 1,
        /// The result is not quite what was asked for; people should know.
        Warn = 2,
        /// A milestone.
        Info = 3,
        /// For the developer.
        Debug = 4,
        /// For the developer in despair.
        Trace = 5,
    }
}

wire_enum! {
    /// What the engine is doing; says what the numbers of a [`RawProgress`] count.
    Stage {
        /// Reading weights: bytes done, bytes in all.
        Loading = 0,
        /// Encoding the prompt: no numbers.
        Encoding = 1,
        /// Denoising: steps done, steps in all.
        Step = 2,
        /// Decoding latents: frames done, frames in all.
        Decoding = 3,
    }
}

/// A device, in one number: [`Device::to_raw`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device.
    Cuda(u16),
}

impl Device {
    /// -2 auto, -1 CPU, 0 and up the CUDA device of that number.
    pub fn to_raw(self) -> i32 {
        match self {
            Self::Auto => -2,
            Self::Cpu => -1,
            Self::Cuda(index) => i32::from(index),
        }
    }

    /// Undoes [`Device::to_raw`].
    pub fn from_raw(raw: i32) -> Option<Self> {
        match raw {
            -2 => Some(Self::Auto),
            -1 => Some(Self::Cpu),
            index => u16::try_from(index).ok().map(Self::Cuda),
        }
    }
}

/// Which model to open, and how.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawModelOptions {
    /// Path of the model directory, in the bytes of the operating system.
    pub model_path: Bytes,
    /// Path of one file with transformer weights used instead of the directory's; empty for none.
    pub transformer_file: Bytes,
    /// Path of one file with a tiny VAE that decodes instead of the directory's VAE; empty for none.
    pub tiny_vae_file: Bytes,
    /// [`Device::to_raw`].
    pub device: i32,
    /// [`Dtype`].
    pub dtype: u32,
    /// 1 for weights that are brought to the device layer by layer, each time that they compute; 0 for weights that stay.
    pub low_memory: u32,
    /// 1 to have what only blocks with a source need loaded too; 0 to have the first such block load it.
    pub sources: u32,
}

/// What was opened. The texts live as long as the model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawDescription {
    /// The device really used: `cpu` or `cuda:0`.
    pub device: Bytes,
    /// The number format really used: `f32`, `bf16`, `f16`.
    pub dtype: Bytes,
}

/// One clip to make.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawGeneration {
    /// What the clip shows; empty for an unconditional clip.
    pub prompt: Bytes,
    /// What guidance leads away from.
    pub negative_prompt: Bytes,
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
    /// [`Scheduler`].
    pub scheduler: u32,
    /// [`PromptEnhance`].
    pub prompt_enhance: u32,
}

/// What stays the same for all blocks of a stream.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawStreamOptions {
    /// Width of a frame in pixels.
    pub width: u32,
    /// Height of a frame in pixels.
    pub height: u32,
    /// Same seed and same blocks, same video.
    pub seed: u64,
    /// Bit set of [`AHEAD`].
    pub flags: u32,
}

/// A block is decoded while the next one is denoised: its frames come with the call for the next block, or that which
/// finishes the stream.
pub const AHEAD: u32 = 1;

/// One block of a stream to make.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawBlock {
    /// What the block shows.
    pub prompt: Bytes,
    /// What guidance leads away from.
    pub negative_prompt: Bytes,
    /// Number of denoising steps of a block made from noise alone.
    pub num_inference_steps: u32,
    /// Bit set of [`SOURCE`], [`FRESH_NOISE`], [`MOTION_ADAPTIVE`], [`SOURCE_PROMPT`], [`KEEP_PAST`], [`FADE`],
    /// [`CUT`] and [`SHOWN`].
    pub flags: u32,
    /// Weight of the prompt; no guidance at 1 and below.
    pub guidance_scale: f64,
    /// With [`SOURCE`]: how much of it is made anew, 0 to 1.
    pub strength: f64,
    /// With [`SOURCE`]: frames to begin from, RGB24 without padding, as many as the block has.
    pub source: Bytes,
    /// With [`SOURCE_PROMPT`]: what the source shows.
    pub source_prompt: Bytes,
    /// With [`FADE`]: the prompt that the other one fades into.
    pub fade_to: Bytes,
    /// With [`FADE`]: how far it has come, 0 to 1.
    pub fade_share: f64,
}

/// The block is made from frames.
pub const SOURCE: u32 = 1;
/// Frames get noise of their own block, not the stream's.
pub const FRESH_NOISE: u32 = 2;
/// The strength is less where there is fast motion.
pub const MOTION_ADAPTIVE: u32 = 4;
/// Only the difference between the source's prompt and the block's is applied to the frames.
pub const SOURCE_PROMPT: u32 = 8;
/// The past is kept when the prompt is another than before.
pub const KEEP_PAST: u32 = 16;
/// The prompt is fading into another.
pub const FADE: u32 = 32;
/// The source's frames do not follow those that were given before.
pub const CUT: u32 = 64;
/// The model sees the frames beside the noise.
pub const SHOWN: u32 = 128;

/// How far a call has come.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawProgress {
    /// [`Stage`].
    pub stage: u32,
    /// How much is done, in the unit of the stage.
    pub done: u64,
    /// How much there is, in the unit of the stage.
    pub total: u64,
}

/// Finished frames, next in display order: RGB24, `[num_frames, height, width, 3]`, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawFrames {
    /// The pixels.
    pub pixels: Bytes,
    /// Number of frames.
    pub num_frames: u32,
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

/// What a callback returns to let the call go on.
pub const CONTINUE: u32 = 0;
/// What a callback returns to end the call with [`Status::Cancelled`].
pub const CANCEL: u32 = 1;

/// How a call reports. Callbacks must not unwind.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawCallbacks {
    /// Given to every callback.
    pub user_data: *mut c_void,
    /// Called at every bit of progress, and at least twenty times a second while waiting for
    /// another caller to load the same model; returns [`CONTINUE`] or [`CANCEL`].
    pub progress: unsafe extern "C" fn(user_data: *mut c_void, progress: *const RawProgress) -> u32,
    /// Called once per generation, before its first step, with the prompt that is encoded: the one given,
    /// or what the enhancer made of it.
    pub prompt: unsafe extern "C" fn(user_data: *mut c_void, prompt: Bytes),
    /// Called with finished frames; may block as long as it likes; returns [`CONTINUE`] or
    /// [`CANCEL`].
    pub frames: unsafe extern "C" fn(user_data: *mut c_void, frames: *const RawFrames) -> u32,
    /// Called with log lines: [`Level`], module, message.
    pub log: unsafe extern "C" fn(user_data: *mut c_void, level: u32, target: Bytes, message: Bytes),
}

/// An opened model; only the engine knows what is inside.
#[repr(C)]
#[derive(Debug)]
pub struct RawModel {
    _private: [u8; 0],
}

/// An open stream; only the engine knows what is inside.
#[repr(C)]
#[derive(Debug)]
pub struct RawStream {
    _private: [u8; 0],
}

/// The functions of the engine.
#[repr(C)]
#[derive(Debug)]
pub struct EngineTable {
    /// [`ABI_VERSION`] of the engine.
    pub abi_version: u32,
    /// Opens a model or shares the one that is open with the same options in this process.
    /// Gives a handle that must be closed once.
    pub model_open: unsafe extern "C" fn(
        options: *const RawModelOptions,
        callbacks: *const RawCallbacks,
        model: *mut *mut RawModel,
    ) -> u32,
    /// What was opened.
    pub model_describe: unsafe extern "C" fn(model: *const RawModel, description: *mut RawDescription) -> u32,
    /// Makes one clip; returns when its last frame has been given to the callback.
    pub model_generate: unsafe extern "C" fn(
        model: *const RawModel,
        generation: *const RawGeneration,
        callbacks: *const RawCallbacks,
    ) -> u32,
    /// Opens a stream, which keeps its model. Gives a handle that must be closed once.
    pub stream_open: unsafe extern "C" fn(
        model: *const RawModel,
        options: *const RawStreamOptions,
        stream: *mut *mut RawStream,
    ) -> u32,
    /// Frames that the next block will have; fewer for the first one.
    pub stream_block_frames: unsafe extern "C" fn(stream: *const RawStream) -> u32,
    /// Makes the next block; returns when its frames have been given to the callback, or with [`AHEAD`] those of the block
    /// before (of the first, in any case). After any failure but
    /// [`Status::Request`] the stream makes no more blocks. One call at a time per stream; a second waits.
    pub stream_block: unsafe extern "C" fn(
        stream: *const RawStream,
        block: *const RawBlock,
        callbacks: *const RawCallbacks,
    ) -> u32,
    /// With [`AHEAD`]: returns when the frames of all blocks have been given to the callback.
    pub stream_finish: unsafe extern "C" fn(stream: *const RawStream, callbacks: *const RawCallbacks) -> u32,
    /// Gives a stream back.
    pub stream_close: unsafe extern "C" fn(stream: *mut RawStream),
    /// Gives a handle back; the last one of a model frees its memory.
    pub model_close: unsafe extern "C" fn(model: *mut RawModel),
    /// Why the last call on this thread failed; valid until the next call on this thread.
    pub last_error: unsafe extern "C" fn() -> Bytes,
}
