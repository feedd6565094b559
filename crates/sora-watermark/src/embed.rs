//! The embedder: adds the pattern of the moment to luma, scaled by what each place hides.

use std::time::Duration;

use crate::blur::Plane;
use crate::carrier::{CHIPS, Carriers, PATTERNS, PATTERNS_PER_SECOND, TILE};
use crate::error::WatermarkError;
use crate::key::{Key, KeyId};
use crate::mask::{Grid, amplitude};
use crate::motion::cubic;
use crate::payload::Payload;
use crate::plane::{
    LumaPlane, LumaPlaneMut, LumaRange, RgbFrameMut, SampleFormat, add_to_row, check_size, luma_of_rgb,
};
use crate::strength::{Level, Strength};

/// Fractional bits of the pattern: values are clipped to four standard deviations.
const PATTERN_BITS: u32 = 5;
/// Fractional bits of the amplitude.
const AMPLITUDE_BITS: u32 = 5;

/// Marks the frames of one clip.
///
/// Each frame is marked on its own: no frame is held back, and the first one is marked already. The output
/// depends on the frame, its time, the key, the payload and the strength, nothing else.
///
/// ```
/// use std::time::Duration;
/// use sora_watermark::{Embedder, Key, LumaPlaneMut, LumaRange, Payload, SampleFormat, Strength};
///
/// let mut embedder = Embedder::new(&Key::public(), Payload::from_id([7; 11]), 320, 240, Strength::Standard)?;
/// let mut luma = vec![120; 320 * 240];
/// let mut plane = LumaPlaneMut::new(&mut luma, SampleFormat::U8, 320, 240, 320, LumaRange::Limited)?;
/// embedder.embed(&mut plane, Duration::ZERO)?;
/// assert!(luma.iter().any(|value| *value != 120));
/// # Ok::<(), sora_watermark::WatermarkError>(())
/// ```
pub struct Embedder {
    width: usize,
    height: usize,
    strength: Strength,
    payload: Payload,
    key: KeyId,
    grid: Grid,
    /// One period of each pattern, `period` x `period`, in units of 1 / 32 standard deviation.
    patterns: Vec<Vec<i8>>,
    period: usize,
    /// Amplitudes of one row of pixels, and the offsets of the whole frame where they are asked for.
    rows: Interpolation,
    row: Vec<i16>,
    delta: Vec<i16>,
    luma: Vec<u8>,
}

impl Embedder {
    /// An embedder for frames of this size. Its patterns take about 3 MB at 1080p.
    ///
    /// # Errors
    /// When a side is below 64 or above 16384 pixels, or the aspect ratio is beyond 16:1.
    pub fn new(
        key: &Key,
        payload: Payload,
        width: usize,
        height: usize,
        strength: Strength,
    ) -> Result<Self, WatermarkError> {
        check_size(width, height)?;
        let short = width.min(height);
        let tiles = Carriers::new(key).tiles(payload, |radius| spectrum(radius, short));
        // 128 chips are short / 2 pixels; an odd size repeats after twice that.
        let period = if short.is_multiple_of(2) { short / 2 } else { short };
        let patterns = tiles.iter().map(|tile| magnify(tile, period, short)).collect();
        let grid = Grid::new(width, height);
        Ok(Self {
            width,
            height,
            strength,
            payload,
            key: key.id(),
            grid,
            patterns,
            period,
            rows: Interpolation::new(grid.factor, width),
            row: vec![0; width],
            delta: Vec::new(),
            luma: Vec::new(),
        })
    }

    /// What this embedder writes.
    pub fn payload(&self) -> Payload {
        self.payload
    }

    /// The key it writes under.
    pub fn key_id(&self) -> KeyId {
        self.key
    }

    /// Another strength from the next frame on.
    pub fn set_strength(&mut self, strength: Strength) {
        self.strength = strength;
    }

