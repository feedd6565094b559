use sora_model::config::VaeConfig;
use tch::Tensor;

use super::blocks::{Head, MidBlock, ResidualBlock};
use super::cache::FeatureCache;
use super::causal_conv::CausalConv3d;
use super::resample::Downsample;
use crate::error::Result;
use crate::weights::Weights;

/// Pixels → moments of the latents (`WanEncoder3d`).
pub(super) struct Encoder {
    conv_in: CausalConv3d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    head: Head,
}

/// One resolution of the encoder.
struct DownBlock {
    resnets: Vec<ResidualBlock>,
    downsampler: Option<Downsample>,
    /// Only in the residual layout.
    shortcut: Option<AvgDown3D>,
}

impl Encoder {
    pub(super) fn new(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let dims: Vec<i64> =
            [1].iter().chain(&config.dim_mult).map(|multiple| config.base_dim * multiple).collect();
        let last = config.dim_mult.len() - 1;
        let down = weights.pp("down_blocks");
        // In the 2.1 layout the blocks of all resolutions are numbered in one list.
        let mut flat = 0..;
        let mut next = || down.pp(flat.next().expect("an open range does not end"));
        let mut down_blocks = Vec::new();
        for (i, pair) in dims.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let temporal = i != last && config.temperal_downsample[i];
            let widths = (0..config.num_res_blocks).map(|n| if n == 0 { inputs } else { outputs });
            down_blocks.push(if config.is_residual {
                let block = down.pp(i);
                DownBlock {
                    resnets: widths
                        .enumerate()
                        .map(|(n, width)| ResidualBlock::new(&block.pp("resnets").pp(n), width, outputs))
                        .collect::<Result<_>>()?,
                    downsampler: (i != last)
                        .then(|| Downsample::new(&block.pp("downsampler"), outputs, temporal))
                        .transpose()?,
                    shortcut: Some(AvgDown3D {
                        outputs,
                        factor_t: if temporal { 2 } else { 1 },
                        factor_s: if i == last { 1 } else { 2 },
                    }),
                }
            } else {
                DownBlock {
                    resnets: widths
                        .map(|width| ResidualBlock::new(&next(), width, outputs))
                        .collect::<Result<_>>()?,
                    downsampler: (i != last)
                        .then(|| Downsample::new(&next(), outputs, temporal))
                        .transpose()?,
                    shortcut: None,
                }
            });
        }
        let top = dims[dims.len() - 1];
        Ok(Self {
            conv_in: CausalConv3d::new(&weights.pp("conv_in"), config.in_channels, dims[0])?,
            down_blocks,
            mid_block: MidBlock::new(&weights.pp("mid_block"), top)?,
            head: Head::new(weights, top, 2 * config.z_dim)?,
        })
    }

    /// `[B, in_channels, T, H, W]` → `[B, 2·z_dim, T', H', W']`.
    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let mut x = self.conv_in.forward(x.shallow_clone(), cache);
        for block in &self.down_blocks {
            x = block.forward(&x, cache);
        }
        self.head.forward(&self.mid_block.forward(&x, cache), cache)
    }
}

impl DownBlock {
    fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let mut y = x.shallow_clone();
        for resnet in &self.resnets {
            y = resnet.forward(&y, cache);
        }
        if let Some(downsampler) = &self.downsampler {
            y = downsampler.forward(&y, cache);
        }
        match &self.shortcut {
            Some(shortcut) => y + shortcut.forward(x),
            None => y,
        }
    }
}

/// Averages blocks of frames and pixels, with groups of channels (`AvgDown3D`). No parameters.
struct AvgDown3D {
    outputs: i64,
    factor_t: i64,
    factor_s: i64,
}

impl AvgDown3D {
    fn forward(&self, x: &Tensor) -> Tensor {
        let (f_t, f_s) = (self.factor_t, self.factor_s);
        // A first frame that stands alone is averaged with zeros before it.
        let missing = (f_t - x.size()[2] % f_t) % f_t;
        let x = if missing == 0 { x.shallow_clone() } else { x.constant_pad_nd([0, 0, 0, 0, missing, 0]) };
        let (b, c, t, h, w) = x.size5().expect("B C T H W");
        let (t, h, w) = (t / f_t, h / f_s, w / f_s);
        let group = c * f_t * f_s * f_s / self.outputs;
        // B C T ft H fs W fs → B (C ft fs fs) T H W → B O group T H W → mean over the group
        x.reshape([b, c, t, f_t, h, f_s, w, f_s])
            .permute([0, 1, 3, 5, 7, 2, 4, 6])
            .reshape([b, self.outputs, group, t, h, w])
            .mean_dim([2i64].as_slice(), false, x.kind())
    }
}
