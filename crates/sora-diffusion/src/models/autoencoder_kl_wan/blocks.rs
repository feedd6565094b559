use tch::Tensor;

use super::attention::AttentionBlock;
use super::cache::FeatureCache;
use super::causal_conv::{CausalConv3d, Pointwise};
use crate::error::Result;
use crate::nn::channel_norm;
use crate::weights::Weights;

/// L2 normalisation over the channels, times √C and a learned gain (`WanRMS_norm`).
pub(super) struct ChannelNorm {
    gamma: Tensor,
}

impl ChannelNorm {
    /// `gamma` is stored as `[dim, 1, 1, 1]` in blocks over video, `[dim, 1, 1]` in attention over frames.
    pub(super) fn new(weights: &Weights, dim: i64, trailing_ones: usize) -> Result<Self> {
        let mut shape = vec![dim];
        shape.resize(1 + trailing_ones, 1);
        Ok(Self { gamma: weights.get("gamma", &shape)?.view([dim]) })
    }

    /// `[B, C, T, H, W]` → the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_channels_last(&x.permute([0, 2, 3, 4, 1])).permute([0, 4, 1, 2, 3])
    }

    /// `[…, C]` → the same shape.
    pub(super) fn forward_channels_last(&self, x: &Tensor) -> Tensor {
        channel_norm(x, &self.gamma)
    }
}

/// SiLU of the norm of `x`, in the memory of the norm: the largest activations of a decoder are these.
fn normed_silu(norm: &ChannelNorm, x: &Tensor) -> Tensor {
    let mut normed = norm.forward(x);
    let _ = normed.silu_();
    normed
}

/// Norm, SiLU, convolution, twice, beside a shortcut (`WanResidualBlock`).
pub(super) struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv3d,
    norm2: ChannelNorm,
    conv2: CausalConv3d,
    conv_shortcut: Option<Pointwise>,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self {
            norm1: ChannelNorm::new(&weights.pp("norm1"), inputs, 3)?,
            conv1: CausalConv3d::new(&weights.pp("conv1"), inputs, outputs)?,
            norm2: ChannelNorm::new(&weights.pp("norm2"), outputs, 3)?,
            conv2: CausalConv3d::new(&weights.pp("conv2"), outputs, outputs)?,
            conv_shortcut: if inputs == outputs {
                None
            } else {
                Some(Pointwise::new(&weights.pp("conv_shortcut"), inputs, outputs)?)
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let shortcut = self.conv_shortcut.as_ref().map_or_else(|| x.shallow_clone(), |c| c.forward(x));
        let y = self.conv1.forward(normed_silu(&self.norm1, x), cache);
        let normed = normed_silu(&self.norm2, &y);
        drop(y);
        let mut y = self.conv2.forward(normed, cache);
        let _ = y.g_add_(&shortcut);
        y
    }
}

/// The narrowest part of both halves: block, attention, block (`WanMidBlock`).
pub(super) struct MidBlock {
    first: ResidualBlock,
    attention: AttentionBlock,
    second: ResidualBlock,
}

impl MidBlock {
    pub(super) fn new(weights: &Weights, dim: i64) -> Result<Self> {
        Ok(Self {
            first: ResidualBlock::new(&weights.pp("resnets").pp(0), dim, dim)?,
            attention: AttentionBlock::new(&weights.pp("attentions").pp(0), dim)?,
            second: ResidualBlock::new(&weights.pp("resnets").pp(1), dim, dim)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let x = self.first.forward(x, cache);
        self.second.forward(&self.attention.forward(&x), cache)
    }
}

/// Norm, SiLU, convolution: the end of both halves.
pub(super) struct Head {
    norm_out: ChannelNorm,
    conv_out: CausalConv3d,
}

impl Head {
    pub(super) fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self {
            norm_out: ChannelNorm::new(&weights.pp("norm_out"), inputs, 3)?,
            conv_out: CausalConv3d::new(&weights.pp("conv_out"), inputs, outputs)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        self.conv_out.forward(normed_silu(&self.norm_out, x), cache)
    }
}
