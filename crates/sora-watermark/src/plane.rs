//! Borrowed frames: luma planes of 8 or 10 bits, and packed RGB.

use crate::error::WatermarkError;

/// Smallest side of a frame, in pixels.
pub const MIN_SIDE: usize = 64;
/// Largest side of a frame, in pixels.
pub const MAX_SIDE: usize = 16_384;
/// Largest ratio of the longer side to the shorter.
pub const MAX_ASPECT: usize = 16;

/// How a sample lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleFormat {
    /// One byte per sample (I420, NV12, YV12, GRAY8).
    U8,
    /// Two bytes, little endian, the value in the low 10 bits (I420_10LE).
    U10Low,
    /// Two bytes, little endian, the value in the high 10 bits (P010_10LE).
    U10High,
}

impl SampleFormat {
    /// Bytes per sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U10Low | Self::U10High => 2,
        }
    }

    /// Bits per sample.
    pub fn depth(self) -> u32 {
        match self {
            Self::U8 => 8,
            Self::U10Low | Self::U10High => 10,
        }
    }
}

/// Which code values are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LumaRange {
    /// 16 to 235, or 64 to 940 with 10 bits: ordinary video.
    #[default]
    Limited,
    /// All code values.
    Full,
}

impl LumaRange {
    /// Lowest and highest code value that a mark may move a sample to.
    pub(crate) fn bounds(self, depth: u32) -> (i32, i32) {
        match self {
            Self::Limited => (16 << (depth - 8), 235 << (depth - 8)),
            Self::Full => (0, (1 << depth) - 1),
        }
    }
}

/// Checks the size of frames of a stream.
///
/// # Errors
/// [`WatermarkError::TooSmall`] below 64 pixels, [`WatermarkError::TooLarge`] above 16384 or 16:1.
pub fn check_size(width: usize, height: usize) -> Result<(), WatermarkError> {
    let (short, long) = (width.min(height), width.max(height));
    if short < MIN_SIDE {
        return Err(WatermarkError::TooSmall { width, height, min: MIN_SIDE });
    }
    if long > MAX_SIDE || long > short * MAX_ASPECT {
        return Err(WatermarkError::TooLarge { width, height, max: MAX_SIDE, ratio: MAX_ASPECT });
    }
    Ok(())
}

fn check_bytes(
    found: usize,
    width: usize,
    height: usize,
    stride: usize,
    pixel: usize,
) -> Result<(), WatermarkError> {
    check_size(width, height)?;
    let row = width * pixel;
    if stride < row {
        return Err(WatermarkError::Stride { stride, row });
    }
    // The last row need not be padded.
    let needed = stride.saturating_mul(height - 1).saturating_add(row);
    if found < needed {
        return Err(WatermarkError::ShortData { found, needed, width, height, stride });
    }
    Ok(())
}

/// A borrowed luma plane.
#[derive(Debug, Clone, Copy)]
pub struct LumaPlane<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) format: SampleFormat,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) stride: usize,
    pub(crate) range: LumaRange,
}

impl<'a> LumaPlane<'a> {
    /// A plane of `height` rows of `width` samples, `stride` bytes from row to row.
    ///
    /// # Errors
    /// When the size is out of range, a row is longer than the stride, or `data` is shorter than they say.
    pub fn new(
        data: &'a [u8],
        format: SampleFormat,
        width: usize,
        height: usize,
        stride: usize,
        range: LumaRange,
    ) -> Result<Self, WatermarkError> {
        check_bytes(data.len(), width, height, stride, format.bytes())?;
        Ok(Self { data, format, width, height, stride, range })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Which code values are allowed.
    pub fn range(&self) -> LumaRange {
        self.range
    }

    /// The bytes of one row, without padding.
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        let start = y * self.stride;
        &self.data[start..start + self.width * self.format.bytes()]
    }
}

/// A borrowed luma plane that can be written.
#[derive(Debug)]
pub struct LumaPlaneMut<'a> {
    pub(crate) data: &'a mut [u8],
    pub(crate) format: SampleFormat,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) stride: usize,
    pub(crate) range: LumaRange,
}

impl<'a> LumaPlaneMut<'a> {
    /// As [`LumaPlane::new`], over writable bytes.
    ///
    /// # Errors
    /// As [`LumaPlane::new`].
    pub fn new(
        data: &'a mut [u8],
        format: SampleFormat,
        width: usize,
        height: usize,
        stride: usize,
        range: LumaRange,
    ) -> Result<Self, WatermarkError> {
        check_bytes(data.len(), width, height, stride, format.bytes())?;
        Ok(Self { data, format, width, height, stride, range })
    }

