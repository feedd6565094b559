//! Video without an end: block after block over a cache of keys and values.
//!
//! A block is as many latent frames as the model makes at once, one or a few. A latent frame is one frame of video at
//! the beginning of the stream, then as many as the VAE compresses into one. A block is made from noise, or from frames of a source (video to video as in SDEdit, arXiv
//! 2108.01073: encoded, noised by a strength, denoised). Only models that were trained block-causally (sora-tiny,
//! the Self-Forcing family) make sense of it.

mod fade;
mod memory;
mod schedule;
mod solver;

use sora_model::config::CausalConfig;
use tch::{Device, Kind, Tensor};

pub use self::fade::Fade;
use self::memory::{Memory, Network, Told};
use self::schedule::Pace;
pub use self::schedule::levels;
use self::solver::Fresh;
use super::decoding::DecoderMemory;
use super::text_to_video::{TextToVideoPipeline, report};
use super::{OnFrames, OnProgress, Progress, Rgb8, bytes_on};
use crate::error::{DiffusionError, Result};
use crate::models::autoencoder_kl_wan::FeatureCache;
use crate::models::transformer_wan::CacheLimits;
use crate::side_stream::Reached;

/// Seeds of one stream lie this far apart (2⁶⁴ over the golden ratio), so that no two blocks share one.
const SEED_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// What stays the same for all blocks of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamOptions {
    /// Pixels, as in [`super::GenerationRequest`].
    pub width: i64,
    /// Pixels, as in [`super::GenerationRequest`].
    pub height: i64,
    /// Same seed and same blocks, same video.
    pub seed: u64,
    /// What the model remembers, in latent frames, 0 ≤ sink ≤ frames; `None` for what the model was made for
    /// ([`CausalConfig`]).
    pub memory: Option<CacheLimits>,
}

/// One block to make.
#[derive(Clone, Copy, Debug)]
pub struct BlockRequest<'a> {
    /// What to show.
    pub prompt: &'a str,
    /// With another prompt than before, whether the past is kept, and seen again under it: then the video goes on
    /// and changes slowly, as far as its past lets it. Otherwise the past is forgotten, and the next block shows the
    /// prompt.
    pub keep_past: bool,
    /// What the prompt is fading into. With it the past is kept, seen again under what lies between the prompts, and
    /// its oldest frame is forgotten at each step of the fade.
    pub fade: Option<Fade<'a>>,
    /// What to steer away from; only used with guidance.
    pub negative_prompt: &'a str,
    /// How strongly to follow the prompt; up to 1 there is no guidance and one pass per step.
    pub guidance_scale: f64,
    /// Denoising steps of a block made from noise alone; of a source, as many as its strength is of 1.
    pub num_inference_steps: i64,
    /// Frames to begin from; `None` for noise alone.
    pub source: Option<BlockSource<'a>>,
}

/// Frames that a block is made from.
#[derive(Clone, Copy, Debug)]
pub struct BlockSource<'a> {
    /// RGB24 `[frames, height, width, 3]`, [`BlockStream::block_frames`] of them. Fewer make a block of fewer latent
    /// frames; they must be whole ones.
    pub pixels: &'a [u8],
    /// How much is made anew: 0 keeps the frames as the VAE sees them, 1 keeps nothing.
    pub strength: f64,
    /// The same noise for every block, which flickers less, or new noise.
    pub fresh_noise: bool,
    /// Lessens the strength where there is fast motion.
    pub motion_adaptive: bool,
    /// What the frames show. With it only the difference between this prompt and the block's is applied to them
    /// (FlowEdit, arXiv 2412.08629), in two passes per step; without it they are noised and denoised (SDEdit).
    pub source_prompt: Option<&'a str>,
    /// The model sees the frames beside the noise that it makes the block from, as it was taught on pairs of videos of one
    /// scene; only for models with a source embedding.
    pub shown: bool,
    /// The frames do not follow those that were given before: the encoder forgets these, and sees the first of the
    /// new ones as having stood still before.
    pub cut: bool,
}

/// A stream in the making. Belongs to the pipeline that opened it.
pub struct BlockStream {
    options: StreamOptions,
    memory: Memory,
    /// The past of the source, where a source prompt is given.
    source_memory: Memory,
    encoder: FeatureCache,
    decoder: BlockDecoder,
    pace: Pace,
    /// Blocks made.
    blocks: u64,
    /// Frames of every latent frame but the first.
    factor: i64,
    causal: CausalConfig,
    /// A block was broken off in the middle: what follows would not fit.
    broken: bool,
}

