//! How much each part of a frame hides: the amplitude of the mark (design, embedding).
//!
//! Texture masks noise, flat and dark areas show it. Activity is the local mean deviation from a local mean,
//! eroded, so that an edge lends no amplitude to the flat area beside it.

use crate::blur::{Plane, gaussian};
use crate::carrier::CHIPS;
use crate::plane::{LumaPlane, SampleFormat};

/// Amplitude of the mark on flat areas, in 8-bit code values RMS.
const FLAT: f32 = 0.8;
/// Amplitude per code value of activity.
const PER_ACTIVITY: f32 = 0.33;
/// Largest amplitude.
const MOST: f32 = 4.0;
/// Radius of the erosion, in samples of the grid.
const EROSION: usize = 3;

/// The mask's grid: one sample for `factor` x `factor` pixels, about a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) factor: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Grid {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        // At 360p, of 1.4 pixels to a chip, that is pixel by pixel, and takes twice the time of 720p. With 2 x 2 pixels a sample
        // it takes a fifth of that, but the mark does not survive as much: see the decisions in ARCHITECTURE.md.
        let factor = (width.min(height) as f64 / CHIPS as f64).round().max(1.0) as usize;
        Self { factor, width: width.div_ceil(factor), height: height.div_ceil(factor) }
    }

    /// Samples of the grid per chip, at least 1: small frames are masked pixel by pixel.
    fn pitch(self, short: usize) -> f32 {
        (short as f32 / CHIPS as f32 / self.factor as f32).max(1.0)
    }

    /// Means of the luma under each sample, in 8-bit code values.
    pub(crate) fn downsample(self, luma: &LumaPlane<'_>) -> Plane {
        let factor = self.factor;
        let mut small = Plane::new(self.width, self.height);
        let mut sums = vec![0u32; luma.width];
        for (gy, out) in small.data.chunks_exact_mut(self.width).enumerate() {
            let rows = gy * factor..((gy + 1) * factor).min(luma.height);
            let height = rows.len();
            sums.fill(0);
            for y in rows {
                add_row(luma.row(y), luma.format, &mut sums);
            }
            let unit = (1u32 << (luma.format.depth() - 8)) as f32;
            for (out, sums) in out.iter_mut().zip(sums.chunks(factor)) {
                *out = sums.iter().sum::<u32>() as f32 / ((sums.len() * height) as f32 * unit);
            }
        }
        small
    }
}

/// Adds the samples of one row to sums.
pub(crate) fn add_row(row: &[u8], format: SampleFormat, sums: &mut [u32]) {
    match format {
        SampleFormat::U8 => sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += u32::from(*value)),
        SampleFormat::U10Low | SampleFormat::U10High => {
            let shift = if format == SampleFormat::U10High { 6 } else { 0 };
            for (sum, bytes) in sums.iter_mut().zip(row.chunks_exact(2)) {
                *sum += u32::from(u16::from_le_bytes([bytes[0], bytes[1]]) >> shift & 1023);
            }
        }
    }
}

/// The amplitude before any strength, on the grid, in 8-bit code values RMS.
pub(crate) fn amplitude(small: &Plane, grid: Grid, short: usize) -> Plane {
    let pitch = grid.pitch(short);
    let mean = gaussian(small, 1.5 * pitch);
    let mut deviation = Plane::new(small.width, small.height);
    for ((out, value), mean) in deviation.data.iter_mut().zip(&small.data).zip(&mean.data) {
        *out = (value - mean).abs();
    }
    let activity = gaussian(&erode(&gaussian(&deviation, 1.5 * pitch)), 1.8 * pitch);
    let light = gaussian(small, 3.0 * pitch);
    let mut out = activity;
    for (activity, light) in out.data.iter_mut().zip(&light.data) {
        let light = (0.6 + 0.4 * light / 60.0).clamp(0.6, 1.0);
        *activity = (FLAT + PER_ACTIVITY * *activity).min(MOST) * light;
    }
    out
}

/// The smallest value within the radius of the erosion, rows then columns.
fn erode(plane: &Plane) -> Plane {
    let (width, height) = (plane.width, plane.height);
    let mut across = Plane::new(width, height);
    let mut padded = vec![f32::INFINITY; width + 2 * EROSION];
    for y in 0..height {
        padded[EROSION..EROSION + width].copy_from_slice(plane.row(y));
        let out = across.row_mut(y);
        out.copy_from_slice(&padded[..width]);
        for i in 1..=2 * EROSION {
            out.iter_mut().zip(&padded[i..]).for_each(|(out, value)| *out = out.min(*value));
        }
    }
    let mut eroded = across.clone();
    for y in 0..height {
        let out = eroded.row_mut(y);
        for other in y.saturating_sub(EROSION)..=(y + EROSION).min(height - 1) {
            out.iter_mut().zip(across.row(other)).for_each(|(out, value)| *out = out.min(*value));
        }
    }
    eroded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::LumaRange;

    fn amplitude_of(frame: &[u8], width: usize, height: usize) -> Plane {
        let plane = LumaPlane::new(frame, SampleFormat::U8, width, height, width, LumaRange::Limited)
            .expect("a good plane");
        let grid = Grid::new(width, height);
        amplitude(&grid.downsample(&plane), grid, width.min(height))
    }

    #[test]
    fn texture_carries_more_than_flat_and_dark_less_than_light() {
        let texture: Vec<u8> =
            (0..128 * 128).map(|i| if (i / 3 + i / 128) % 2 == 0 { 90 } else { 160 }).collect();
        let centre = |frame: &[u8]| amplitude_of(frame, 128, 128).data[64 * 128 + 64];
        let (light, dark) = (centre(&[125; 128 * 128]), centre(&[16; 128 * 128]));
        assert!((light - 0.8).abs() < 1e-3, "{light}");
        assert!(dark < 0.6 && dark > 0.4, "{dark}");
        assert!(centre(&texture) > 2.0 * light);
    }

    #[test]
    fn an_edge_lends_nothing_to_the_flat_area_beside_it() {
        let edge: Vec<u8> = (0..128 * 128).map(|i| if i % 128 < 64 { 90 } else { 200 }).collect();
        let mask = amplitude_of(&edge, 128, 128);
        assert!(
            (0..128usize).filter(|x| x.abs_diff(64) > 6).all(|x| mask.row(64)[x] < 0.85),
            "{:?}",
            &mask.row(64)[50..80]
        );
    }

    #[test]
    fn ten_bits_and_odd_sizes_give_the_mask_of_eight_bits() {
        let (width, height) = (601, 403);
        let bytes: Vec<u8> = (0..width * height).map(|i| (i * i / 977 % 180 + 30) as u8).collect();
        let words: Vec<u8> = bytes.iter().flat_map(|value| (u16::from(*value) << 8).to_le_bytes()).collect();
        let plane =
            LumaPlane::new(&words, SampleFormat::U10High, width, height, 2 * width, LumaRange::Limited)
                .expect("a good plane");
        let grid = Grid::new(width, height);
        assert_eq!((grid.factor, grid.width, grid.height), (2, 301, 202));
        assert_eq!(amplitude(&grid.downsample(&plane), grid, height), amplitude_of(&bytes, width, height));
    }
}
