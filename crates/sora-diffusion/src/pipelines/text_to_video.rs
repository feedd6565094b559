//! Text to video, `WanPipeline` (`pipelines/wan/pipeline_wan.py` of diffusers 0.42).

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sora_model::config::{SchedulerClass, SchedulerConfig};
use sora_model::{ModelDir, PromptEnhancerDir};
use tch::{Device, Kind, Tensor};

use super::decoding::{DecoderMemory, TinyVae};
use super::frames::Rgb8;
use super::prompt_cache::PromptCache;
use super::prompt_enhancer::{Decoding, Enhancement, PromptEnhancer};
use super::{OnFrames, OnProgress, Progress, PromptEmbeds};
use crate::device::Kinds;
use crate::error::{DiffusionError, Result};
use crate::models::transformer_wan::TextContext;
use crate::models::{AutoencoderKlWan, Umt5EncoderModel, WanTransformer3DModel};
use crate::noise::seeded_noise;
use crate::schedulers;
use crate::tokenizer::Tokenizer;

/// One clip to make. Sizes are taken as they are: round them before
/// ([`sora_model::ModelDir`] knows what the model can make).
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRequest {
    /// What to show; empty means unconditional.
    pub prompt: String,
    /// What to steer away from; only used with guidance.
    pub negative_prompt: String,
    /// Pixels, a multiple of VAE factor × patch width.
    pub width: i64,
    /// Pixels, a multiple of VAE factor × patch height.
    pub height: i64,
    /// 1 + a multiple of the VAE's temporal factor.
    pub num_frames: i64,
    /// Denoising steps, 1 to the scheduler's number of training timesteps.
    pub num_inference_steps: i64,
    /// How strongly to follow the prompt; up to 1 there is no guidance and one pass per step.
    pub guidance_scale: f64,
    /// Same seed, same video.
    pub seed: u64,
    /// Another scheduler than the model directory's.
    pub scheduler: Option<SchedulerClass>,
}

/// Embeddings are small and prompts repeat (negative prompts above all): the last few are kept.
const KEPT_PROMPTS: usize = 8;

/// A model directory, loaded.
///
/// One pipeline serves any number of threads: [`TextToVideoPipeline::generate`] changes nothing that
/// another call can see.
pub struct TextToVideoPipeline {
    /// Also keeps the weight files mapped: on the CPU, parameters can be views of them.
    pub(super) dir: ModelDir,
    pub(super) device: Device,
    /// Whether layers are brought to the device each time they compute.
    pub(super) low_memory: bool,
    pub(super) kinds: Kinds,
    pub(super) tokenizer: Tokenizer,
    /// With a cache of prompts, loaded by the first prompt that is not in it.
    pub(super) text_encoder: OnceLock<Umt5EncoderModel>,
    pub(super) text_encoder_loading: Mutex<()>,
    pub(super) prompt_cache: Option<PromptCache>,
    pub(super) transformer: WanTransformer3DModel,
    pub(super) transformer_2: Option<WanTransformer3DModel>,
    /// Without its decoder where there is a tiny VAE.
    pub(super) vae: AutoencoderKlWan,
    /// Decodes in its place.
    pub(super) tiny_vae: Option<TinyVae>,
    pub(super) max_sequence_length: i64,
    pub(super) prompts: Mutex<VecDeque<(String, Arc<PromptEmbeds>)>>,
    /// Loaded by the first prompt that is to be enhanced.
    pub(super) enhancer: Mutex<Option<Arc<PromptEnhancer>>>,
    /// The half of the VAE that text to video does not need; loaded by the first frames to be encoded.
    pub(super) encoder: OnceLock<AutoencoderKlWan>,
    pub(super) encoder_loading: Mutex<()>,
    /// The transformer with what is added to it for sources; loaded by the first block that is shown one.
    pub(super) restyler: OnceLock<WanTransformer3DModel>,
    pub(super) restyler_loading: Mutex<()>,
}

// SAFETY: as for PromptEmbeds. After load nothing here is ever written to: no gradients, no in-place
// operation on parameters.
unsafe impl Sync for TextToVideoPipeline {}

pub(super) fn report(on_progress: &mut OnProgress<'_>, progress: Progress) -> Result<()> {
    match on_progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DiffusionError::Cancelled),
    }
}

fn refuse(what: &'static str, value: String, bound: String) -> Result<()> {
    Err(DiffusionError::Request { what, value, bound })
}