impl BlockStream {
    /// Frames of the next block: the VAE's temporal factor times the model's latent frames; of the first block, whose
    /// first latent frame is one frame, correspondingly fewer.
    pub fn block_frames(&self) -> i64 {
        self.frames_of(self.causal.block_size(self.blocks))
    }

    /// Frames that so many latent frames make now.
    fn frames_of(&self, latent: i64) -> i64 {
        if self.blocks == 0 { 1 + (latent - 1) * self.factor } else { latent * self.factor }
    }

    /// Latent frames of the next block.
    fn latent_frames(&self, source: Option<&BlockSource<'_>>) -> i64 {
        let whole = self.causal.block_size(self.blocks);
        let frame = self.options.width * self.options.height * 3;
        let fits = |latent: &i64| {
            source.is_none_or(|source| source.pixels.len() as i64 == self.frames_of(*latent) * frame)
        };
        (1..=whole).rev().find(fits).unwrap_or(whole)
    }

    /// Blocks made so far.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Latent frames it remembers.
    pub fn remembered(&self) -> i64 {
        self.memory.len()
    }
}

/// A block that is denoised and not decoded: `[1, z_dim, T', H', W']` in f32.
pub struct BlockLatents {
    latents: Tensor,
    /// Which block of its stream it is.
    number: u64,
    /// Where its latents are there.
    denoised: Reached,
}

/// What the VAE keeps of the blocks before. It goes through the blocks of one stream, in their order.
#[derive(Default)]
pub struct BlockDecoder(DecoderMemory);

/// Where denoising begins.
struct Beginning {
    noise: Tensor,
    /// Noise for what is noised again.
    fresh: Fresh,
    /// The source's latents, as the transformer sees them.
    clean: Option<Tensor>,
    /// The noise levels to visit.
    levels: Vec<f64>,
}

/// A block that was made: latents `[1, z_dim, T', H', W']` in f32.
struct Made {
    latents: Tensor,
    /// Its source's, where the stream remembers that too.
    source: Option<Tensor>,
}

impl TextToVideoPipeline {
    /// Opens a stream; computes nothing yet.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] for a size that the model does not make, or a memory out of bounds.
    pub fn open_stream(&self, options: &StreamOptions) -> Result<BlockStream> {
        self.check_size(options.width, options.height)?;
        let memory = options.memory.unwrap_or_else(|| self.default_memory());
        let most = self.transformer.config().rope_max_seq_len;
        let block = self.dir.causal().num_frame_per_block;
        if !(0 <= memory.sink && memory.sink <= memory.frames && memory.frames <= most - block) {
            return Err(DiffusionError::Request {
                what: "memory",
                value: format!("a sink of {} in {} frames", memory.sink, memory.frames),
                bound: format!("it must be 0 <= sink <= frames <= {}", most - block),
            });
        }
        Ok(BlockStream {
            options: options.clone(),
            memory: Memory::new(memory, self.dir.causal().rotation),
            source_memory: Memory::new(memory, self.dir.causal().rotation),
            encoder: FeatureCache::new(),
            decoder: BlockDecoder::default(),
            pace: Pace::default(),
            blocks: 0,
            factor: self.vae.config().temporal_scale_factor(),
            causal: self.dir.causal().clone(),
            broken: false,
        })
    }

    /// What the model says, or as much as never exceeds the positions of its own clips.
    fn default_memory(&self) -> CacheLimits {
        let causal = self.dir.causal();
        let latent = self.dir.size_rules().num_latent_frames(self.dir.native().num_frames);
        let least = if causal.local_attn_size < 0 { 1 } else { 0 };
        let frames = causal.context(latent.into()).max(least);
        CacheLimits { sink: causal.sink_size.min(frames), frames }
    }

    /// Makes the next block and hands its frames to `on_frames`, all in one call.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] for a value out of bounds, [`DiffusionError::Cancelled`] after a callback broke
    /// off (checked before every step); after either of the latter's kind or any later failure the stream is
    /// broken and makes no more blocks.
    pub fn next_block(
        &self,
        stream: &mut BlockStream,
        request: &BlockRequest<'_>,
        on_progress: &mut OnProgress<'_>,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        // What decodes is apart from what denoises.
        let mut decoder = std::mem::take(&mut stream.decoder);
        let made = self.next_latents(stream, request, on_progress, &mut |latents| {
            self.decode_block(&mut decoder, &latents, on_frames)
        });
        stream.decoder = decoder;
        made
    }

