//! Frames as the watermark's crate takes them.

use sora_gst::{FrameLayout, Samples};
use sora_watermark::{Embedder, LumaPlane, LumaPlaneMut, LumaRange, PixelLayout, RgbFrameMut, SampleFormat};
use sora_watermark::{WatermarkError, luma_of_rgb};
use std::time::Duration;

fn luma_format(samples: Samples) -> Option<SampleFormat> {
    match samples {
        Samples::Luma8 => Some(SampleFormat::U8),
        Samples::Luma10Low => Some(SampleFormat::U10Low),
        Samples::Luma10High => Some(SampleFormat::U10High),
        Samples::Rgb { .. } => None,
    }
}

fn range(layout: &FrameLayout) -> LumaRange {
    if layout.is_full_range() { LumaRange::Full } else { LumaRange::Limited }
}

fn pixels(samples: Samples) -> Result<PixelLayout, WatermarkError> {
    match samples {
        Samples::Rgb { bytes, red, green, blue } => PixelLayout::new(bytes, red, green, blue),
        other => PixelLayout::new(other.bytes(), 0, 0, 0),
    }
}

/// Marks a plane in place.
pub(crate) fn embed(
    embedder: &mut Embedder,
    layout: &FrameLayout,
    data: &mut [u8],
    stride: usize,
    time: Duration,
) -> Result<(), WatermarkError> {
    let (width, height) = (layout.width(), layout.height());
    match luma_format(layout.samples()) {
        Some(format) => {
            let mut plane = LumaPlaneMut::new(data, format, width, height, stride, range(layout))?;
            embedder.embed(&mut plane, time)
        }
        None => {
            let mut frame = RgbFrameMut::new(data, pixels(layout.samples())?, width, height, stride)?;
            embedder.embed_rgb(&mut frame, time)
        }
    }
}

/// Shows a plane to `see` as luma; `scratch` is where RGB becomes that.
pub(crate) fn with_luma<T>(
    layout: &FrameLayout,
    data: &[u8],
    stride: usize,
    scratch: &mut Vec<u8>,
    see: impl FnOnce(&LumaPlane<'_>) -> Result<T, WatermarkError>,
) -> Result<T, WatermarkError> {
    let (width, height) = (layout.width(), layout.height());
    match luma_format(layout.samples()) {
        Some(format) => see(&LumaPlane::new(data, format, width, height, stride, range(layout))?),
        None => {
            luma_of_rgb(data, pixels(layout.samples())?, width, height, stride, scratch)?;
            see(&LumaPlane::new(scratch, SampleFormat::U8, width, height, width, LumaRange::Full)?)
        }
    }
}

/// A plane that is kept: its rows, without padding.
#[derive(Debug)]
pub(crate) struct Kept {
    data: Vec<u8>,
    layout: FrameLayout,
}

impl Kept {
    /// Copies a plane into `data`, which is what an earlier plane left.
    pub(crate) fn copy(layout: &FrameLayout, plane: &[u8], stride: usize, mut data: Vec<u8>) -> Self {
        data.clear();
        let row = layout.row_bytes();
        plane.chunks(stride).take(layout.height()).for_each(|bytes| data.extend_from_slice(&bytes[..row]));
        Self { data, layout: layout.clone() }
    }

    /// Shows it to `see` as luma; `scratch` is where RGB becomes that.
    pub(crate) fn with_luma<T>(
        &self,
        scratch: &mut Vec<u8>,
        see: impl FnOnce(&LumaPlane<'_>) -> Result<T, WatermarkError>,
    ) -> Result<T, WatermarkError> {
        with_luma(&self.layout, &self.data, self.layout.row_bytes(), scratch, see)
    }

    /// The memory, for another plane.
    pub(crate) fn into_data(self) -> Vec<u8> {
        self.data
    }
}
