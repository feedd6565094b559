use tch::{Device, Kind, Tensor};

/// Consecutive frames of a clip, 8-bit RGB.
#[derive(Clone, Copy, Debug)]
pub struct FrameBatch<'a> {
    /// `[num_frames, height, width, 3]`, row-major, no padding.
    pub data: &'a [u8],
    /// Frames in the batch.
    pub num_frames: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// `[1, 3, T, H, W]` in −1…1 → `[T, H, W, 3]` bytes: (x/2 + ½) clamped to 0…1, times 255, rounded to the
/// nearest and halves to even (`VaeImageProcessor.denormalize`, `numpy_to_pil`).
pub(super) fn to_rgb8(video: &Tensor) -> Vec<u8> {
    let unit = (video.to_kind(Kind::Float) * 0.5 + 0.5).clamp(0.0, 1.0);
    let bytes = (unit.squeeze_dim(0).permute([1, 2, 3, 0]) * 255.0)
        .round()
        .to_kind(Kind::Uint8)
        .to_device(Device::Cpu)
        .contiguous();
    let mut data = vec![0u8; bytes.numel()];
    bytes.copy_data_u8(&mut data, bytes.numel());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_scaled_clamped_and_rounded() {
        let byte = |n: f64| n / 255.0 * 2.0 - 1.0;
        let row = [-2.0, -1.0, byte(0.4), byte(0.6), byte(100.0), byte(254.4), 1.0, 2.0];
        let video = Tensor::from_slice(&row).view([1, 1, 1, 1, 8]).expand([1, 3, 1, 1, 8], false);
        let rgb = to_rgb8(&video);
        let red: Vec<u8> = rgb.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(red, [0, 0, 0, 1, 100, 254, 255, 255]);
        assert_eq!(rgb.len(), 24);
    }

    #[test]
    fn frames_come_in_order_and_rows_from_the_top() {
        // 3 channels, 2 frames, 2 rows, 1 column; every value its own byte
        let bytes: Vec<f64> = (0..12).map(|n| f64::from(n) * 10.0 / 255.0 * 2.0 - 1.0).collect();
        let video = Tensor::from_slice(&bytes).view([1, 3, 2, 2, 1]);
        let rgb = to_rgb8(&video);
        assert_eq!(rgb, [0, 40, 80, 10, 50, 90, 20, 60, 100, 30, 70, 110]);
    }
}
