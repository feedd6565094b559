//! The causal video VAE of the Wan family, `AutoencoderKLWan`.
//!
//! Follows `models/autoencoders/autoencoder_kl_wan.py` of diffusers 0.42 (Wan 2.1, arXiv 2503.20314):
//! both the 2.1 layout and the residual layout of 2.2 (`is_residual`, with `patch_size`).
//!
//! Every layer is causal in time, so a clip may be coded in chunks: a [`FeatureCache`] holds what each
//! layer needs of the frames before. The first frame stands alone, after it `scale_factor_temporal`
//! frames make one latent frame. Chunks of any size give the same result as the whole clip at once.
//!
//! Letters: B batch, C channels, T frames, H W height and width, all of the stage at hand.

mod attention;
mod blocks;
mod cache;
mod causal_conv;
mod decoder;
mod encoder;
mod resample;

use sora_model::config::VaeConfig;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::nn::channels_last_3d;
use crate::weights::Weights;

pub use cache::FeatureCache;
use causal_conv::Pointwise;
use decoder::Decoder;
use encoder::Encoder;

/// The Gaussian that the encoder predicts for every latent value.
pub struct DiagonalGaussian {
    /// `[B, z_dim, T, H, W]`
    pub mean: Tensor,
    /// Natural logarithm of the variance, clamped to −30…20 as in the reference.
    pub logvar: Tensor,
}

impl DiagonalGaussian {
    fn new(moments: &Tensor) -> Self {
        let halves = moments.chunk(2, 1);
        Self { mean: halves[0].shallow_clone(), logvar: halves[1].clamp(-30.0, 20.0) }
    }

    /// The most likely latent, which pipelines use.
    pub fn mode(&self) -> Tensor {
        self.mean.shallow_clone()
    }

    /// A latent drawn with libtorch's default generator.
    pub fn sample(&self) -> Tensor {
        &self.mean + (&self.logvar * 0.5).exp() * self.mean.randn_like()
    }
}

/// Video ↔ latents. Either half may be left out to save memory.
pub struct AutoencoderKlWan {
    config: VaeConfig,
    encoder: Option<(Encoder, Pointwise)>,
    decoder: Option<(Pointwise, Decoder)>,
    latents_mean: Tensor,
    latents_std: Tensor,
}

impl AutoencoderKlWan {
    /// Builds both halves.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn new(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let z = config.z_dim;
        let encoder = Encoder::new(&weights.pp("encoder"), config)?;
        let quant_conv = Pointwise::new(&weights.pp("quant_conv"), 2 * z, 2 * z)?;
        let post_quant_conv = Pointwise::new(&weights.pp("post_quant_conv"), z, z)?;
        let decoder = Decoder::new(&weights.pp("decoder"), config)?;
        Ok(Self {
            encoder: Some((encoder, quant_conv)),
            decoder: Some((post_quant_conv, decoder)),
            ..Self::without_weights(config)
        })
    }

    /// Neither half: it knows its latents, and needs no weights for that.
    pub fn without_weights(config: &VaeConfig) -> Self {
        let stats = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).view([1, -1, 1, 1, 1]);
        Self {
            config: config.clone(),
            encoder: None,
            decoder: None,
            latents_mean: stats(&config.latents_mean),
            latents_std: stats(&config.latents_std),
        }
    }

    /// Drops the encoder: text to video does not need it.
    #[must_use]
    pub fn without_encoder(mut self) -> Self {
        self.encoder = None;
        self
    }

    /// Drops the decoder, for those who only encode.
    #[must_use]
    pub fn without_decoder(mut self) -> Self {
        self.decoder = None;
        self
    }

    /// The config it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// What the transformer sees: `(z − mean) / std` per channel, `[B, z_dim, T, H, W]`.
    pub fn normalize_latents(&self, z: &Tensor) -> Tensor {
        let (mean, std) = self.stats(z.device(), z.kind());
        (z - mean) / std
    }

    /// The inverse of [`Self::normalize_latents`].
    pub fn denormalize_latents(&self, latents: &Tensor) -> Tensor {
        let (mean, std) = self.stats(latents.device(), latents.kind());
        // Division by the reciprocal, like the reference, so that the roundings agree.
        latents / std.reciprocal() + mean
    }

    fn stats(&self, device: Device, kind: Kind) -> (Tensor, Tensor) {
        (self.latents_mean.to_device(device).to_kind(kind), self.latents_std.to_device(device).to_kind(kind))
    }

    /// Encodes a clip `[B, 3, T, H, W]` in −1…1; T = 1 + a multiple of the temporal factor.
    ///
    /// # Panics
    /// If the encoder was left out.
    pub fn encode(&self, video: &Tensor) -> DiagonalGaussian {
        self.encode_chunk(video, &mut FeatureCache::new())
    }

    /// Encodes the next frames of a clip: first 1 + k·factor of them, then k·factor at a time.
    pub fn encode_chunk(&self, video: &Tensor, cache: &mut FeatureCache) -> DiagonalGaussian {
        let (encoder, quant_conv) = self.encoder.as_ref().expect("the encoder was left out at load");
        let x = channels_last_3d(&patchify(video, self.config.patch_size()));
        let moments = quant_conv.forward(&encoder.forward(&x, cache.begin()));
        cache.end();
        DiagonalGaussian::new(&moments)
    }

    /// Decodes latents `[B, z_dim, T', H', W']` (already denormalised) at once: `[B, 3, T, H, W]` in −1…1.
    pub fn decode(&self, z: &Tensor) -> Tensor {
        self.decode_chunk(z, &mut FeatureCache::new())
    }

    /// Decodes the next latent frames of a clip.
    ///
    /// # Panics
    /// If the decoder was left out.
    pub fn decode_chunk(&self, z: &Tensor, cache: &mut FeatureCache) -> Tensor {
        self.decode_chunk_unclamped(z, cache).clamp(-1.0, 1.0)
    }

    /// [`Self::decode`] without the final clamp, which would stop gradients: for training.
    pub fn decode_unclamped(&self, z: &Tensor) -> Tensor {
        self.decode_chunk_unclamped(z, &mut FeatureCache::new())
    }

    fn decode_chunk_unclamped(&self, z: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let (post_quant_conv, decoder) = self.decoder.as_ref().expect("the decoder was left out at load");
        let x = post_quant_conv.forward(&channels_last_3d(z));
        let x = decoder.forward(&x, cache.begin());
        cache.end();
        unpatchify(&x, self.config.patch_size())
    }
}

/// B C T H·p W·p → B (C·pw·ph) T H W; note that the column offset is the slower one.
fn patchify(x: &Tensor, p: i64) -> Tensor {
    if p == 1 {
        return x.shallow_clone();
    }
    let (b, c, t, h, w) = x.size5().expect("B C T H W");
    x.reshape([b, c, t, h / p, p, w / p, p]).permute([0, 1, 6, 4, 2, 3, 5]).reshape([
        b,
        c * p * p,
        t,
        h / p,
        w / p,
    ])
}

/// The inverse of [`patchify`].
fn unpatchify(x: &Tensor, p: i64) -> Tensor {
    if p == 1 {
        return x.shallow_clone();
    }
    let (b, c, t, h, w) = x.size5().expect("B C T H W");
    x.reshape([b, c / (p * p), p, p, t, h, w]).permute([0, 1, 4, 5, 3, 6, 2]).reshape([
        b,
        c / (p * p),
        t,
        h * p,
        w * p,
    ])
}
