//! TAEHV, the tiny autoencoder for video latents (<https://github.com/madebyollin/taehv>, MIT), in the layouts for
//! Wan 2.1 (`taew2_1`) and Wan 2.2 5B (`taew2_2`).
//!
//! It reads and writes the latents that the transformer sees, not those of the large VAE: no mean and no standard
//! deviation come in between. All its layers work on single frames; what ties the frames together is that some see the
//! frame before as well, which a [`FrameMemory`] carries from chunk to chunk.
//!
//! **Encoding looks ahead.** The large VAE makes its first latent frame of one frame and every other of four. This one
//! makes every latent frame of four, and its frame i stands for the large one's frame i: it has seen up to three frames
//! more. A live filter would have to wait for them, which is why streams are encoded by the large VAE.
//!
//! Letters: T frames, C channels, H W height and width, all of the stage at hand.

mod layers;

use sora_model::config::TinyVaeConfig;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::nn::Conv2d;
use crate::weights::Weights;

pub use layers::FrameMemory;
use layers::{Layer, MemBlock, Sequential};

/// Frames that the encoder halves twice.
const FRAMES_PER_LATENT: i64 = 4;

/// Video ↔ latents of the transformer, coarsely and fast.
pub struct Taehv {
    config: TinyVaeConfig,
    encoder: Sequential,
    decoder: Sequential,
}

impl Taehv {
    /// Builds both halves; the file of weights has no config but its shapes ([`TinyVaeConfig::of`]).
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn new(weights: &Weights, config: &TinyVaeConfig) -> Result<Self> {
        Ok(Self {
            encoder: encoder(&weights.pp("encoder"), config)?,
            decoder: decoder(&weights.pp("decoder"), config)?,
            config: config.clone(),
        })
    }

    /// The sizes it was built with.
    pub fn config(&self) -> &TinyVaeConfig {
        &self.config
    }

    /// Number format of the decoder's parameters.
    pub fn kind(&self) -> Kind {
        self.decoder.kind()
    }

    /// Decodes the next latent frames of a clip, `[1, C, T', H', W']` as the transformer makes them: `[1, 3, T, H, W]`
    /// in −1…1, in the kind of the weights. The first latent frame makes one frame, every other four.
    pub fn decode_chunk(&self, latents: &Tensor, memory: &mut FrameMemory) -> Tensor {
        let x = self.decoder.forward(&frames_first(latents, self.decoder.kind()), memory);
        let x = unfold(&x, self.config.patch_size).clamp(0.0, 1.0);
        let (frames, skipped) = (x.size()[0], memory.skip(self.config.temporal_scale_factor() - 1));
        frames_third(&x.narrow(0, skipped, frames - skipped)) * 2.0 - 1.0
    }

    /// Encodes the next frames of a clip, `[1, 3, T, H, W]` in −1…1, T a multiple of 4: `[1, C, T/4, H', W']` as the
    /// transformer sees them.
    ///
    /// # Panics
    /// If T is not a multiple of 4, or H and W none of [`TinyVaeConfig::spatial_scale_factor`].
    pub fn encode_chunk(&self, video: &Tensor, memory: &mut FrameMemory) -> Tensor {
        let frames = video.size()[2];
        assert_eq!(frames % FRAMES_PER_LATENT, 0, "{frames} frames are no whole latent frames");
        let x = frames_first(&(video * 0.5 + 0.5), self.encoder.kind());
        frames_third(&self.encoder.forward(&fold(&x, self.config.patch_size), memory))
    }
}

fn memory_blocks(weights: &Weights, first: usize, dim: i64) -> Result<Vec<Layer>> {
    (first..first + 3).map(|i| Ok(Layer::Mem(MemBlock::new(&weights.pp(i), dim)?))).collect()
}

fn encoder(weights: &Weights, config: &TinyVaeConfig) -> Result<Sequential> {
    let (dim, patch) = (config.encoder_dim, config.patch_size);
    let mut layers =
        vec![Layer::Conv(Conv2d::new(&weights.pp(0), 3 * patch * patch, dim, 1, 1)?), Layer::Relu];
    for (level, stride) in [2, 2, 1].into_iter().enumerate() {
        let first = 2 + 5 * level;
        let weight = weights.pp(first).pp("conv").get("weight", &[dim, dim * stride, 1, 1])?;
        layers.push(Layer::Pool(Conv2d::pointwise(weight), stride));
        layers.push(Layer::Conv(Conv2d::without_bias(&weights.pp(first + 1), dim, dim, 2, 1)?));
        layers.extend(memory_blocks(weights, first + 2, dim)?);
    }
    layers.push(Layer::Conv(Conv2d::new(&weights.pp(17), dim, config.latent_channels, 1, 1)?));
    Ok(Sequential::new(layers))
}

fn decoder(weights: &Weights, config: &TinyVaeConfig) -> Result<Sequential> {
    let (dims, patch) = (config.decoder_dims, config.patch_size);
    let first = Conv2d::new(&weights.pp(1), config.latent_channels, dims[0], 1, 1)?;
    let mut layers = vec![Layer::SoftClamp, Layer::Conv(first), Layer::Relu];
    for level in 0..3 {
        let (dim, first) = (dims[level], 3 + 6 * level);
        layers.extend(memory_blocks(weights, first, dim)?);
        layers.push(Layer::Upsample);
        let (growth, stored) = (TinyVaeConfig::TIME_GROWTH[level], config.stored_growth[level]);
        let weight = weights.pp(first + 4).pp("conv").get("weight", &[dim * stored, dim, 1, 1])?;
        let last = weight.narrow(0, dim * (stored - growth), dim * growth);
        layers.push(Layer::Grow(Conv2d::pointwise(last), growth));
        layers.push(Layer::Conv(Conv2d::without_bias(&weights.pp(first + 5), dim, dims[level + 1], 1, 1)?));
    }
    layers.push(Layer::Relu);
    layers.push(Layer::Conv(Conv2d::new(&weights.pp(22), dims[3], 3 * patch * patch, 1, 1)?));
    Ok(Sequential::new(layers))
}

/// 1 C T H W → T C H W, in the kind of the weights.
fn frames_first(x: &Tensor, kind: Kind) -> Tensor {
    x.squeeze_dim(0).transpose(0, 1).to_kind(kind).contiguous()
}

/// T C H W → 1 C T H W
fn frames_third(x: &Tensor) -> Tensor {
    x.transpose(0, 1).unsqueeze(0)
}

/// T C H·p W·p → T C·p·p H W
fn fold(x: &Tensor, patch: i64) -> Tensor {
    if patch == 1 { x.shallow_clone() } else { x.pixel_unshuffle(patch) }
}

/// The inverse of [`fold`].
fn unfold(x: &Tensor, patch: i64) -> Tensor {
    if patch == 1 { x.shallow_clone() } else { x.pixel_shuffle(patch) }
}
