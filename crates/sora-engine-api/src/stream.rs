//! The safe side of streams: block after block, from a prompt or from frames.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::abi::{self, Bytes};
use crate::engine::{Model, Observer};
use crate::error::EngineError;

/// What stays the same for all blocks of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Width of a frame in pixels.
    pub width: u32,
    /// Height of a frame in pixels.
    pub height: u32,
    /// Same seed and same blocks, same video.
    pub seed: u64,
    /// Decodes a block while the next one is denoised, where the machine has the cores for it: [`Stream::next_block`] then
    /// gives the frames of the block before (of the first block, at once), and [`Stream::finish`] those of the last.
    pub ahead: bool,
}

/// One block to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<'a> {
    /// What it shows.
    pub prompt: &'a str,
    /// With another prompt than before, keeps the past, seen again under it, instead of forgetting it.
    pub keep_past: bool,
    /// What the prompt is fading into: the past is kept meanwhile.
    pub fade: Option<Fade<'a>>,
    /// What guidance leads away from.
    pub negative_prompt: &'a str,
    /// Number of denoising steps of a block made from noise alone.
    pub num_inference_steps: u32,
    /// Weight of the prompt; no guidance at 1 and below.
    pub guidance_scale: f64,
    /// Frames to begin from; `None` for noise alone.
    pub source: Option<Source<'a>>,
}

/// What a prompt is fading into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fade<'a> {
    /// The prompt at the end of the fade.
    pub to: &'a str,
    /// How far it has come, 0 to 1.
    pub share: f64,
}

/// Frames that a block is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source<'a> {
    /// RGB24 `[frames, height, width, 3]`, no padding, [`Stream::block_frames`] of them; or fewer that make whole
    /// latent frames.
    pub pixels: &'a [u8],
    /// How much is made anew, 0 (nothing) to 1 (all).
    pub strength: f64,
    /// Noise of its own for every block instead of the same for all.
    pub fresh_noise: bool,
    /// Lessens the strength where there is fast motion.
    pub motion_adaptive: bool,
    /// What the frames show; with it only the difference between this prompt and the block's is applied to them.
    pub source_prompt: Option<&'a str>,
    /// The model sees the frames beside the noise; only for models with a source embedding.
    pub shown: bool,
    /// The frames do not follow those that were given before.
    pub cut: bool,
}

impl<'a> Source<'a> {
    /// Frames that the stream remembers as they are: nothing of them is made anew.
    pub fn as_it_is(pixels: &'a [u8]) -> Self {
        Self {
            pixels,
            strength: 0.0,
            fresh_noise: false,
            motion_adaptive: false,
            source_prompt: None,
            shown: false,
            cut: false,
        }
    }
}

/// An open stream. It keeps its model loaded.
#[derive(Debug)]
pub struct Stream {
    model: Arc<Model>,
    raw: NonNull<abi::RawStream>,
}

// SAFETY: the ABI allows every function to be called from any thread; `&mut self` keeps blocks apart.
unsafe impl Send for Stream {}

impl Stream {
    /// Opens a stream; nothing is computed yet.
    ///
    /// # Errors
    /// [`EngineError::Request`] for a size that the model does not make.
    pub fn open(model: &Arc<Model>, options: StreamOptions) -> Result<Self, EngineError> {
        let StreamOptions { width, height, seed, ahead } = options;
        let flags = if ahead { abi::AHEAD } else { 0 };
        let raw = abi::RawStreamOptions { width, height, seed, flags };
        let mut stream = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call.
        let status = unsafe { (model.engine.table.stream_open)(model.raw.as_ptr(), &raw, &mut stream) };
        model.engine.check(status)?;
        let raw =
            NonNull::new(stream).ok_or_else(|| EngineError::Internal("the engine gave no stream".into()))?;
        Ok(Self { model: Arc::clone(model), raw })
    }

    /// Frames of the next block: as many as the model makes at once; fewer at the beginning, whose first latent frame is
    /// one frame.
    pub fn block_frames(&self) -> usize {
        // SAFETY: the handle is open.
        unsafe { (self.model.engine.table.stream_block_frames)(self.raw.as_ptr()) as usize }
    }

    /// Makes the next block; returns when the observer has got its frames, or those of the block before (see
    /// [`StreamOptions::ahead`]).
    ///
    /// # Errors
    /// [`EngineError::Request`] for what is out of bounds: the stream can go on. [`EngineError::Cancelled`],
    /// [`EngineError::OutOfMemory`], [`EngineError::Model`], [`EngineError::Internal`]: it cannot.
    pub fn next_block(&mut self, block: &Block<'_>, observer: &mut dyn Observer) -> Result<(), EngineError> {
        let source_prompt = block.source.and_then(|source| source.source_prompt);
        let mut raw = abi::RawBlock {
            prompt: Bytes::new(block.prompt.as_bytes()),
            negative_prompt: Bytes::new(block.negative_prompt.as_bytes()),
            num_inference_steps: block.num_inference_steps,
            flags: if block.keep_past { abi::KEEP_PAST } else { 0 },
            guidance_scale: block.guidance_scale,
            strength: 0.0,
            source: Bytes::new(&[]),
            source_prompt: Bytes::new(source_prompt.unwrap_or_default().as_bytes()),
            fade_to: Bytes::new(block.fade.map_or("", |fade| fade.to).as_bytes()),
            fade_share: block.fade.map_or(0.0, |fade| fade.share),
        };
        if block.fade.is_some() {
            raw.flags |= abi::FADE;
        }
        if let Some(source) = &block.source {
            let flag = |set, flag| if set { flag } else { 0 };
            raw.flags |= abi::SOURCE
                | flag(source.fresh_noise, abi::FRESH_NOISE)
                | flag(source.motion_adaptive, abi::MOTION_ADAPTIVE)
                | flag(source_prompt.is_some(), abi::SOURCE_PROMPT)
                | flag(source.shown, abi::SHOWN)
                | flag(source.cut, abi::CUT);
            raw.strength = source.strength;
            raw.source = Bytes::new(source.pixels);
        }
        self.model.engine.observed(observer, |callbacks| {
            // SAFETY: all pointers are valid for the call; texts and pixels outlive it in `block`.
            unsafe { (self.model.engine.table.stream_block)(self.raw.as_ptr(), &raw, callbacks) }
        })
    }
}

impl Stream {
    /// Returns when the observer has got the frames of all blocks.
    ///
    /// # Errors
    /// As for [`Self::next_block`].
    pub fn finish(&mut self, observer: &mut dyn Observer) -> Result<(), EngineError> {
        self.model.engine.observed(observer, |callbacks| {
            // SAFETY: the handle is open, the callbacks are valid for the call.
            unsafe { (self.model.engine.table.stream_finish)(self.raw.as_ptr(), callbacks) }
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the handle came from `stream_open` and is closed once.
        unsafe { (self.model.engine.table.stream_close)(self.raw.as_ptr()) }
    }
}
