//! The loss on clips that are not learned from, and what a training has cost so far.

use std::path::Path;

use sora_diffusion::noise::seeded_noise;
use sora_diffusion::tokenizer::Tokenizer;
use sora_model::config::TransformerConfig;
use tch::{Device, Kind, Tensor};

use crate::clips::{Batch, CaptionChoice, Clips};
use crate::latents::{Dataset, Statistics};
use crate::parameters::Parameters;
use crate::transformer::TextToLatents;

/// Clips that are not learned from, the same at every look: same noise, same levels, no caption left out.
pub(crate) struct Validation {
    clips: Clips,
    captions: CaptionChoice,
}

/// Clips of every shape that the validation loss is the mean of, at most.
const VALIDATION_CLIPS: i64 = 64;

impl Validation {
    /// Opens a folder of `sora-train latents --validation`.
    pub(crate) fn open(
        dir: &Path,
        statistics: &Statistics,
        tokenizer: &Tokenizer,
        captions: CaptionChoice,
    ) -> anyhow::Result<Self> {
        Ok(Self { clips: Clips::new(Dataset::open(dir)?, statistics, tokenizer)?, captions })
    }

    /// Mean loss over whole clips, their levels spread evenly over those of the training.
    pub(crate) fn loss(&self, model: &TextToLatents, device: Device) -> f64 {
        let _no_grad = tch::no_grad_guard();
        let (mut sum, mut count) = (0.0, 0.0);
        let buckets = self.clips.latents.iter().zip(&self.clips.sources).zip(&self.clips.tokens);
        for ((latents, sources), tokens) in buckets {
            let n = latents.size()[0].min(VALIDATION_CLIPS);
            let first = |latents: &Tensor| self.clips.normalise(&latents.narrow(0, 0, n)).to_device(device);
            let (clips, source) = (first(latents), sources.as_ref().map(first));
            let noise = seeded_noise(11, &clips.size()).to_device(device);
            // Logit-normal levels at evenly spaced probabilities.
            let normal = (Tensor::arange(n, (Kind::Float, device)) + 0.5) / n as f64;
            let sigma = ((normal * 2.0 - 1.0).erfinv() * std::f64::consts::SQRT_2).sigmoid();
            let sigma = sigma.unsqueeze(1).expand([n, clips.size()[2]], false);
            let batch = Batch { weight: sigma.ones_like(), clips, source, noise, sigma, causal: false };
            let choose = |[short, detailed]: &'_ [Vec<i64>; 2]| match self.captions {
                CaptionChoice::Detailed => detailed.clone(),
                CaptionChoice::Both | CaptionChoice::Short => short.clone(),
            };
            let tokens: Vec<Vec<i64>> = tokens[..n as usize].iter().map(choose).collect();
            for at in (0..n).step_by(16) {
                let len = (n - at).min(16);
                let part = batch.part(at, len);
                let tokens: Vec<&[i64]> =
                    tokens[at as usize..(at + len) as usize].iter().map(Vec::as_slice).collect();
                let context = model.context(&tokens, device);
                let velocity = model.velocity(
                    &model.beside(&part.noisy(), part.source.as_ref(), &context),
                    &part.sigma,
                    &context,
                    None,
                );
                let loss = part.mean_square(&(velocity - (&part.noise - &part.clips)));
                sum += loss.double_value(&[]) * len as f64;
                count += len as f64;
            }
        }
        sum / count
    }
}

/// Floating point operations of one clip, forward and backward: six for each weight of a matrix and each token
/// (arXiv 2001.08361, section 2.1), at the mean number of tokens. Attention scores are left out; they are under a
/// tenth at these lengths.
pub(crate) fn flops_per_clip(parameters: &Parameters, clips: &Clips, config: &TransformerConfig) -> f64 {
    let weights: i64 = parameters.hidden_matrices().iter().map(|m| m.rows * m.columns).sum();
    let tokens = |latents: &Tensor| {
        let (n, _, f, h, w) = latents.size5().expect("N C T H W");
        (n * f * (h / config.patch_size[1]) * (w / config.patch_size[2]), n)
    };
    let (tokens, n) = clips.latents.iter().map(tokens).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    6.0 * weights as f64 * tokens as f64 / n as f64
}
