//! Frames as tensors.

use sora_world::Clip;
use tch::{Kind, Tensor};

/// RGB bytes `[T, H, W, 3]` → `[1, 3, T, H, W]` in −1…1.
pub(crate) fn to_tensor(frames: &[u8], num_frames: i64, height: i64, width: i64) -> Tensor {
    let bytes = Tensor::from_data_size(frames, &[num_frames, height, width, 3], Kind::Uint8);
    (bytes.to_kind(Kind::Float) / 127.5 - 1.0).permute([3, 0, 1, 2]).unsqueeze(0)
}

/// A rendered clip → `[1, 3, T, H, W]` in −1…1.
pub(crate) fn clip_to_tensor(clip: &Clip) -> Tensor {
    to_tensor(&clip.frames, clip.truth.len() as i64, i64::from(clip.size.height), i64::from(clip.size.width))
}

/// `[3, T, H, W]` in −1…1 → RGB bytes `[T, H, W, 3]`.
pub(crate) fn to_bytes(video: &Tensor) -> Vec<u8> {
    let bytes = ((video + 1.0) * 127.5)
        .round()
        .clamp(0.0, 255.0)
        .permute([1, 2, 3, 0])
        .to_kind(Kind::Uint8)
        .to_device(tch::Device::Cpu)
        .contiguous();
    let mut data = vec![0; bytes.numel()];
    bytes.copy_data_u8(&mut data, bytes.numel());
    data
}

/// Peak signal to noise ratio in dB of two videos in −1…1: 126 for equal ones, not a number if one of them is not.
pub(crate) fn psnr(a: &Tensor, b: &Tensor) -> f64 {
    let mse = (a - b).square().mean(Kind::Float).double_value(&[]);
    10.0 * (4.0 / (mse + 1e-12)).log10()
}