    /// Makes the next block as far as its latents, and hands them to `on_latents` before the stream has remembered them.
    /// [`Self::decode_block`] makes frames of them, on another thread if need be: the next block may be denoised
    /// meanwhile, by a GPU too if that thread has a stream of its own ([`crate::side_stream`]).
    ///
    /// # Errors
    /// As [`Self::next_block`], and those of `on_latents`, which break the stream.
    pub fn next_latents(
        &self,
        stream: &mut BlockStream,
        request: &BlockRequest<'_>,
        on_progress: &mut OnProgress<'_>,
        on_latents: &mut dyn FnMut(BlockLatents) -> Result<()>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        if stream.broken {
            return Err(DiffusionError::Unsupported("the stream was broken off: open another".into()));
        }
        self.check_block(stream, request)?;
        stream.broken = true;
        let made = self.block_latents(stream, request, on_progress)?;
        let number = stream.blocks;
        stream.blocks += 1;
        let (latents, denoised) = (made.latents.shallow_clone(), Reached::here(self.device)?);
        on_latents(BlockLatents { latents, number, denoised })?;
        // Only the next block needs it: whoever waits for this one's frames does not wait for that.
        let _span = tracing::debug_span!("remember").entered();
        self.remember(&mut stream.memory, &made.latents)?;
        if let Some(source) = &made.source {
            self.remember(&mut stream.source_memory, source)?;
        }
        stream.broken = false;
        Ok(())
    }

    /// Makes frames of a block's latents. `decoder` has seen the blocks before it, and no others.
    ///
    /// # Errors
    /// [`DiffusionError::Cancelled`] after `on_frames` broke off.
    pub fn decode_block(
        &self,
        decoder: &mut BlockDecoder,
        block: &BlockLatents,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let rgb = {
            let _span = tracing::debug_span!("decode", block = block.number).entered();
            block.denoised.wait(&block.latents)?;
            Rgb8::of(&self.decode_chunk(&block.latents, &mut decoder.0))?
        };
        if on_frames(rgb.batch()).is_break() {
            return Err(DiffusionError::Cancelled);
        }
        Ok(())
    }

    /// A block's latents as the VAE's decoder reads them, not normalised any more: `[1, z_dim, T', H', W']` in f32 on the
    /// CPU.
    pub fn raw_latents(&self, block: &BlockLatents) -> Tensor {
        self.vae.denormalize_latents(&block.latents).to_device(Device::Cpu)
    }

    fn check_block(&self, stream: &BlockStream, request: &BlockRequest<'_>) -> Result<()> {
        self.check_steps(request.num_inference_steps)?;
        let refuse = |what, value, bound: &str| {
            Err(DiffusionError::Request { what, value, bound: format!("it must be {bound}") })
        };
        if !request.guidance_scale.is_finite() {
            return refuse("guidance_scale", request.guidance_scale.to_string(), "a finite number");
        }
        self.check_position(stream, request)?;
        if let Some(Fade { share, .. }) = request.fade
            && !(0.0..=1.0).contains(&share)
        {
            return refuse("share of a fade", share.to_string(), "0 to 1");
        }
        let Some(source) = &request.source else { return Ok(()) };
        if !(0.0..=1.0).contains(&source.strength) {
            return refuse("strength", source.strength.to_string(), "0 to 1");
        }
        if source.shown && !self.transformer.sees_sources() {
            let bound = "false: the model has no source_embedding, it was not taught to look at one";
            return refuse("shown, of the source,", "true".into(), bound);
        }
        let BlockStream { options: StreamOptions { width, height, .. }, .. } = stream;
        let (frame, latent) = (width * height * 3, stream.latent_frames(Some(source)));
        let wanted = stream.frames_of(latent) * frame;
        if source.pixels.len() as i64 != wanted {
            let mut bound = format!("{wanted}: {} frames of {width}x{height}", stream.block_frames());
            if latent > 1 {
                bound += &format!(", or {} and so on in steps of {}", stream.frames_of(1), stream.factor);
            }
            return refuse("bytes of the source", source.pixels.len().to_string(), &bound);
        }
        Ok(())
    }

