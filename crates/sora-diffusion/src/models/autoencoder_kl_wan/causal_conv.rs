use tch::Tensor;

use super::cache::{FeatureCache, Slot};
use crate::error::Result;
use crate::nn::{Linear, conv3d};
use crate::weights::Weights;

/// A 3D convolution that sees the past only (`WanCausalConv3d`): padded on both sides in space, with the
/// cached frames or zeros on the left in time.
pub(super) struct CausalConv3d {
    weight: Tensor,
    bias: Tensor,
    spatial_padding: i64,
}

impl CausalConv3d {
    /// Kernel 3×3×3.
    pub(super) fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Self::with_kernel(weights, inputs, outputs, 3)
    }

    /// Kernel 3×1×1: mixes frames, not pixels.
    pub(super) fn over_time(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Self::with_kernel(weights, inputs, outputs, 1)
    }

    fn with_kernel(weights: &Weights, inputs: i64, outputs: i64, side: i64) -> Result<Self> {
        Ok(Self {
            weight: weights.get("weight", &[outputs, inputs, 3, side, side])?,
            bias: weights.get("bias", &[outputs])?,
            spatial_padding: side / 2,
        })
    }

    /// `[B, C, T, H, W]` → `[B, O, T, H, W]`, with the two frames before taken from and left in the cache. Takes `x`, so
    /// that it is gone while the convolution has its padded copy and its result in memory.
    pub(super) fn forward(&self, x: Tensor, cache: &mut FeatureCache) -> Tensor {
        let slot = cache.slot();
        let padded = match &*slot {
            Slot::Frames(past) => with_two_past_frames(&x, Some(past)),
            Slot::Empty | Slot::FirstPassed => with_two_past_frames(&x, None),
        };
        drop(x);
        *slot = Slot::Frames(last_frames(&padded, 2));
        self.convolve(&padded, 1)
    }

    /// The bare convolution, no padding in time: T frames give (T − 3)/stride + 1.
    pub(super) fn convolve(&self, x: &Tensor, time_stride: i64) -> Tensor {
        let p = self.spatial_padding;
        conv3d(x, &self.weight, &self.bias, [time_stride, 1, 1], [0, p, p])
    }
}

/// Puts `past` before `x` in time, and zeros before that until there are two frames more than in `x`.
pub(super) fn with_two_past_frames(x: &Tensor, past: Option<&Tensor>) -> Tensor {
    let known = past.map_or(0, |p| p.size()[2]);
    let (b, c, _, h, w) = x.size5().expect("B C T H W");
    // Laid out like x (channels innermost), so that cat keeps the layout.
    let zeros = || Tensor::zeros([b, 2 - known, h, w, c], (x.kind(), x.device())).permute([0, 4, 1, 2, 3]);
    match past {
        Some(past) if known == 2 => Tensor::cat(&[past, x], 2),
        Some(past) => Tensor::cat(&[&zeros(), past, x], 2),
        None => Tensor::cat(&[&zeros(), x], 2),
    }
}

/// A copy of the last `count` frames, so that the cache does not hold whole chunks alive.
pub(super) fn last_frames(x: &Tensor, count: i64) -> Tensor {
    let t = x.size()[2];
    x.narrow(2, t - count, count).detach().copy()
}

/// A convolution of kernel 1×1×1: a linear layer over channels.
pub(super) struct Pointwise(Linear);

impl Pointwise {
    /// Stored as `[outputs, inputs, 1, 1, 1]`.
    pub(super) fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self(Linear::from_conv(weights, inputs, outputs, &[1, 1, 1])?))
    }

    /// `[B, C, T, H, W]` → `[B, O, T, H, W]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.0.forward(&x.permute([0, 2, 3, 4, 1])).permute([0, 4, 1, 2, 3])
    }
}
