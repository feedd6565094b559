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

    /// What belongs to red, green and blue, at their places in a pixel of `BYTES` bytes; nothing elsewhere. Loops over all
    /// bytes of a pixel become vector code, those over some of them do not.
    fn per_byte<T: Copy + Default, const BYTES: usize>(self, of_channels: [T; 3]) -> [T; BYTES] {
        let mut all = [T::default(); BYTES];
        for (offset, value) in self.offsets.into_iter().zip(of_channels) {
            all[offset] = value;
        }
        all
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
    luma.resize(width * height, 0);
    for (row, luma) in data.chunks(stride).zip(luma.chunks_exact_mut(width)) {
        let row = &row[..width * layout.bytes];
        match layout.bytes {
            3 => luma_row(row.as_chunks::<3>().0, &layout.per_byte(LUMA_WEIGHTS), luma),
            4 => luma_row(row.as_chunks::<4>().0, &layout.per_byte(LUMA_WEIGHTS), luma),
            bytes => {
                let pixels = row.chunks_exact(bytes).map(|pixel| layout.offsets.map(|offset| pixel[offset]));
                luma.iter_mut().zip(pixels).for_each(|(luma, pixel)| *luma = luma_of(&pixel, &LUMA_WEIGHTS));
            }
        }
    }
    Ok(())
}

/// BT.709 in 16-bit fixed point: red, green, blue; they sum to 65536.
const LUMA_WEIGHTS: [u32; 3] = [13_933, 46_871, 4_732];

fn luma_of<const BYTES: usize>(pixel: &[u8; BYTES], weights: &[u32; BYTES]) -> u8 {
    let sum: u32 = pixel.iter().zip(weights).map(|(value, weight)| u32::from(*value) * weight).sum();
    ((sum + 32_768) >> 16) as u8
}

#[multiversion::multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn luma_row<const BYTES: usize>(pixels: &[[u8; BYTES]], weights: &[u32; BYTES], luma: &mut [u8]) {
    luma.iter_mut().zip(pixels).for_each(|(luma, pixel)| *luma = luma_of(pixel, weights));
}

/// Adds to a row of pixels what marks them: the same to red, green and blue, nothing to what else a pixel has.
pub(crate) fn add_to_row(row: &mut [u8], layout: PixelLayout, delta: &[i16]) {
    const EACH: [i16; 3] = [-1; 3];
    match layout.bytes {
        3 => add_to_pixels(row.as_chunks_mut::<3>().0, &layout.per_byte(EACH), delta),
        4 => add_to_pixels(row.as_chunks_mut::<4>().0, &layout.per_byte(EACH), delta),
        bytes => {
            for (pixel, delta) in row.chunks_exact_mut(bytes).zip(delta) {
                for offset in layout.offsets {
                    pixel[offset] = (i16::from(pixel[offset]) + delta).clamp(0, 255) as u8;
                }
            }
        }
    }
}

/// `bits` are all set for a byte that is added to, and none for another.
#[multiversion::multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn add_to_pixels<const BYTES: usize>(pixels: &mut [[u8; BYTES]], bits: &[i16; BYTES], delta: &[i16]) {
    for (pixel, delta) in pixels.iter_mut().zip(delta) {
        for (value, bits) in pixel.iter_mut().zip(bits) {
            *value = (i16::from(*value) + (delta & bits)).clamp(0, 255) as u8;
        }
    }
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

    #[test]
    fn pixels_of_every_layout_have_the_same_luma_and_are_marked_alike() {
        // Odd sizes, so that vectors have a rest; values at both ends, so that sums are clipped.
        const WIDTH: usize = 77;
        let value = |i: usize| [0, 3, 128, 252, 255, (i * 37 % 256) as u8][i % 6];
        let pixels: Vec<[u8; 3]> =
            (0..WIDTH * 64).map(|i| [value(i), value(i / 2 + 1), value(i / 5)]).collect();
        let delta: Vec<i16> = (0..WIDTH as i16).map(|x| x % 15 - 7).collect();
        let layouts =
            [(3, [0, 1, 2]), (3, [2, 1, 0]), (4, [0, 1, 2]), (4, [2, 1, 0]), (4, [1, 2, 3]), (4, [3, 2, 1])];
        let marked = |(bytes, [red, green, blue]): (usize, [usize; 3])| {
            let layout = PixelLayout::new(bytes, red, green, blue).expect("offsets inside");
            let stride = WIDTH * bytes + 5;
            let mut data = vec![91; stride * 64];
            for (row, pixels) in data.chunks_exact_mut(stride).zip(pixels.chunks_exact(WIDTH)) {
                for (out, pixel) in row.chunks_exact_mut(bytes).zip(pixels) {
                    (out[red], out[green], out[blue]) = (pixel[0], pixel[1], pixel[2]);
                }
            }
            let mut luma = Vec::new();
            luma_of_rgb(&data, layout, WIDTH, 64, stride, &mut luma).expect("a full frame");
            let mut colours = Vec::new();
            for row in data.chunks_exact_mut(stride) {
                add_to_row(&mut row[..WIDTH * bytes], layout, &delta);
                for pixel in row.chunks_exact(bytes).take(WIDTH) {
                    colours.push([pixel[red], pixel[green], pixel[blue]]);
                    let others = (0..bytes).filter(|at| ![red, green, blue].contains(at));
                    assert!(others.into_iter().all(|at| pixel[at] == 91), "what is no colour stays");
                }
                assert!(row[WIDTH * bytes..].iter().all(|byte| *byte == 91), "and so does what no pixel has");
            }
            (luma, colours)
        };
        // Of more bytes than vectors are written for: one channel after the other.
        let expected = marked((5, [4, 0, 2]));
        for layout in layouts {
            assert!(marked(layout) == expected, "{layout:?}");
        }
        let plain = |value: u8, delta: i16| (i16::from(value) + delta).clamp(0, 255) as u8;
        for (i, (marked, before)) in expected.1.iter().zip(&pixels).enumerate() {
            assert_eq!(*marked, before.map(|value| plain(value, delta[i % WIDTH])));
        }
    }
}