impl TextToVideoPipeline {
    /// The model directory it was loaded from.
    pub fn dir(&self) -> &ModelDir {
        &self.dir
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// In which number formats.
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// In which number format latents become frames: that of the VAE, or of the tiny one that decodes in its place.
    pub fn decoder_kind(&self) -> Kind {
        self.tiny_vae.as_ref().map_or(self.kinds.vae, |tiny| tiny.model.kind())
    }

    /// Expands a prompt by the model's own enhancer, or says why it is better left alone.
    ///
    /// # Errors
    /// [`DiffusionError::Model`] for a model that has no enhancer, and those of
    /// [`PromptEnhancer::load`] and [`PromptEnhancer::enhance`].
    pub fn enhance_prompt(&self, prompt: &str, decoding: Decoding) -> Result<Enhancement> {
        let enhancer = {
            let mut kept = self.enhancer.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some(enhancer) => Arc::clone(enhancer),
                None => {
                    let dir = PromptEnhancerDir::open(self.dir.path())?;
                    let tokenizer = (self.dir.tokenizer_path(), self.dir.tokenizer_class());
                    let loaded = Arc::new(PromptEnhancer::load(dir, (&tokenizer.0, tokenizer.1))?);
                    *kept = Some(Arc::clone(&loaded));
                    loaded
                }
            }
        };
        enhancer.enhance(prompt, decoding)
    }

    /// Makes a clip. Frames come as soon as the VAE has decoded them, in order, each once.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] for a value out of bounds, [`DiffusionError::Cancelled`] after a
    /// callback broke off (checked before every denoising step and every decoded chunk).
    pub fn generate(
        &self,
        request: &GenerationRequest,
        on_progress: &mut OnProgress<'_>,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.check(request)?;
        if self.dir.causal().is_few_step() {
            return self.generate_in_blocks(request, on_progress, on_frames);
        }
        report(on_progress, Progress::Encoding)?;
        let prompt = self.encode_prompt(&request.prompt, on_progress)?;
        let negative = if request.guidance_scale > 1.0 {
            Some(self.encode_prompt(&request.negative_prompt, on_progress)?)
        } else {
            None
        };
        let latents = self.denoise(request, &prompt, negative.as_deref(), on_progress)?;
        self.decode(&latents, request, on_progress, on_frames)
    }

    /// Refuses what would make a wrong or endless computation.
    fn check(&self, request: &GenerationRequest) -> Result<()> {
        self.check_size(request.width, request.height)?;
        let rules = self.dir.size_rules();
        let num_frames = rules.round_num_frames(request.num_frames)?;
        if i64::from(num_frames) != request.num_frames {
            return refuse(
                "num_frames",
                request.num_frames.to_string(),
                format!("the nearest this model makes is {num_frames}"),
            );
        }
        self.check_steps(request.num_inference_steps)?;
        if !request.guidance_scale.is_finite() {
            return refuse(
                "guidance_scale",
                request.guidance_scale.to_string(),
                "it must be a finite number".into(),
            );
        }
        Ok(())
    }

    pub(super) fn check_size(&self, width: i64, height: i64) -> Result<()> {
        let nearest = self.dir.size_rules().round_size(width, height)?;
        if (i64::from(nearest.0), i64::from(nearest.1)) != (width, height) {
            return refuse(
                "size",
                format!("{width}x{height}"),
                format!("the nearest this model makes is {}x{}", nearest.0, nearest.1),
            );
        }
        Ok(())
    }

    pub(super) fn check_steps(&self, num_inference_steps: i64) -> Result<()> {
        let train_steps = self.dir.scheduler().num_train_timesteps;
        if !(1..=train_steps).contains(&num_inference_steps) {
            return refuse(
                "num_inference_steps",
                num_inference_steps.to_string(),
                format!("it must be 1 to {train_steps}"),
            );
        }
        Ok(())
    }