    /// Marks a frame in place. `time` is the presentation time since the clip's first frame.
    ///
    /// # Errors
    /// [`WatermarkError::SizeChanged`] for a frame of another size; the frame is left as it was.
    pub fn embed(&mut self, plane: &mut LumaPlaneMut<'_>, time: Duration) -> Result<(), WatermarkError> {
        self.check(plane.width, plane.height)?;
        let amplitude = self.amplitude(&plane.as_plane());
        let pattern = &self.patterns[pattern_at(time)];
        let (low, high) = plane.range.bounds(plane.format.depth());
        let format = plane.format;
        self.rows.restart();
        for y in 0..self.height {
            self.rows.row(&amplitude, y, &mut self.row);
            let tile = &pattern[y % self.period * self.period..][..self.period];
            let out = plane.row_mut(y);
            let mut x = 0;
            // One run per period, so that the inner loops are straight.
            while x < self.width {
                let n = self.period.min(self.width - x);
                let amplitude = &self.row[x..x + n];
                match format {
                    SampleFormat::U8 => {
                        add_u8(&mut out[x..x + n], amplitude, &tile[..n], low as i16, high as i16)
                    }
                    SampleFormat::U10Low => {
                        add_u10(&mut out[2 * x..2 * (x + n)], amplitude, &tile[..n], 0, low, high)
                    }
                    SampleFormat::U10High => {
                        add_u10(&mut out[2 * x..2 * (x + n)], amplitude, &tile[..n], 6, low, high)
                    }
                }
                x += n;
            }
        }
        Ok(())
    }

    /// What marking this plane would add to each sample, in its code values, before clipping: `width * height`
    /// values, row by row. For formats that this crate does not write itself.
    ///
    /// # Errors
    /// [`WatermarkError::SizeChanged`] for a frame of another size.
    pub fn delta(&mut self, plane: &LumaPlane<'_>, time: Duration) -> Result<&[i16], WatermarkError> {
        self.check(plane.width, plane.height)?;
        let amplitude = self.amplitude(plane);
        let shift = AMPLITUDE_BITS + PATTERN_BITS - (plane.format.depth() - 8);
        self.fill_delta(&amplitude, time, shift);
        Ok(&self.delta)
    }

    /// Marks a frame of packed RGB in place: red, green and blue move by the same amount, so hue stays.
    ///
    /// # Errors
    /// [`WatermarkError::SizeChanged`] for a frame of another size; the frame is left as it was.
    pub fn embed_rgb(&mut self, frame: &mut RgbFrameMut<'_>, time: Duration) -> Result<(), WatermarkError> {
        self.check(frame.width, frame.height)?;
        let mut luma = std::mem::take(&mut self.luma);
        luma_of_rgb(frame.data, frame.layout, frame.width, frame.height, frame.stride, &mut luma)?;
        let plane =
            LumaPlane::new(&luma, SampleFormat::U8, frame.width, frame.height, frame.width, LumaRange::Full)?;
        let amplitude = self.amplitude(&plane);
        self.luma = luma;
        self.fill_delta(&amplitude, time, AMPLITUDE_BITS + PATTERN_BITS);
        for (y, delta) in self.delta.chunks_exact(self.width).enumerate() {
            let row = &mut frame.data[y * frame.stride..][..self.width * frame.layout.bytes];
            add_to_row(row, frame.layout, delta);
        }
        Ok(())
    }

    fn check(&self, width: usize, height: usize) -> Result<(), WatermarkError> {
        if (width, height) == (self.width, self.height) {
            return Ok(());
        }
        Err(WatermarkError::SizeChanged {
            found_width: width,
            found_height: height,
            width: self.width,
            height: self.height,
        })
    }

    /// The amplitude on the grid, strength included.
    fn amplitude(&self, plane: &LumaPlane<'_>) -> Plane {
        let small = self.grid.downsample(plane);
        let mask = amplitude(&small, self.grid, self.width.min(self.height));
        let gain = Level::of(self.strength, self.width.min(self.height)).gain(&mask);
        mask.map(|value| value * gain)
    }

