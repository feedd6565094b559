//! Where in the picture the mark survived: weights of places, from the pilot.
//!
//! An encoder that runs short of bits keeps the mark where it codes texture and drops it where it skips blocks.
//! Once the geometry is known, so is the pilot's pattern in the picture; its local correlation says how much of
//! the mark is left in each place, and a matched filter weighs places by that. Only pilot signs are used.

use crate::blur::{Plane, gaussian};
use crate::carrier::{Carriers, TILE};
use crate::chips::Pose;
use crate::fourier::TileFft;
use crate::window::Segments;
use rustfft::num_complex::Complex32;

/// Standard deviation of the local average, in chips: large enough to see the pilot through the noise.
const REACH: f64 = 12.0;
/// Least and largest weight; the mean is about 1.
const BOUNDS: (f32, f32) = (0.15, 4.0);

/// The pilot as a tile of chips, RMS 1.
fn pilot_tile(carriers: &Carriers) -> Vec<f32> {
    let mut spectrum = vec![Complex32::default(); TILE * TILE];
    for (frequency, sign) in carriers.pilot.iter().zip(&carriers.pilot_signs) {
        spectrum[frequency.index()] = *sign;
        spectrum[frequency.mirror()] = sign.conj();
    }
    TileFft::new().inverse(&mut spectrum);
    let power: f32 = spectrum.iter().map(|value| value.re * value.re).sum::<f32>() / spectrum.len() as f32;
    spectrum.iter().map(|value| value.re / power.sqrt()).collect()
}

/// The tile as it lies in the picture at this pose and shift.
fn in_picture(tile: &[f32], width: usize, height: usize, pose: Pose, shift: (f64, f64)) -> Plane {
    let (sin, cos) = pose.rotation.sin_cos();
    let chips = |pitch: f64, size: usize| (size as f64 / pitch).floor();
    let (across, down) = (chips(pose.pitch.0, width), chips(pose.pitch.1, height));
    let mut out = Plane::new(width, height);
    for y in 0..height {
        for (x, out) in out.row_mut(y).iter_mut().enumerate() {
            // Chip coordinates, the inverse of what folding samples.
            let (u, v) = if pose.rotation == 0.0 {
                ((x as f64 + 0.5) / pose.pitch.0 - 0.5, (y as f64 + 0.5) / pose.pitch.1 - 0.5)
            } else {
                let (a, b) = (x as f64 + 0.5 - width as f64 / 2.0, y as f64 + 0.5 - height as f64 / 2.0);
                let (p, q) = ((cos * a + sin * b) / pose.pitch.0, (cos * b - sin * a) / pose.pitch.1);
                (p + across / 2.0 - 0.5, q + down / 2.0 - 0.5)
            };
            // A mirrored picture shows the tile mirrored, its shift likewise.
            let u = if pose.flipped { -u - shift.0 } else { u - shift.0 };
            *out = at(tile, u, v - shift.1);
        }
    }
    out
}

/// The tile between chips, bilinear.
fn at(tile: &[f32], u: f64, v: f64) -> f32 {
    let wrap = |value: f64| (value.floor() as i64).rem_euclid(TILE as i64) as usize;
    let (i, j) = (wrap(u), wrap(v));
    let (s, t) = ((u - u.floor()) as f32, (v - v.floor()) as f32);
    let (i1, j1) = ((i + 1) % TILE, (j + 1) % TILE);
    let row = |j: usize| tile[j * TILE + i] * (1.0 - s) + tile[j * TILE + i1] * s;
    row(j) * (1.0 - t) + row(j1) * t
}

/// A weight for each place, or none where the pilot is too faint to tell places apart.
pub(crate) fn weights(
    carriers: &Carriers,
    segments: &Segments,
    pose: Pose,
    shift: (f64, f64),
) -> Option<Plane> {
    let first = &segments.all.first()?.image;
    let (width, height) = (first.width, first.height);
    let tile = pilot_tile(carriers);
    let sigma = (REACH * pose.pitch.0.max(pose.pitch.1)) as f32;
    // All segments with the pilot's sign taken off: what is left of the pilot stands still in the sum.
    let mut sum = Plane::new(width, height);
    for segment in &segments.all {
        let sign = if segment.number.rem_euclid(2) == 0 { 1.0 } else { -1.0 };
        sum.data.iter_mut().zip(&segment.image.data).for_each(|(sum, value)| *sum += sign * value);
    }
    let correlation = |shift: (f64, f64)| {
        let mut product = in_picture(&tile, width, height, pose, shift);
        product.data.iter_mut().zip(&sum.data).for_each(|(product, sum)| *product *= sum);
        gaussian(&product, sigma)
    };
    let map = correlation(shift);
    // The same at shifts where no pilot is: the noise of the map.
    let decoys = [(37.3, 51.7), (71.9, 23.1)].map(|(x, y)| correlation((shift.0 + x, shift.1 + y)));
    let n = map.data.len() as f32;
    let noise =
        decoys.iter().flat_map(|decoy| &decoy.data).map(|value| value * value).sum::<f32>() / (2.0 * n);
    let mean = map.data.iter().sum::<f32>() / n;
    let spread = map.data.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / n;
    let trust = ((spread - noise) / spread.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    if mean <= 0.0 || trust <= 0.0 {
        return None;
    }
    Some(map.map(|value| (1.0 + trust * (value / mean - 1.0)).clamp(BOUNDS.0, BOUNDS.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::window::Segment;

    #[test]
    fn the_half_that_kept_the_mark_weighs_more() {
        let carriers = Carriers::new(&Key::public());
        let pose = Pose { pitch: (1.0, 1.0), rotation: 0.0, flipped: false };
        let pilot = in_picture(&pilot_tile(&carriers), 256, 160, pose, (9.0, 4.0));
        let mut stream = Key::public().stream("noise");
        let segment = |number: i64, stream: &mut crate::key::Stream| {
            let mut image = Plane::new(256, 160);
            for (i, value) in image.data.iter_mut().enumerate() {
                let kept = if i % 256 < 128 { 0.2 } else { 0.0 };
                let sign = if number % 2 == 0 { 1.0 } else { -1.0 };
                *value = sign * kept * pilot.data[i] + stream.below(2000) as f32 / 577.0 - 1.73;
            }
            Segment { number, frames: 3, start: 0.0, end: 0.0, image }
        };
        let all = (0..12).map(|number| segment(number, &mut stream)).collect();
        let weights = weights(&carriers, &Segments { all }, pose, (9.0, 4.0)).expect("a pilot");
        assert!(
            weights.row(80)[60] > 3.0 * weights.row(80)[200],
            "{} {}",
            weights.row(80)[60],
            weights.row(80)[200]
        );
    }
}
