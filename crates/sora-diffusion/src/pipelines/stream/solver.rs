//! The steps of a block: which noise levels, and how one is left for the next.

use sora_model::config::{Numerics, Rotation};
use tch::{Device, Kind, Tensor};

use super::super::TextToVideoPipeline;
use super::schedule::levels;
use super::{BlockRequest, BlockStream};
use crate::error::{DiffusionError, Result};
use crate::noise::seeded_noise;
use crate::schedulers::few_step::{FewStepSchedule, add_noise, list_of, predict_clean};

/// Seeds of the steps of one block lie this far apart; another odd number than the one between blocks.
const NOISE_SEED_STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// The noise of a block, by seed. It is drawn frame by frame (B T C H W in memory), as the Self-Forcing code draws it.
pub(super) struct Fresh {
    pub(super) seed: u64,
    /// T C H W
    pub(super) shape: [i64; 4],
    pub(super) device: Device,
    /// The format that its values are rounded to, and stay in f32.
    pub(super) rounded_to: Kind,
}

impl Fresh {
    /// The noise that the block begins with, `[1, C, T, H, W]`.
    pub(super) fn first(&self) -> Tensor {
        self.of(self.seed)
    }

    /// Noise for what the step number `step` has denoised, `[1, C, T, H, W]`.
    pub(super) fn draw(&self, step: usize) -> Tensor {
        self.of(self.seed.wrapping_add(NOISE_SEED_STEP.wrapping_mul(step as u64 + 1)))
    }

    fn of(&self, seed: u64) -> Tensor {
        let [t, c, h, w] = self.shape;
        // B T C H W → B C T H W
        let noise = seeded_noise(seed, &[1, t, c, h, w]).transpose(1, 2).contiguous();
        rounded(noise, self.rounded_to).to_device(self.device)
    }
}

/// f32 values that `kind` has too.
fn rounded(x: Tensor, kind: Kind) -> Tensor {
    if kind == Kind::Float { x } else { x.to_kind(kind).to_kind(Kind::Float) }
}

/// One first-order step along the flow, from the first noise level to the second.
pub(super) fn euler(latents: Tensor, velocity: &Tensor, (sigma, next): (f64, f64)) -> Tensor {
    latents + velocity.to_kind(Kind::Float) * (next - sigma)
}

impl TextToVideoPipeline {
    /// Noise levels of a block of this strength, 0 last; `alone` where it has no past.
    pub(in super::super) fn block_levels(
        &self,
        strength: f64,
        num_inference_steps: i64,
        alone: bool,
    ) -> Vec<f64> {
        let causal = self.dir.causal();
        let shift = causal.timestep_shift.unwrap_or_else(|| self.dir.scheduler().shift_of_flow());
        if !causal.is_few_step() || strength < 1.0 {
            return levels(strength, num_inference_steps, shift);
        }
        let (list, first) = (&causal.denoising_step_list, &causal.denoising_step_list_first_chunk);
        let own = list.len() as i64 == num_inference_steps;
        let list = if alone && own && !first.is_empty() {
            first.clone()
        } else {
            list_of(list, num_inference_steps)
        };
        FewStepSchedule::new(shift).levels(&list, causal.warp_denoising_step)
    }

    /// From one noise level to the next as the model was taught to: along the flow, or by way of a clean prediction
    /// that is noised again with `fresh` noise.
    pub(super) fn advance(
        &self,
        latents: Tensor,
        velocity: &Tensor,
        (sigma, next): (f64, f64),
        fresh: impl FnOnce() -> Tensor,
    ) -> Tensor {
        if !self.dir.causal().is_few_step() {
            return euler(latents, velocity, (sigma, next));
        }
        let clean = rounded(predict_clean(&latents, velocity, sigma), self.latents_in());
        if next > 0.0 { rounded(add_noise(&clean, &fresh(), next), self.latents_in()) } else { clean }
    }

    /// The format that latents are rounded to between steps: f32, or that of the weights, as Self-Forcing does.
    pub(super) fn latents_in(&self) -> Kind {
        match self.dir.causal().numerics {
            Numerics::Diffusers => Kind::Float,
            Numerics::SelfForcing => self.kinds.transformer,
        }
    }

    /// Refuses a block for whose frames there are no positions.
    pub(super) fn check_position(&self, stream: &BlockStream, request: &BlockRequest<'_>) -> Result<()> {
        let last = stream.memory.next_position() + stream.causal.block_size(stream.blocks);
        let most = self.transformer.config().rope_max_seq_len;
        let begins_anew = !request.keep_past && !stream.memory.is_told(request.prompt);
        if stream.causal.rotation == Rotation::Relative || last <= most || begins_anew {
            return Ok(());
        }
        Err(DiffusionError::Request {
            what: "length of the stream",
            value: format!("{last} latent frames"),
            bound: format!(
                "with rotation `absolute` this model has positions for {most}; `relative` has no end"
            ),
        })
    }
}