    fn fill_delta(&mut self, amplitude: &Plane, time: Duration, shift: u32) {
        let pattern = &self.patterns[pattern_at(time)];
        self.rows.restart();
        self.delta.resize(self.width * self.height, 0);
        for (y, out) in self.delta.chunks_exact_mut(self.width).enumerate() {
            self.rows.row(amplitude, y, &mut self.row);
            let tile = &pattern[y % self.period * self.period..][..self.period];
            for (out, amplitude) in out.chunks_mut(self.period).zip(self.row.chunks(self.period)) {
                fill(out, amplitude, tile, shift);
            }
        }
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, height, payload, key, .. } = self;
        write!(f, "Embedder({width}x{height}, payload {payload}, key {key})")
    }
}

/// Which pattern a moment shows.
fn pattern_at(time: Duration) -> usize {
    // In whole nanoseconds with a microsecond of grace: 1/3 s written as 333333333 ns is the second pattern.
    let step = (time.as_nanos() + 1_000) * PATTERNS_PER_SECOND as u128 / 1_000_000_000;
    (step % PATTERNS as u128) as usize
}

/// Amplitude of a frequency by its cycles per tile: low frequencies survive quantisers, and cost an encoder less; high
/// ones are what a single picture shows best. Small frames have nothing to spend on the latter.
fn spectrum(radius: f64, short: usize) -> f32 {
    radius.powf(if short <= Level::SMALL { -2.0 } else { -1.5 }) as f32
}

/// A tile of chips as pixels: `period` x `period` of them, where the short side has `short`.
fn magnify(tile: &[f32], period: usize, short: usize) -> Vec<i8> {
    let pitch = short as f64 / CHIPS as f64;
    // Catmull and Rom's cubic through the four chips around each pixel's centre.
    let weights: Vec<(usize, [f32; 4])> = (0..period)
        .map(|x| {
            let u = (x as f64 + 0.5) / pitch - 0.5;
            let t = (u - u.floor()) as f32;
            let weights = cubic(t);
            ((u.floor() as i64 - 1).rem_euclid(TILE as i64) as usize, weights)
        })
        .collect();
    let mut across = vec![0.0; TILE * period];
    for (row, out) in tile.chunks_exact(TILE).zip(across.chunks_exact_mut(period)) {
        for (out, (first, weights)) in out.iter_mut().zip(&weights) {
            *out = (0..4).map(|i| weights[i] * row[(first + i) % TILE]).sum();
        }
    }
    let mut values = vec![0.0f32; period * period];
    for (out, (first, weights)) in values.chunks_exact_mut(period).zip(&weights) {
        for i in 0..4 {
            let row = &across[(first + i) % TILE * period..][..period];
            out.iter_mut().zip(row).for_each(|(out, value)| *out += weights[i] * value);
        }
    }
    let unit = (1u32 << PATTERN_BITS) as f32;
    values.iter().map(|value| (value * unit).round().clamp(-127.0, 127.0) as i8).collect()
}

/// Brings amplitudes from the grid to rows of pixels, bilinear.
///
/// Grid rows are stretched once each, in scalar code; pixel rows lie between two of them, which is vector code.
struct Interpolation {
    factor: usize,
    /// The grid rows that are stretched, by number.
    stretched: [(Option<usize>, Vec<i16>); 2],
}

impl Interpolation {
    /// Fractional bits of the place between two rows.
    const PLACE_BITS: u32 = 4;

    fn new(factor: usize, width: usize) -> Self {
        Self { factor, stretched: [(None, vec![0; width]), (None, vec![0; width])] }
    }

    /// Forgets the frame before.
    fn restart(&mut self) {
        self.stretched.iter_mut().for_each(|row| row.0 = None);
    }

    /// The amplitudes of pixel row `y`.
    fn row(&mut self, amplitude: &Plane, y: usize, out: &mut [i16]) {
        let last = amplitude.height - 1;
        let at = ((y as f32 + 0.5) / self.factor as f32 - 0.5).clamp(0.0, last as f32);
        let (above, below) = (at as usize, (at as usize + 1).min(last));
        let place = (at.fract() * (1 << Self::PLACE_BITS) as f32).round() as i16;
        let (first, second) = (self.stretch(amplitude, above, below), self.stretch(amplitude, below, above));
        between(out, &self.stretched[first].1, &self.stretched[second].1, place);
    }

