//! Video without an end: latent frame after latent frame over a cache of keys and values.

use tch::Tensor;

use super::text_to_video::{TextToVideoPipeline, report};
use super::{OnFrames, OnProgress, Progress, to_rgb8};
use crate::error::{DiffusionError, Result};
use crate::models::autoencoder_kl_wan::FeatureCache;
use crate::models::transformer_wan::{CacheLimits, KvCache};
use crate::noise::seeded_noise;
use crate::pipelines::FrameBatch;
use crate::schedulers;

/// A stream to make. Only models that were trained block-causally (sora-tiny, the Self-Forcing family) make
/// sense of it; no guidance, as such models need none.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRequest {
    /// What to show.
    pub prompt: String,
    /// Pixels, as in [`super::GenerationRequest`].
    pub width: i64,
    /// Pixels, as in [`super::GenerationRequest`].
    pub height: i64,
    /// Denoising steps per latent frame.
    pub num_inference_steps: i64,
    /// Same seed, same video.
    pub seed: u64,
    /// Latent frames to make; the first is one frame of video, each other one as many as the VAE compresses.
    pub latent_frames: u64,
    /// What the model remembers, 0 ≤ sink ≤ frames.
    pub memory: CacheLimits,
}

impl TextToVideoPipeline {
    /// Makes a stream. Frames come as soon as they are decoded; a broken-off callback ends it.
    ///
    /// # Errors
    /// As [`TextToVideoPipeline::generate`].
    pub fn stream(
        &self,
        request: &StreamRequest,
        on_progress: &mut OnProgress<'_>,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.check_size(request.width, request.height)?;
        self.check_steps(request.num_inference_steps)?;
        let memory = request.memory;
        if !(0 <= memory.sink && memory.sink <= memory.frames && memory.frames < self.max_frames()) {
            return Err(DiffusionError::Request {
                what: "memory",
                value: format!("a sink of {} in {} frames", memory.sink, memory.frames),
                bound: format!("it must be 0 <= sink <= frames < {}", self.max_frames()),
            });
        }
        report(on_progress, Progress::Encoding)?;
        let prompt = self.encode_prompt(&request.prompt)?;
        let context = self.transformer.encode_context(&prompt.embeds, prompt.weights.as_ref());
        let scale = self.vae.config().spatial_scale_factor();
        let channels = self.transformer.config().in_channels;
        let shape = [1, channels, 1, request.height / scale, request.width / scale];

        let mut cache = KvCache::new(&self.transformer, memory);
        let mut features = FeatureCache::new();
        let of = request.latent_frames as usize;
        for frame in 0..request.latent_frames {
            report(on_progress, Progress::Step { step: frame as usize, of })?;
            let mut scheduler = schedulers::from_config(self.dir.scheduler())?;
            scheduler.set_timesteps(request.num_inference_steps as usize)?;
            // The first frame has the noise of its seed; the others have seeds far from it and each other.
            let seed = request.seed.wrapping_add(frame.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut latents = seeded_noise(seed, &shape).to_device(self.device);
            for &t in &scheduler.timesteps().to_vec() {
                let timestep = Tensor::from_slice(&[t as f32]).to_device(self.device);
                let velocity = self.transformer.forward_block(&latents, &timestep, &context, &cache);
                latents = scheduler.step(&velocity, &latents)?;
            }
            let clean = Tensor::from_slice(&[0f32]).to_device(self.device);
            self.transformer.remember_block(&latents, &clean, &context, &mut cache);

            let z = self.vae.denormalize_latents(&latents.to_kind(self.kinds.vae));
            let video = self.vae.decode_chunk(&z, &mut features);
            let batch = FrameBatch {
                data: &to_rgb8(&video),
                num_frames: video.size()[2] as usize,
                width: request.width as usize,
                height: request.height as usize,
            };
            if on_frames(batch).is_break() {
                return Err(DiffusionError::Cancelled);
            }
        }
        report(on_progress, Progress::Step { step: of, of })
    }

    /// Positions that the rotary table has for latent frames.
    fn max_frames(&self) -> i64 {
        self.transformer.config().rope_max_seq_len
    }
}
