//! The detector's view of a frame: small, and locally whitened (design, detector front end).
//!
//! The frame is averaged down to at most 256 pixels on its short side, split into five bands (differences of
//! Gaussians), each divided by its local RMS, and summed again. Host texture is much stronger than the mark
//! and far from white; dividing by its local size makes every place count by what can be seen there.

use crate::blur::{Plane, gaussian};
use crate::carrier::CHIPS;
use crate::mask::add_row;
use crate::plane::LumaPlane;

/// Weights of the bands, finest first.
const WEIGHTS: [f32; 5] = [1.3, 1.1, 1.0, 0.85, 0.7];
/// Added to the local RMS, in 8-bit code values: where there is less, there is nothing.
const FLOOR: f32 = 0.15;

/// Size of the view of frames of this size.
pub(crate) fn raster_size(width: usize, height: usize) -> (usize, usize) {
    let short = width.min(height);
    if short <= CHIPS {
        return (width, height);
    }
    let scaled = |side: usize| (side as f64 * CHIPS as f64 / short as f64).round() as usize;
    (scaled(width), scaled(height))
}

/// One output sample's share of the input: first sample, and the weight of each from there.
fn shares(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let (start, end) = (i as f64 * ratio, ((i + 1) as f64 * ratio).min(from as f64));
            let first = start as usize;
            let last = (end.ceil() as usize).clamp(first + 1, from);
            let share = |j: usize| ((end.min((j + 1) as f64) - start.max(j as f64)).max(0.0) / ratio) as f32;
            (first, (first..last).map(share).collect())
        })
        .collect()
}

/// Averages frames of one size down to the raster.
pub(crate) struct Rasteriser {
    size: (usize, usize),
    columns: Vec<(usize, Vec<f32>)>,
    rows: Vec<(usize, Vec<f32>)>,
    samples: Vec<u32>,
    sums: Vec<f32>,
}

impl Rasteriser {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let (out_width, out_height) = raster_size(width, height);
        Self {
            size: (width, height),
            columns: shares(width, out_width),
            rows: shares(height, out_height),
            samples: vec![0; width],
            sums: vec![0.0; width],
        }
    }

    /// The size of the frames it takes.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// The raster of a frame, in 8-bit code values.
    pub(crate) fn raster(&mut self, luma: &LumaPlane<'_>) -> Plane {
        let unit = 1.0 / (1u32 << (luma.format.depth() - 8)) as f32;
        let mut out = Plane::new(self.columns.len(), self.rows.len());
        for (out, (first, weights)) in out.data.chunks_exact_mut(self.columns.len()).zip(&self.rows) {
            self.sums.fill(0.0);
            for (i, weight) in weights.iter().enumerate() {
                self.samples.fill(0);
                add_row(luma.row(first + i), luma.format, &mut self.samples);
                let weight = weight * unit;
                for (sum, sample) in self.sums.iter_mut().zip(&self.samples) {
                    *sum += weight * *sample as f32;
                }
            }
            for (out, (first, weights)) in out.iter_mut().zip(&self.columns) {
                let samples = &self.sums[*first..first + weights.len()];
                *out = samples.iter().zip(weights).map(|(sample, weight)| sample * weight).sum();
            }
        }
        out
    }
}

/// The locally whitened raster.
pub(crate) fn whitened(raster: &Plane) -> Plane {
    // Gaussians of 0.7, 1.4, 2.8, 5.6 and 11.2, each from the one before, the coarse ones at half and quarter size.
    let fine = gaussian(raster, 0.7);
    let middle = gaussian(&fine, 1.212);
    let coarse = gaussian(&middle, 2.425);
    let half = halved(&coarse);
    let half_blurred = gaussian(&half, 2.425);
    let quarter = halved(&half_blurred);
    let quarter_blurred = gaussian(&quarter, 2.425);

    let mut out = Plane::new(raster.width, raster.height);
    add_band(&mut out, &band(raster, &fine, 1.05, WEIGHTS[0]));
    add_band(&mut out, &band(&fine, &middle, 2.1, WEIGHTS[1]));
    add_band(&mut out, &band_with_coarse_power(&middle, &coarse, 2.1, WEIGHTS[2]));
    let mut low = band(&half, &half_blurred, 4.2, WEIGHTS[3]);
    add_band(&mut low, &doubled(&band(&quarter, &quarter_blurred, 4.2, WEIGHTS[4]), half.width, half.height));
    add_band(&mut out, &doubled(&low, raster.width, raster.height));
    out
}

/// The difference of two planes, divided by its local RMS.
fn band(upper: &Plane, lower: &Plane, sigma: f32, weight: f32) -> Plane {
    let mut band = difference(upper, lower);
    let power = gaussian(&band.map(|value| value * value), sigma);
    divide(&mut band, &power, weight);
    band
}

