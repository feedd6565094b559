//! The ABI's numbers to the types of `sora-diffusion`, checked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sora_diffusion::device::{DeviceChoice, DtypeChoice};
use sora_diffusion::pipelines::{
    BlockRequest, BlockSource, Fade, GenerationRequest, LoadOptions, Progress, PromptCacheChoice,
    StreamOptions,
};
use sora_diffusion::sora_model::config::SchedulerClass;
use sora_engine_api::abi::{
    AHEAD, Bytes, CUT, Device, Dtype, FADE, FRESH_NOISE, KEEP_PAST, MOTION_ADAPTIVE, PromptEnhance, RawBlock,
    RawGeneration, RawModelOptions, RawProgress, RawStreamOptions, SHOWN, SOURCE, SOURCE_PROMPT, Scheduler,
    Stage, Status,
};

use crate::call::Failure;

/// Options of `model_open`.
pub(crate) struct ModelOptions {
    pub(crate) model_path: PathBuf,
    pub(crate) load: LoadOptions,
    /// Whether what only sources need is loaded too.
    pub(crate) sources: bool,
}

fn unknown(what: &str, raw: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Request, format!("{what} {raw} is not in this version of the interface"))
}

/// # Safety
/// The texts must be valid for the call.
pub(crate) unsafe fn model_options(raw: &RawModelOptions) -> Result<ModelOptions, Failure> {
    // SAFETY: the caller's promise.
    let path = |bytes: Bytes| PathBuf::from(OsStr::from_bytes(unsafe { bytes.as_slice() }));
    let device = match Device::from_raw(raw.device).ok_or_else(|| unknown("device", raw.device))? {
        Device::Auto => DeviceChoice::Auto,
        Device::Cpu => DeviceChoice::Cpu,
        Device::Cuda(index) => DeviceChoice::Cuda(index.into()),
    };
    let dtype = match Dtype::from_raw(raw.dtype).ok_or_else(|| unknown("dtype", raw.dtype))? {
        Dtype::Auto => DtypeChoice::Auto,
        Dtype::F32 => DtypeChoice::F32,
        Dtype::Bf16 => DtypeChoice::Bf16,
        Dtype::F16 => DtypeChoice::F16,
        Dtype::Fp8 => DtypeChoice::Fp8,
    };
    let given = |bytes: Bytes| (bytes.len > 0).then(|| path(bytes));
    let (transformer_file, tiny_vae_file) = (given(raw.transformer_file), given(raw.tiny_vae_file));
    Ok(ModelOptions {
        model_path: path(raw.model_path),
        sources: raw.sources != 0,
        load: LoadOptions {
            device,
            dtype,
            transformer_file,
            tiny_vae_file,
            prompt_cache: prompt_cache()?,
            low_memory: raw.low_memory != 0,
        },
    })
}

/// `SORA_PROMPT_CACHE`: `off`, or a folder; unset is the library's default.
fn prompt_cache() -> Result<PromptCacheChoice, Failure> {
    match std::env::var_os("SORA_PROMPT_CACHE").filter(|value| !value.is_empty()) {
        None => Ok(PromptCacheChoice::Auto),
        Some(value) if value == "off" => Ok(PromptCacheChoice::Off),
        Some(value) if Path::new(&value).is_absolute() => Ok(PromptCacheChoice::At(value.into())),
        Some(value) => Err(Failure::new(
            Status::Request,
            format!("SORA_PROMPT_CACHE is {value:?}; it must be \"off\" or the absolute path of a folder"),
        )),
    }
}

/// # Safety
/// The texts must be valid for the call.
pub(crate) unsafe fn generation_request(raw: &RawGeneration) -> Result<GenerationRequest, Failure> {
    // SAFETY: the caller's promise.
    let (prompt, negative_prompt) = unsafe { (raw.prompt.to_text(), raw.negative_prompt.to_text()) };
    let scheduler = Scheduler::from_raw(raw.scheduler);
    let scheduler = match scheduler.ok_or_else(|| unknown("scheduler", raw.scheduler))? {
        Scheduler::Model => None,
        Scheduler::UniPc => Some(SchedulerClass::UniPcMultistep),
        Scheduler::FlowMatchEuler => Some(SchedulerClass::FlowMatchEulerDiscrete),
    };
    Ok(GenerationRequest {
        prompt,
        negative_prompt,
        width: raw.width.into(),
        height: raw.height.into(),
        num_frames: raw.num_frames.into(),
        num_inference_steps: raw.num_inference_steps.into(),
        guidance_scale: raw.guidance_scale,
        seed: raw.seed,
        scheduler,
    })
}

/// The options, and whether blocks are decoded while the next ones are denoised.
pub(crate) fn stream_options(raw: &RawStreamOptions) -> (StreamOptions, bool) {
    let options =
        StreamOptions { width: raw.width.into(), height: raw.height.into(), seed: raw.seed, memory: None };
    (options, raw.flags & AHEAD != 0)
}

pub(crate) fn block_request<'a>(
    raw: &RawBlock,
    [prompt, negative_prompt, source_prompt, fade_to]: [&'a str; 4],
    pixels: &'a [u8],
) -> BlockRequest<'a> {
    let flag = |flag| raw.flags & flag != 0;
    BlockRequest {
        prompt,
        keep_past: flag(KEEP_PAST),
        fade: flag(FADE).then_some(Fade { to: fade_to, share: raw.fade_share }),
        negative_prompt,
        guidance_scale: raw.guidance_scale,
        num_inference_steps: raw.num_inference_steps.into(),
        source: flag(SOURCE).then_some(BlockSource {
            pixels,
            strength: raw.strength,
            fresh_noise: flag(FRESH_NOISE),
            motion_adaptive: flag(MOTION_ADAPTIVE),
            source_prompt: flag(SOURCE_PROMPT).then_some(source_prompt),
            shown: flag(SHOWN),
            cut: flag(CUT),
        }),
    }
}

pub(crate) fn prompt_enhance(raw: &RawGeneration) -> Result<PromptEnhance, Failure> {
    PromptEnhance::from_raw(raw.prompt_enhance)
        .ok_or_else(|| unknown("prompt enhancement", raw.prompt_enhance))
}

pub(crate) fn progress(progress: Progress) -> RawProgress {
    let (stage, done, total) = match progress {
        Progress::Loading { done_bytes, total_bytes } => (Stage::Loading, done_bytes, total_bytes),
        Progress::Step { step, of } => (Stage::Step, step as u64, of as u64),
        Progress::Decoding { frame, of } => (Stage::Decoding, frame as u64, of as u64),
        // `Progress` may grow; a stage without numbers is the one for what has no name here.
        Progress::Encoding | _ => (Stage::Encoding, 0, 0),
    };
    RawProgress { stage: stage as u32, done, total }
}
