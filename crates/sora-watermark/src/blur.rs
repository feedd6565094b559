//! Gaussian blur of small planes: separable, cut at three standard deviations, edges repeated.

use multiversion::multiversion;

/// A plane of 32-bit floats, rows without padding.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: Vec<f32>,
}

impl Plane {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0.0; width * height] }
    }

    pub(crate) fn row(&self, y: usize) -> &[f32] {
        &self.data[y * self.width..(y + 1) * self.width]
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[y * self.width..(y + 1) * self.width]
    }

    pub(crate) fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self {
            width: self.width,
            height: self.height,
            data: self.data.iter().map(|value| f(*value)).collect(),
        }
    }
}

/// The right half of a Gaussian's taps, centre first; all taps sum to 1.
fn taps(sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil().max(1.0) as usize;
    let tap = |i: usize| (-0.5 * (i as f32 / sigma).powi(2)).exp();
    let sum: f32 = (1..=radius).map(|i| 2.0 * tap(i)).sum::<f32>() + 1.0;
    (0..=radius).map(|i| tap(i) / sum).collect()
}

#[multiversion(targets("x86_64+avx2+fma", "aarch64+neon"))]
fn scale(out: &mut [f32], a: &[f32], k: f32) {
    for (out, a) in out.iter_mut().zip(a) {
        *out = k * a;
    }
}

#[multiversion(targets("x86_64+avx2+fma", "aarch64+neon"))]
fn add_pair(out: &mut [f32], a: &[f32], b: &[f32], k: f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out += k * (a + b);
    }
}

/// `plane` blurred with a standard deviation of `sigma` samples.
pub(crate) fn gaussian(plane: &Plane, sigma: f32) -> Plane {
    let taps = taps(sigma);
    let radius = taps.len() - 1;
    let (width, height) = (plane.width, plane.height);
    let mut across = Plane::new(width, height);
    let mut padded = vec![0.0; width + 2 * radius];
    for y in 0..height {
        let row = plane.row(y);
        padded[..radius].fill(row[0]);
        padded[radius..radius + width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        let out = across.row_mut(y);
        scale(out, &padded[radius..], taps[0]);
        for (i, tap) in taps.iter().enumerate().skip(1) {
            add_pair(out, &padded[radius - i..], &padded[radius + i..], *tap);
        }
    }
    let mut out = Plane::new(width, height);
    for y in 0..height {
        let target = out.row_mut(y);
        scale(target, across.row(y), taps[0]);
        for (i, tap) in taps.iter().enumerate().skip(1) {
            add_pair(target, across.row(y.saturating_sub(i)), across.row((y + i).min(height - 1)), *tap);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_becomes_a_gaussian_and_flat_stays_flat() {
        let mut plane = Plane::new(31, 25);
        plane.data[12 * 31 + 15] = 1.0;
        let blurred = gaussian(&plane, 2.0);
        assert!((blurred.data.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let ratio = blurred.data[12 * 31 + 17] / blurred.data[12 * 31 + 15];
        assert!((ratio - (-0.5f32).exp()).abs() < 1e-3);
        let flat = Plane::new(31, 25).map(|_| 7.0);
        assert!(gaussian(&flat, 5.0).data.iter().all(|value| (value - 7.0).abs() < 1e-4));
    }
}
