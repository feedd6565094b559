//! A network that tells latents that a student drew from encoded ones, and learns beside it.
//!
//! It looks at a frame and what changed since the one before, patch by patch, so it says nothing about what is shown
//! and everything about how it looks. Where there are sources it is shown with the latents what the student was shown
//! (conditional, as in pix2pix, arXiv 1611.07004): lines are then not only to be as sharp as those of targets, but where the
//! source has them. It is taught by the hinge loss with the penalty of adversarial post-training
//! (Lin et al., arXiv 2501.08316, section 3.3): its answer may not change much where the latents hardly do.

use sora_diffusion::noise::seeded_noise;
use sora_diffusion::weights::Weights;
use tch::{Kind, Tensor};

use crate::seeds::Seeds;

/// Strength of the noise by which latents are moved for the penalty.
const NEARBY: f64 = 0.1;
/// Weight of the squared change of the answer, by the squared strength of the noise.
const PENALTY: f64 = 2.0;
/// Slope of the activations below zero.
const LEAK: f64 = 0.2;

/// Which frames it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// All of a clip.
    All,
    /// Those that are not the first.
    Later,
}

/// Convolutions over pairs of frames.
pub(super) struct Critic {
    layers: Vec<(Tensor, Tensor, i64)>,
    answer: (Tensor, Tensor),
}

/// (name, inputs or those of the layer before, outputs, kernel, stride)
const LAYERS: [(&str, i64, i64, i64); 4] =
    [("conv_in", 64, 3, 1), ("conv1", 64, 3, 1), ("down", 128, 4, 2), ("conv2", 128, 3, 1)];

impl Critic {
    /// Builds it for latents of so many channels, those of what they are shown with among them.
    pub(super) fn new(w: &Weights, channels: i64) -> sora_diffusion::Result<Self> {
        let mut inputs = 2 * channels;
        let mut layers = Vec::new();
        let conv = |name: &str, inputs, outputs, kernel| {
            let w = w.pp(name);
            let weight = w.get("weight", &[outputs, inputs, kernel, kernel])?;
            sora_diffusion::Result::Ok((weight, w.get("bias", &[outputs])?))
        };
        for (name, outputs, kernel, stride) in LAYERS {
            let (weight, bias) = conv(name, inputs, outputs, kernel)?;
            layers.push((weight, bias, stride));
            inputs = outputs;
        }
        Ok(Self { layers, answer: conv("conv_out", inputs, 1, 3)? })
    }

    /// Every frame beside its change, that of the first being none: `[B, C, F, h, w]` → `[B·F, 2·C, h, w]`. Or all but
    /// the first, which is only what the next is compared with.
    fn pairs(latents: &Tensor, frames: Frames) -> Tensor {
        let count = latents.size()[2];
        let before = Tensor::cat(&[latents.narrow(2, 0, 1), latents.narrow(2, 0, count - 1)], 2);
        let pairs = Tensor::cat(&[latents.shallow_clone(), latents - before], 1);
        let pairs = if frames == Frames::Later { pairs.narrow(2, 1, count - 1) } else { pairs };
        pairs.transpose(1, 2).flatten(0, 1)
    }

    /// Above zero what seems encoded, below what seems drawn: `[N, 1, h/2, w/2]` for [`Self::pairs`].
    fn answers(&self, pairs: &Tensor) -> Tensor {
        let mut x = pairs.shallow_clone();
        for (weight, bias, stride) in &self.layers {
            x = x.conv2d(weight, Some(bias), [*stride, *stride], [1, 1], [1, 1], 1);
            // Leaky ReLU.
            x = x.maximum(&(&x * LEAK));
        }
        let (weight, bias) = &self.answer;
        x.conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)
    }

    /// What it gets wrong about these frames of encoded and of drawn latents, `[B, C, F, h, w]` each. `seed` is that of the
    /// noise.
    pub(super) fn lesson(&self, (encoded, drawn): (&Tensor, &Tensor), frames: Frames, seed: u64) -> Tensor {
        let (encoded, drawn) = (Self::pairs(encoded, frames), Self::pairs(&drawn.detach(), frames));
        let (high, low) = (self.answers(&encoded), self.answers(&drawn));
        let short = |answers: &Tensor| (-answers + 1.0).relu().mean(Kind::Float);
        let wrong = short(&high) + short(&-&low);
        let mut seeds = Seeds::new(seed, 0, 1);
        let mut change = |latents: &Tensor, answers: &Tensor| {
            // Not the process's generator: critics of other replicas learn at the same time.
            let noise = seeded_noise(seeds.next_u64(), &latents.size()).to_device(latents.device());
            let moved = self.answers(&(latents + noise * NEARBY));
            (moved - answers).square().mean(Kind::Float)
        };
        wrong + (change(&encoded, &high) + change(&drawn, &low)) * (PENALTY / (NEARBY * NEARBY))
    }

    /// How drawn these latents seem to it.
    pub(super) fn complaint(&self, drawn: &Tensor, frames: Frames) -> Tensor {
        -self.answers(&Self::pairs(drawn, frames)).mean(Kind::Float)
    }
}