    /// Cleans, tokenizes and embeds a prompt, or finds it among the last ones or on disk.
    pub(super) fn encode_prompt(
        &self,
        prompt: &str,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Arc<PromptEmbeds>> {
        let lock = || self.prompts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, embeds)) = lock().iter().find(|(known, _)| known == prompt) {
            return Ok(Arc::clone(embeds));
        }
        let _span = tracing::debug_span!("text").entered();
        let tokens = self.tokenizer.encode(prompt, self.max_sequence_length as usize)?;
        if tokens.truncated {
            tracing::warn!(
                limit = self.max_sequence_length,
                "the prompt is longer than the model reads: cut"
            );
        }
        let vocab_size = self.dir.text_encoder().vocab_size;
        if let Some(id) = tokens.ids.iter().find(|id| !(0..vocab_size).contains(*id)) {
            return Err(DiffusionError::Unsupported(format!(
                "the tokenizer gives token {id}, the text encoder knows 0 to {}: they belong to different models",
                vocab_size - 1
            )));
        }
        let hidden = self.embed(&tokens.ids, on_progress)?;
        let embeds = Arc::new(PromptEmbeds::new(&hidden, self.max_sequence_length));
        let mut prompts = lock();
        prompts.truncate(KEPT_PROMPTS - 1);
        prompts.push_front((prompt.to_owned(), Arc::clone(&embeds)));
        Ok(embeds)
    }

    /// What the text encoder makes of these tokens, `[1, L, text_dim]`.
    fn embed(&self, ids: &[i64], on_progress: &mut OnProgress<'_>) -> Result<Tensor> {
        if let Some(cache) = &self.prompt_cache
            && let Some(hidden) = cache.get(ids, self.dir.text_encoder().d_model)
        {
            return Ok(hidden.to_device(self.device));
        }
        let encoder = self.text_encoder(on_progress)?;
        let tokens = Tensor::from_slice(ids).unsqueeze(0).to_device(self.device);
        let hidden = encoder.forward(&tokens, &tokens.ones_like());
        if let Some(cache) = &self.prompt_cache {
            cache.put(ids, &hidden);
        }
        Ok(hidden)
    }

    /// Noise → latents `[1, z_dim, T', H', W']` in f32.
    fn denoise(
        &self,
        request: &GenerationRequest,
        prompt: &PromptEmbeds,
        negative: Option<&PromptEmbeds>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Tensor> {
        let vae = self.vae.config();
        let shape = [
            1,
            self.transformer.config().in_channels,
            (request.num_frames - 1) / vae.temporal_scale_factor() + 1,
            request.height / vae.spatial_scale_factor(),
            request.width / vae.spatial_scale_factor(),
        ];
        let mut latents = seeded_noise(request.seed, &shape).to_device(self.device);

        let config = self.scheduler_config(request.scheduler);
        let mut scheduler = schedulers::from_config(&config)?;
        scheduler.set_timesteps(request.num_inference_steps as usize)?;
        let timesteps = scheduler.timesteps().to_vec();
        let boundary = self.dir.index().boundary_ratio.map(|ratio| ratio * config.num_train_timesteps as f64);

        let of = timesteps.len();
        let mut expert = Expert::new(&self.transformer, prompt, negative);
        for (i, &t) in timesteps.iter().enumerate() {
            report(on_progress, Progress::Step { step: i, of })?;
            // Mixture of two experts (Wan 2.2 A14B): below the boundary the low-noise one takes over.
            if let (Some(boundary), Some(low_noise)) = (boundary, &self.transformer_2)
                && t < boundary
                && !std::ptr::eq(expert.model, low_noise)
            {
                expert = Expert::new(low_noise, prompt, negative);
            }
            let _span = tracing::debug_span!("step", step = i).entered();
            let timestep = Tensor::from_slice(&[t as f32]).to_device(self.device);
            let velocity = expert.predict(&latents, &timestep, request.guidance_scale);
            latents = scheduler.step(&velocity, &latents)?;
        }
        report(on_progress, Progress::Step { step: of, of })?;
        Ok(latents)
    }

    /// The directory's schedule, or the same shift of it walked by another solver.
    fn scheduler_config(&self, class: Option<SchedulerClass>) -> SchedulerConfig {
        let own = self.dir.scheduler();
        class.map_or_else(|| own.clone(), |class| own.with_class(class))
    }

    /// Latents → frames, chunk by chunk over the feature cache.
    fn decode(
        &self,
        latents: &Tensor,
        request: &GenerationRequest,
        on_progress: &mut OnProgress<'_>,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        let mut memory = DecoderMemory::default();
        let of = request.num_frames as usize;
        let mut frame = 0;
        for i in 0..latents.size()[2] {
            report(on_progress, Progress::Decoding { frame, of })?;
            let rgb = {
                let _span = tracing::debug_span!("decode", frame).entered();
                Rgb8::of(&self.decode_chunk(&latents.narrow(2, i, 1), &mut memory))?
            };
            let batch = rgb.batch();
            frame += batch.num_frames;
            if on_frames(batch).is_break() {
                return Err(DiffusionError::Cancelled);
            }
        }
        report(on_progress, Progress::Decoding { frame, of })
    }
}

/// A transformer with the prompts as it sees them.
struct Expert<'a> {
    model: &'a WanTransformer3DModel,
    prompt: TextContext,
    negative: Option<TextContext>,
}

impl<'a> Expert<'a> {
    fn new(model: &'a WanTransformer3DModel, prompt: &PromptEmbeds, negative: Option<&PromptEmbeds>) -> Self {
        let context = |p: &PromptEmbeds| model.encode_context(&p.embeds, p.weights.as_ref());
        Self { model, prompt: context(prompt), negative: negative.map(context) }
    }

    /// Classifier-free guidance, arXiv 2207.12598: unconditional + scale · (conditional − unconditional).
    fn predict(&self, latents: &Tensor, timestep: &Tensor, guidance_scale: f64) -> Tensor {
        let conditional = self.model.forward(latents, timestep, &self.prompt);
        match &self.negative {
            None => conditional,
            Some(negative) => {
                let unconditional = self.model.forward(latents, timestep, negative);
                &unconditional + (conditional - &unconditional) * guidance_scale
            }
        }
    }
}

const _: fn() = || {
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<TextToVideoPipeline>();
};
