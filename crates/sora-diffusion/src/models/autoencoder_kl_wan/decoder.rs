use sora_model::config::VaeConfig;
use tch::Tensor;

use super::blocks::{Head, MidBlock, ResidualBlock};
use super::cache::FeatureCache;
use super::causal_conv::CausalConv3d;
use super::resample::Upsample;
use crate::error::Result;
use crate::weights::Weights;

/// Latents → pixels (`WanDecoder3d`).
pub(super) struct Decoder {
    conv_in: CausalConv3d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    head: Head,
}

/// One resolution of the decoder.
struct UpBlock {
    resnets: Vec<ResidualBlock>,
    upsampler: Option<Upsample>,
    /// Only in the residual layout.
    shortcut: Option<DupUp3D>,
}

impl Decoder {
    pub(super) fn new(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let base = config.decoder_base_dim();
        let mults: Vec<i64> = config.dim_mult.iter().rev().copied().collect();
        let dims: Vec<i64> = mults[..1].iter().chain(&mults).map(|multiple| base * multiple).collect();
        let last = mults.len() - 1;
        let mut up_blocks = Vec::new();
        for (i, pair) in dims.windows(2).enumerate() {
            let block = weights.pp("up_blocks").pp(i);
            let outputs = pair[1];
            // Upsampling halves the channels in the 2.1 layout and keeps them in the residual one.
            let inputs = if i > 0 && !config.is_residual { pair[0] / 2 } else { pair[0] };
            // The time factors of the encoder, from the inside out.
            let temporal = i != last && config.temperal_downsample[last - 1 - i];
            let (place, up_outputs) = if config.is_residual {
                (block.pp("upsampler"), outputs)
            } else {
                (block.pp("upsamplers").pp(0), outputs / 2)
            };
            up_blocks.push(UpBlock {
                resnets: (0..=config.num_res_blocks)
                    .map(|n| {
                        let width = if n == 0 { inputs } else { outputs };
                        ResidualBlock::new(&block.pp("resnets").pp(n), width, outputs)
                    })
                    .collect::<Result<_>>()?,
                upsampler: (i != last)
                    .then(|| Upsample::new(&place, outputs, up_outputs, temporal))
                    .transpose()?,
                shortcut: (config.is_residual && i != last)
                    .then_some(DupUp3D { outputs, factor_t: if temporal { 2 } else { 1 } }),
            });
        }
        let (top, bottom) = (dims[0], dims[dims.len() - 1]);
        Ok(Self {
            conv_in: CausalConv3d::new(&weights.pp("conv_in"), config.z_dim, top)?,
            mid_block: MidBlock::new(&weights.pp("mid_block"), top)?,
            up_blocks,
            head: Head::new(weights, bottom, config.out_channels)?,
        })
    }

    /// `[B, z_dim, T', H', W']` → `[B, out_channels, T, H, W]`.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let x = self.conv_in.forward(x.shallow_clone(), cache);
        let mut x = self.mid_block.forward(&x, cache);
        for block in &self.up_blocks {
            x = block.forward(x, cache);
        }
        self.head.forward(&x, cache)
    }
}

impl UpBlock {
    /// Takes `x`, which is kept only where there is a shortcut.
    fn forward(&self, x: Tensor, cache: &mut FeatureCache) -> Tensor {
        let shortcut = self.shortcut.as_ref().map(|shortcut| (shortcut, x.shallow_clone()));
        let mut y = x;
        for resnet in &self.resnets {
            y = resnet.forward(&y, cache);
        }
        if let Some(upsampler) = &self.upsampler {
            y = upsampler.forward(&y, cache);
        }
        if let Some((shortcut, x)) = shortcut {
            y += shortcut.forward(&x, cache.is_first_chunk());
        }
        y
    }
}

/// Repeats channels into blocks of frames and 2×2 pixels (`DupUp3D`). No parameters.
struct DupUp3D {
    outputs: i64,
    factor_t: i64,
}

impl DupUp3D {
    fn forward(&self, x: &Tensor, first_chunk: bool) -> Tensor {
        let (b, c, t, h, w) = x.size5().expect("B C T H W");
        let f_t = self.factor_t;
        let repeats = self.outputs * f_t * 4 / c;
        // B (O ft 2 2) T H W → B T ft H 2 W 2 O in memory, shown as B O (T·ft) 2H 2W
        let y = x
            .repeat_interleave_self_int(repeats, Some(1), None)
            .reshape([b, self.outputs, f_t, 2, 2, t, h, w])
            .permute([0, 5, 2, 6, 3, 7, 4, 1])
            .reshape([b, t * f_t, 2 * h, 2 * w, self.outputs])
            .permute([0, 4, 1, 2, 3]);
        // The first frame is not doubled: its earlier copies are dropped.
        if first_chunk { y.narrow(2, f_t - 1, t * f_t - (f_t - 1)) } else { y }
    }
}
