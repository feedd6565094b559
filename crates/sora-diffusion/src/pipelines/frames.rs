//! Frames between bytes and tensors.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::side_stream::synchronize;

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

/// Frames that were computed, where they were computed to: 8-bit RGB, `[T, H, W, 3]`, in memory of the CPU.
pub(super) struct Rgb8(Tensor);

impl Rgb8 {
    /// Of a video `[1, 3, T, H, W]` in −1…1: (x/2 + ½) clamped to 0…1, times 255, rounded to the nearest and halves to
    /// even (`VaeImageProcessor.denormalize`, `numpy_to_pil`).
    pub(super) fn of(video: &Tensor) -> Result<Self> {
        let unit = (video.to_kind(Kind::Float) * 0.5 + 0.5).clamp(0.0, 1.0);
        let bytes =
            (unit.squeeze_dim(0).permute([1, 2, 3, 0]) * 255.0).round().to_kind(Kind::Uint8).contiguous();
        let device = bytes.device();
        if device == Device::Cpu {
            return Ok(Self(bytes));
        }
        // libtorch copies to pinned memory where it need not wait; elsewhere through a buffer of the driver's.
        let copied = bytes.f_to_device_(Device::Cpu, Kind::Uint8, true, false)?;
        synchronize(device)?;
        Ok(Self(copied))
    }

    pub(super) fn batch(&self) -> FrameBatch<'_> {
        let [num_frames, height, width, channels] =
            <[i64; 4]>::try_from(self.0.size()).expect("T H W 3").map(|side| side as usize);
        // SAFETY: a contiguous tensor of bytes on the CPU, which nobody writes to and which is borrowed as long.
        let data = unsafe {
            std::slice::from_raw_parts(self.0.data_ptr() as *const u8, num_frames * height * width * channels)
        };
        FrameBatch { data, num_frames, width, height }
    }
}

/// Bytes `[T, H, W, 3]` as a tensor of that shape on a device.
pub(super) fn bytes_on(device: Device, bytes: &[u8], shape: [i64; 4]) -> Result<Tensor> {
    if device == Device::Cpu {
        return Ok(Tensor::f_from_data_size(bytes, &shape, Kind::Uint8)?);
    }
    assert_eq!(bytes.len() as i64, shape.iter().product::<i64>(), "bytes of frames");
    let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    // SAFETY: it is read and dropped before the bytes can go.
    let given = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &shape, &strides, Kind::Uint8, Device::Cpu)? };
    // What is pinned is kept until it is copied: libtorch notes who uses it.
    Ok(given.f_pin_memory(device)?.f_to_device_(device, Kind::Uint8, true, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_scaled_clamped_and_rounded() {
        let byte = |n: f64| n / 255.0 * 2.0 - 1.0;
        let row = [-2.0, -1.0, byte(0.4), byte(0.6), byte(100.0), byte(254.4), 1.0, 2.0];
        let video = Tensor::from_slice(&row).view([1, 1, 1, 1, 8]).expand([1, 3, 1, 1, 8], false);
        let rgb = Rgb8::of(&video).expect("computes");
        let rgb = rgb.batch().data;
        let red: Vec<u8> = rgb.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(red, [0, 0, 0, 1, 100, 254, 255, 255]);
        assert_eq!(rgb.len(), 24);
    }

    #[test]
    fn frames_come_in_order_and_rows_from_the_top() {
        // 3 channels, 2 frames, 2 rows, 1 column; every value its own byte
        let bytes: Vec<f64> = (0..12).map(|n| f64::from(n) * 10.0 / 255.0 * 2.0 - 1.0).collect();
        let video = Tensor::from_slice(&bytes).view([1, 3, 2, 2, 1]);
        let rgb = Rgb8::of(&video).expect("computes");
        let batch = rgb.batch();
        assert_eq!([batch.num_frames, batch.height, batch.width], [2, 2, 1]);
        assert_eq!(batch.data, [0, 40, 80, 10, 50, 90, 20, 60, 100, 30, 70, 110]);
    }
}