/// As [`band`], the power averaged at half size.
fn band_with_coarse_power(upper: &Plane, lower: &Plane, sigma: f32, weight: f32) -> Plane {
    let mut band = difference(upper, lower);
    let power = gaussian(&halved(&band.map(|value| value * value)), sigma);
    divide(&mut band, &doubled(&power, upper.width, upper.height), weight);
    band
}

/// What one plane has more than another, sample by sample.
pub(crate) fn difference(upper: &Plane, lower: &Plane) -> Plane {
    let mut out = upper.clone();
    out.data.iter_mut().zip(&lower.data).for_each(|(out, lower)| *out -= lower);
    out
}

fn divide(band: &mut Plane, power: &Plane, weight: f32) {
    for (value, power) in band.data.iter_mut().zip(&power.data) {
        *value *= weight / (power.max(0.0).sqrt() + FLOOR);
    }
}

fn add_band(out: &mut Plane, band: &Plane) {
    out.data.iter_mut().zip(&band.data).for_each(|(out, band)| *out += band);
}

/// Means of 2 x 2 samples; an odd last row or column stands alone.
pub(crate) fn halved(plane: &Plane) -> Plane {
    let mut out = Plane::new(plane.width.div_ceil(2), plane.height.div_ceil(2));
    for (y, out) in out.data.chunks_exact_mut(plane.width.div_ceil(2)).enumerate() {
        let (a, b) = (plane.row(2 * y), plane.row((2 * y + 1).min(plane.height - 1)));
        for ((out, a), b) in out.iter_mut().zip(a.chunks(2)).zip(b.chunks(2)) {
            *out = (a[0] + b[0] + a[a.len() - 1] + b[b.len() - 1]) * 0.25;
        }
    }
    out
}

/// Twice the size, bilinear, cut to `width` x `height`.
fn doubled(plane: &Plane, width: usize, height: usize) -> Plane {
    let mut tall = Plane::new(plane.width, height);
    for y in 0..height {
        let near = (y / 2).min(plane.height - 1);
        let far = if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(plane.height - 1) };
        for ((out, near), far) in tall.row_mut(y).iter_mut().zip(plane.row(near)).zip(plane.row(far)) {
            *out = 0.75 * near + 0.25 * far;
        }
    }
    let mut out = Plane::new(width, height);
    for y in 0..height {
        let row = tall.row(y);
        let last = row.len() - 1;
        for (i, out) in out.row_mut(y).chunks_mut(2).enumerate() {
            let near = 0.75 * row[i];
            out[0] = near + 0.25 * row[i.saturating_sub(1)];
            if let Some(out) = out.get_mut(1) {
                *out = near + 0.25 * row[(i + 1).min(last)];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::{LumaRange, SampleFormat};

    #[test]
    fn the_raster_keeps_means_at_any_ratio() {
        for (width, height) in [(1280, 720), (641, 363), (200, 150)] {
            let data: Vec<u8> = (0..width * height).map(|i| (i * 7919 % 251) as u8).collect();
            let plane = LumaPlane::new(&data, SampleFormat::U8, width, height, width, LumaRange::Full)
                .expect("a good plane");
            let raster = Rasteriser::new(width, height).raster(&plane);
            assert_eq!((raster.width, raster.height), raster_size(width, height));
            let mean = data.iter().map(|value| f64::from(*value)).sum::<f64>() / data.len() as f64;
            let found =
                raster.data.iter().map(|value| f64::from(*value)).sum::<f64>() / raster.data.len() as f64;
            assert!((mean - found).abs() < 0.05, "{mean} {found}");
        }
    }

    #[test]
    fn whitening_evens_out_contrast() {
        let mut raster = Plane::new(256, 200);
        for y in 0..200 {
            for x in 0..256 {
                let noise = ((x * 7919 + y * 104_729 + x * y * 31) % 97) as f32 - 48.0;
                raster.data[y * 256 + x] = 100.0 + noise * if x < 128 { 0.1 } else { 1.0 };
            }
        }
        let white = whitened(&raster);
        let rms = |from: usize| {
            let values = (20..180).flat_map(|y| white.row(y)[from..from + 90].iter());
            (values.map(|value| value * value).sum::<f32>() / (160.0 * 90.0)).sqrt()
        };
        let ratio = rms(148) / rms(18);
        assert!((0.8..1.4).contains(&ratio), "{ratio}");
    }

    #[test]
    fn flat_frames_are_silent() {
        let white = whitened(&Plane::new(256, 144).map(|_| 235.0));
        assert!(white.data.iter().all(|value| value.abs() < 1e-2));
    }
}