    /// Where grid row `wanted` lies stretched; `keep` is not overwritten.
    fn stretch(&mut self, amplitude: &Plane, wanted: usize, keep: usize) -> usize {
        if let Some(place) = self.stretched.iter().position(|row| row.0 == Some(wanted)) {
            return place;
        }
        let place =
            usize::from(self.stretched[0].0 == Some(keep) || self.stretched[0].0 == wanted.checked_sub(1));
        let (number, out) = &mut self.stretched[place];
        *number = Some(wanted);
        stretch(amplitude.row(wanted), self.factor, out);
        place
    }
}

/// One grid row as pixels, in units of 1 / 32 code value.
fn stretch(row: &[f32], factor: usize, out: &mut [i16]) {
    let unit = (1u32 << AMPLITUDE_BITS) as f32;
    let value = |i: usize| (row[i] * unit).clamp(0.0, 250.0);
    let last = row.len() - 1;
    let (mut left, mut centre) = (value(0), value(0));
    for (i, out) in out.chunks_mut(factor).enumerate() {
        let right = value((i + 1).min(last));
        for (step, out) in out.iter_mut().enumerate() {
            let step = (step as f32 + 0.5) / factor as f32 - 0.5;
            let slope = if step < 0.0 { centre - left } else { right - centre };
            *out = (centre + slope * step + 0.5) as i16;
        }
        (left, centre) = (centre, right);
    }
}

#[multiversion::multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn between(out: &mut [i16], above: &[i16], below: &[i16], place: i16) {
    const BITS: u32 = Interpolation::PLACE_BITS;
    for ((out, above), below) in out.iter_mut().zip(above).zip(below) {
        *out = (above * ((1 << BITS) - place) + below * place + (1 << (BITS - 1))) >> BITS;
    }
}

/// Amplitude times pattern, rounded to whole code values.
fn rounded(amplitude: i16, pattern: i8, shift: u32) -> i32 {
    (i32::from(amplitude) * i32::from(pattern) + (1 << (shift - 1))) >> shift
}

#[multiversion::multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn fill(out: &mut [i16], amplitude: &[i16], pattern: &[i8], shift: u32) {
    for ((out, amplitude), pattern) in out.iter_mut().zip(amplitude).zip(pattern) {
        *out = rounded(*amplitude, *pattern, shift) as i16;
    }
}

#[multiversion::multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn add_u8(out: &mut [u8], amplitude: &[i16], pattern: &[i8], low: i16, high: i16) {
    const SHIFT: u32 = AMPLITUDE_BITS + PATTERN_BITS;
    for ((out, amplitude), pattern) in out.iter_mut().zip(amplitude).zip(pattern) {
        // At most 250 * 127 + 512: within 16 bits.
        let delta = (amplitude.wrapping_mul(i16::from(*pattern)).wrapping_add(1 << (SHIFT - 1))) >> SHIFT;
        let before = i16::from(*out);
        // A sample outside the range stays where it was, it is not pulled in.
        let after = (before + delta).clamp(low.min(before), high.max(before));
        *out = after as u8;
    }
}

fn add_u10(out: &mut [u8], amplitude: &[i16], pattern: &[i8], unused_bits: u32, low: i32, high: i32) {
    const SHIFT: u32 = AMPLITUDE_BITS + PATTERN_BITS - 2;
    for ((out, amplitude), pattern) in out.chunks_exact_mut(2).zip(amplitude).zip(pattern) {
        let word = u16::from_le_bytes([out[0], out[1]]);
        let before = i32::from(word >> unused_bits & 1023);
        let after = (before + rounded(*amplitude, *pattern, SHIFT)).clamp(low.min(before), high.max(before));
        out.copy_from_slice(&((after as u16) << unused_bits).to_le_bytes());
    }
}