    /// The block's latents, not remembered yet.
    fn block_latents(
        &self,
        stream: &mut BlockStream,
        request: &BlockRequest<'_>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Made> {
        report(on_progress, Progress::Encoding)?;
        let negative = (request.guidance_scale > 1.0).then_some(request.negative_prompt);
        let BlockRequest { prompt, fade, keep_past, .. } = *request;
        let shown = request.source.is_some_and(|source| source.shown);
        let network = if shown { Network::Restyler } else { Network::Plain };
        let told = Told { prompt, fade, negative, keep_past, network };
        self.tell_prompt(&mut stream.memory, told, on_progress)?;
        let Beginning { noise, fresh, clean, levels } = self.beginning(stream, request)?;
        self.show_source(&mut stream.memory, clean.as_ref().filter(|_| shown))?;
        let of = levels.len() - 1;
        let contrast = request.source.and_then(|source| source.source_prompt);
        if let Some(prompt) = contrast {
            // What the source shows is told by the network that was not taught to change it.
            let network = Network::Plain;
            let told = Told { prompt, fade: None, negative: None, keep_past, network };
            self.tell_prompt(&mut stream.source_memory, told, on_progress)?;
        }
        let sigma = levels[0];
        let mut latents = match (&clean, contrast) {
            (None, _) => noise.shallow_clone(),
            (Some(clean), None) => &noise * sigma + clean * (1.0 - sigma),
            (Some(clean), Some(_)) => clean.copy(),
        };
        for (step, pair) in levels.windows(2).enumerate() {
            report(on_progress, Progress::Step { step, of })?;
            let _span = tracing::debug_span!("step", step).entered();
            let (sigma, next) = (pair[0], pair[1]);
            let velocity = match (&clean, contrast) {
                (Some(clean), Some(_)) => {
                    let noisy = &noise * sigma + clean * (1.0 - sigma);
                    let edited = &latents + &noisy - clean;
                    self.block_velocity(&stream.memory, &edited, sigma, request.guidance_scale)?
                        - self.block_velocity(&stream.source_memory, &noisy, sigma, 1.0)?
                }
                _ => self.block_velocity(&stream.memory, &latents, sigma, request.guidance_scale)?,
            };
            latents = match contrast {
                Some(_) => solver::euler(latents, &velocity, (sigma, next)),
                None => self.advance(latents, &velocity, (sigma, next), || fresh.draw(step)),
            };
        }
        report(on_progress, Progress::Step { step: of, of })?;
        Ok(Made { latents, source: contrast.and(clean) })
    }

    fn beginning(&self, stream: &mut BlockStream, request: &BlockRequest<'_>) -> Result<Beginning> {
        let StreamOptions { width, height, seed, .. } = stream.options;
        let scale = self.vae.config().spatial_scale_factor();
        let latent = stream.latent_frames(request.source.as_ref());
        let shape = [latent, self.transformer.config().in_channels, height / scale, width / scale];
        let anew = request.source.is_none_or(|source| source.fresh_noise);
        let seed = seed.wrapping_add(if anew { stream.blocks.wrapping_mul(SEED_STEP) } else { 0 });
        let fresh = Fresh { seed, shape, device: self.device, rounded_to: self.latents_in() };
        let noise = fresh.first();
        let alone = stream.memory.len() == 0;
        let Some(source) = request.source else {
            let levels = self.block_levels(1.0, request.num_inference_steps, alone);
            return Ok(Beginning { noise, fresh, clean: None, levels });
        };
        let frames = stream.frames_of(latent);
        let video = bytes_on(self.device, source.pixels, [frames, height, width, 3])?;
        // T H W 3 → 1 3 T H W in −1…1
        let video = (video.to_kind(Kind::Float) / 127.5 - 1.0).permute([3, 0, 1, 2]).unsqueeze(0);
        let strength = if source.motion_adaptive {
            stream.pace.strength(source.strength, &video)
        } else {
            source.strength
        };
        let encoder = self.encoder()?;
        let _span = tracing::debug_span!("encode").entered();
        let video = video.to_kind(self.kinds.vae);
        if source.cut && stream.blocks > 0 {
            stream.encoder = FeatureCache::new();
            let first = video.narrow(2, 0, 1);
            for still in [first.shallow_clone(), first.repeat([1, 1, stream.factor, 1, 1])] {
                // Only what the cache keeps of it is of use.
                let _ = encoder.encode_chunk(&still, &mut stream.encoder);
            }
        }
        let z = encoder.encode_chunk(&video, &mut stream.encoder).mode();
        // The transformer sees normalised latents, whatever StreamDiffusionV2 does here.
        let clean = self.vae.normalize_latents(&z).to_kind(Kind::Float);
        let levels = self.block_levels(strength, request.num_inference_steps, alone);
        Ok(Beginning { noise, fresh, clean: Some(clean), levels })
    }
}