    /// The plane for reading.
    pub fn as_plane(&self) -> LumaPlane<'_> {
        let Self { data, format, width, height, stride, range } = self;
        LumaPlane { data, format: *format, width: *width, height: *height, stride: *stride, range: *range }
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let start = y * self.stride;
        &mut self.data[start..start + self.width * self.format.bytes()]
    }
}

/// Where the channels of a packed 8-bit RGB pixel lie (RGB, BGRx, ARGB, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLayout {
    pub(crate) bytes: usize,
    pub(crate) offsets: [usize; 3],
}

impl PixelLayout {
    /// A pixel of `bytes` bytes with red, green and blue at these offsets.
    ///
    /// # Errors
    /// [`WatermarkError::PixelLayout`] when an offset lies outside the pixel or the pixel has more than 8 bytes.
    pub fn new(bytes: usize, red: usize, green: usize, blue: usize) -> Result<Self, WatermarkError> {
        let offsets = [red, green, blue];
        if bytes > 8 || offsets.iter().any(|offset| *offset >= bytes) {
            return Err(WatermarkError::PixelLayout { offsets, bytes });
        }
        Ok(Self { bytes, offsets })
    }
}

/// A borrowed frame of packed 8-bit RGB that can be written.
#[derive(Debug)]
pub struct RgbFrameMut<'a> {
    pub(crate) data: &'a mut [u8],
    pub(crate) layout: PixelLayout,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) stride: usize,
}

impl<'a> RgbFrameMut<'a> {
    /// A frame of `height` rows of `width` pixels, `stride` bytes from row to row.
    ///
    /// # Errors
    /// As [`LumaPlane::new`].
    pub fn new(
        data: &'a mut [u8],
        layout: PixelLayout,
        width: usize,
        height: usize,
        stride: usize,
    ) -> Result<Self, WatermarkError> {
        check_bytes(data.len(), width, height, stride, layout.bytes)?;
        Ok(Self { data, layout, width, height, stride })
    }
}

/// The full-range luma of packed 8-bit RGB (BT.709), row by row without padding: what a detector reads.
///
/// # Errors
/// As [`LumaPlane::new`].
pub fn luma_of_rgb(
    data: &[u8],
    layout: PixelLayout,
    width: usize,
    height: usize,
    stride: usize,
    luma: &mut Vec<u8>,
) -> Result<(), WatermarkError> {
    check_bytes(data.len(), width, height, stride, layout.bytes)?;
    luma.clear();
    luma.reserve(width * height);
    let [red, green, blue] = layout.offsets;
    for row in data.chunks(stride).take(height) {
        let pixels = row[..width * layout.bytes].chunks_exact(layout.bytes);
        luma.extend(pixels.map(|pixel| {
            let (r, g, b) = (u32::from(pixel[red]), u32::from(pixel[green]), u32::from(pixel[blue]));
            // BT.709 in 16-bit fixed point; the weights sum to 65536.
            ((13_933 * r + 46_871 * g + 4_732 * b + 32_768) >> 16) as u8
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(bytes: usize, width: usize, height: usize, stride: usize) -> Result<(), WatermarkError> {
        LumaPlane::new(&vec![0; bytes], SampleFormat::U8, width, height, stride, LumaRange::Full).map(|_| ())
    }

    #[test]
    fn sizes_strides_and_lengths_are_checked_with_their_bounds() {
        assert_eq!(plane(64 * 80, 64, 80, 64), Ok(()));
        assert_eq!(plane(100 * 79 + 64, 64, 80, 100), Ok(()));
        let error = |result: Result<(), WatermarkError>| result.expect_err("bad plane").to_string();
        assert!(error(plane(9999, 63, 80, 63)).contains("at least 64 pixels"));
        assert!(error(plane(9999, 64, 80, 63)).contains("63 bytes is shorter than a row of 64 bytes"));
        assert!(
            error(plane(5119, 64, 80, 64)).contains("has 5119 bytes; 64x80 with a stride of 64 takes 5120")
        );
        assert!(error(plane(0, 64, 64 * 17, 64)).contains("ratio at most 16"));
        assert!(error(plane(0, 64, 80, usize::MAX)).contains("has 0 bytes"));
    }

    #[test]
    fn rgb_layouts_are_checked_and_luma_is_bt709() {
        assert!(PixelLayout::new(3, 0, 1, 3).is_err());
        let layout = PixelLayout::new(4, 2, 1, 0).expect("BGRx");
        let data: Vec<u8> = [10, 200, 30, 0].repeat(64 * 64);
        let mut luma = Vec::new();
        luma_of_rgb(&data, layout, 64, 64, 256, &mut luma).expect("a full frame");
        assert_eq!(luma.len(), 64 * 64);
        // 0.2126 * 30 + 0.7152 * 200 + 0.0722 * 10 = 150.14
        assert!(luma.iter().all(|value| *value == 150));
    }
}
