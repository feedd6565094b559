use tch::Tensor;

use super::cache::{FeatureCache, Slot};
use super::causal_conv::{CausalConv3d, last_frames, with_two_past_frames};
use crate::error::Result;
use crate::nn::Conv2d;
use crate::weights::Weights;

/// Runs a layer over single frames: B C T H W → (B·T) C H W → layer → B C' T H' W'.
fn per_frame(x: &Tensor, layer: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let (b, c, t, h, w) = x.size5().expect("B C T H W");
    // The channels stay innermost in memory: (B·T) H W C, shown as (B·T) C H W.
    let frames = x.permute([0, 2, 3, 4, 1]).reshape([b * t, h, w, c]).permute([0, 3, 1, 2]);
    let y = layer(&frames);
    let (_, c, h, w) = y.size4().expect("N C H W");
    y.permute([0, 2, 3, 1]).reshape([b, t, h, w, c]).permute([0, 4, 1, 2, 3])
}

/// Halves height and width, and with `time_conv` the frame rate (`WanResample` downsample2d, downsample3d).
pub(super) struct Downsample {
    conv: Conv2d,
    time_conv: Option<CausalConv3d>,
}

impl Downsample {
    pub(super) fn new(weights: &Weights, dim: i64, temporal: bool) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(&weights.pp("resample").pp(1), dim, dim, 2, 0)?,
            time_conv: temporal
                .then(|| CausalConv3d::over_time(&weights.pp("time_conv"), dim, dim))
                .transpose()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        // Padded by one on the right and at the bottom only.
        let x = per_frame(x, |frames| self.conv.forward(&frames.constant_pad_nd([0, 1, 0, 1])));
        let Some(time_conv) = &self.time_conv else { return x };
        let t = x.size()[2];
        let slot = cache.slot();
        let past = match slot {
            Slot::Frames(past) => Some(past.shallow_clone()),
            Slot::Empty | Slot::FirstPassed => None,
        };
        *slot = Slot::Frames(last_frames(&x, 1));
        match past {
            // Windows of three frames, every second one; the first reaches back one frame.
            Some(past) => time_conv.convolve(&Tensor::cat(&[&past, &x], 2), 2),
            // The first frame of a clip passes as it is.
            None if t == 1 => x,
            None => Tensor::cat(&[&x.narrow(2, 0, 1), &time_conv.convolve(&x, 2)], 2),
        }
    }
}

/// Doubles height and width, and with `time_conv` the frame rate (`WanResample` upsample2d, upsample3d).
pub(super) struct Upsample {
    conv: Conv2d,
    time_conv: Option<CausalConv3d>,
}

impl Upsample {
    pub(super) fn new(weights: &Weights, dim: i64, outputs: i64, temporal: bool) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(&weights.pp("resample").pp(1), dim, outputs, 1, 1)?,
            time_conv: temporal
                .then(|| CausalConv3d::over_time(&weights.pp("time_conv"), dim, 2 * dim))
                .transpose()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, cache: &mut FeatureCache) -> Tensor {
        let x = match &self.time_conv {
            Some(time_conv) => double_frames(x, time_conv, cache.slot()),
            None => x.shallow_clone(),
        };
        per_frame(&x, |frames| {
            let (_, _, h, w) = frames.size4().expect("N C H W");
            // "nearest-exact", and in f32, in the reference: for a factor of exactly 2 both rules pick the same pixel, and
            // copied values are the same in every format.
            self.conv.forward(&frames.upsample_nearest2d([2 * h, 2 * w], None, None))
        })
    }
}

/// Every frame becomes two, but for the first of the clip, which passes alone and unremembered.
fn double_frames(x: &Tensor, time_conv: &CausalConv3d, slot: &mut Slot) -> Tensor {
    let (b, c, t, h, w) = x.size5().expect("B C T H W");
    let passed = i64::from(matches!(slot, Slot::Empty));
    if t == passed {
        *slot = Slot::FirstPassed;
        return x.shallow_clone();
    }
    let rest = x.narrow(2, passed, t - passed);
    let padded = match slot {
        Slot::Frames(past) => with_two_past_frames(&rest, Some(past)),
        Slot::Empty | Slot::FirstPassed => with_two_past_frames(&rest, None),
    };
    *slot = Slot::Frames(last_frames(&padded, 2));
    // Channels 0…C−1 are the earlier frame of each pair: B 2C T H W → B T H W (2 C) → B T 2 H W C
    let doubled = time_conv
        .convolve(&padded, 1)
        .permute([0, 2, 3, 4, 1])
        .reshape([b, t - passed, h, w, 2, c])
        .permute([0, 1, 4, 2, 3, 5])
        .reshape([b, 2 * (t - passed), h, w, c])
        .permute([0, 4, 1, 2, 3]);
    if passed == 1 { Tensor::cat(&[&x.narrow(2, 0, 1), &doubled], 2) } else { doubled }
}
