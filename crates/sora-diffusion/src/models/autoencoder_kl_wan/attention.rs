use tch::Tensor;

use super::blocks::ChannelNorm;
use crate::error::Result;
use crate::nn::Linear;
use crate::weights::Weights;

/// Self-attention within each frame, one head as wide as the channels (`WanAttentionBlock`).
pub(super) struct AttentionBlock {
    norm: ChannelNorm,
    to_qkv: Linear,
    proj: Linear,
}

impl AttentionBlock {
    pub(super) fn new(weights: &Weights, dim: i64) -> Result<Self> {
        Ok(Self {
            norm: ChannelNorm::new(&weights.pp("norm"), dim, 2)?,
            to_qkv: Linear::from_conv(&weights.pp("to_qkv"), dim, 3 * dim, &[1, 1])?,
            proj: Linear::from_conv(&weights.pp("proj"), dim, dim, &[1, 1])?,
        })
    }

    /// `[B, C, T, H, W]` → the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (b, c, t, h, w) = x.size5().expect("B C T H W");
        // B C T H W → (B·T) 1 (H·W) C
        let tokens = x.permute([0, 2, 3, 4, 1]).reshape([b * t, 1, h * w, c]);
        let qkv = self.to_qkv.forward(&self.norm.forward_channels_last(&tokens)).chunk(3, -1);
        let y = Tensor::scaled_dot_product_attention(
            &qkv[0],
            &qkv[1],
            &qkv[2],
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        self.proj.forward(&y).view([b, t, h, w, c]).permute([0, 4, 1, 2, 3]) + x
    }
}
