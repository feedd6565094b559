//! From raster to chips: sampling at a hypothetical geometry, and folding onto the tile.

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use crate::blur::{Plane, gaussian};
use crate::carrier::TILE;

/// A hypothesis of how the seen raster lies to the chips, but for the shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pose {
    /// Raster samples per chip, across and down.
    pub(crate) pitch: (f64, f64),
    /// Rotation in radians, about the raster's centre.
    pub(crate) rotation: f64,
    /// Which way up it lies.
    pub(crate) orientation: Orientation,
}

impl Pose {
    /// As it was marked, but for the pitch.
    pub(crate) const fn upright(pitch: (f64, f64)) -> Self {
        Self { pitch, rotation: 0.0, orientation: Orientation::UPRIGHT }
    }
}

/// How a picture was mirrored left to right, and then turned clockwise by quarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation {
    pub(crate) flipped: bool,
    /// 0 to 3.
    pub(crate) quarter_turns: u8,
}

impl Orientation {
    pub(crate) const UPRIGHT: Self = Self { flipped: false, quarter_turns: 0 };
    /// What is mirrored at most comes first.
    pub(crate) const ALL: [Self; 8] = [
        Self::UPRIGHT,
        Self { flipped: true, quarter_turns: 0 },
        Self { flipped: false, quarter_turns: 1 },
        Self { flipped: true, quarter_turns: 1 },
        Self { flipped: false, quarter_turns: 2 },
        Self { flipped: true, quarter_turns: 2 },
        Self { flipped: false, quarter_turns: 3 },
        Self { flipped: true, quarter_turns: 3 },
    ];
    /// Those that are not turned.
    pub(crate) const NOT_TURNED: &[Self] = Self::ALL.split_at(2).0;
    /// Those that are.
    pub(crate) const TURNED: &[Self] = Self::ALL.split_at(2).1;

    /// Its place in [`Self::ALL`].
    pub(crate) fn number(self) -> usize {
        2 * usize::from(self.quarter_turns) + usize::from(self.flipped)
    }

    /// Where a way across and down the marked picture, or a frequency of it, leads in the seen one.
    pub(crate) fn seen<T: std::ops::Neg<Output = T>>(self, (across, down): (T, T)) -> (T, T) {
        let across = if self.flipped { -across } else { across };
        match self.quarter_turns {
            0 => (across, down),
            1 => (-down, across),
            2 => (-across, -down),
            _ => (down, -across),
        }
    }

    /// Where the marked picture's ways across and down lead.
    pub(crate) fn axes(self) -> (Axis, Axis) {
        let axis = |(across, down): (i32, i32)| Axis { down: down != 0, back: across + down < 0 };
        (axis(self.seen((1, 0))), axis(self.seen((0, 1))))
    }
}

/// Where one way of the marked picture leads in the seen one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Down or up, instead of across.
    pub(crate) down: bool,
    /// To the left, or up.
    pub(crate) back: bool,
}

/// Images of one window with their blurred versions, ready for sampling at any pitch.
pub(crate) struct Pyramid {
    width: usize,
    height: usize,
    /// Versions for pitches from 1.3 on, each a quarter coarser; the first is not blurred.
    levels: Vec<Vec<Complex32>>,
}

impl Pyramid {
    const FIRST: f64 = 1.3;
    const STEP: f64 = 1.25;

    /// `deepest` is the largest pitch that will be asked for.
    pub(crate) fn new(image: Vec<Complex32>, width: usize, height: usize, deepest: f64) -> Self {
        let mut pyramid = Self { width, height, levels: vec![image] };
        let mut pitch = Self::FIRST;
        while pitch < deepest {
            let blurred = pyramid.blurred(pitch);
            pyramid.levels.push(blurred);
            pitch *= Self::STEP;
        }
        pyramid
    }

    /// Images that will be sampled at this pose's pitch only.
    pub(crate) fn for_pose(image: Vec<Complex32>, width: usize, height: usize, pose: Pose) -> Self {
        let mut pyramid = Self { width, height, levels: vec![image] };
        let number = Self::number(pose);
        if number > 0 {
            let blurred = pyramid.blurred(Self::FIRST * Self::STEP.powi(number as i32 - 1));
            pyramid.levels = vec![blurred];
        }
        pyramid
    }

    /// The image blurred for pitches from this one to the next level's.
    fn blurred(&self, pitch: f64) -> Vec<Complex32> {
        let sigma = (0.35 * pitch * Self::STEP.sqrt()) as f32;
        let part = |part: fn(&Complex32) -> f32| {
            let data = self.levels[0].iter().map(part).collect();
            gaussian(&Plane { width: self.width, height: self.height, data }, sigma).data
        };
        let (real, imaginary) = (part(|value| value.re), part(|value| value.im));
        real.into_iter().zip(imaginary).map(|(re, im)| Complex32::new(re, im)).collect()
    }

    fn number(pose: Pose) -> usize {
        let pitch = pose.pitch.0.max(pose.pitch.1);
        if pitch < Self::FIRST { 0 } else { ((pitch / Self::FIRST).ln() / Self::STEP.ln()) as usize + 1 }
    }

    fn level(&self, pose: Pose) -> &[Complex32] {
        &self.levels[Self::number(pose).min(self.levels.len() - 1)]
    }

    /// The chips of the whole raster, summed modulo the tile.
    pub(crate) fn fold(&self, pose: Pose, tile: &mut [Complex32]) {
        tile.fill(Complex32::default());
        let image = self.level(pose);
        if pose.rotation == 0.0 {
            self.fold_upright(image, pose, tile)
        } else {
            self.fold_rotated(image, pose, tile)
        }
    }

    fn fold_upright(&self, image: &[Complex32], pose: Pose, tile: &mut [Complex32]) {
        let axis = |pitch: f64, size: usize| -> Vec<(usize, f32)> {
            let chips = (size as f64 / pitch) as usize;
            (0..chips)
                .map(|i| {
                    let at = ((i as f64 + 0.5) * pitch - 0.5).clamp(0.0, (size - 1) as f64);
                    let first = (at as usize).min(size.saturating_sub(2));
                    (first, (at - first as f64) as f32)
                })
                .collect()
        };
        let (columns, rows) = (axis(pose.pitch.0, self.width), axis(pose.pitch.1, self.height));
        // All rows of chips that fall on one row of the tile are added first: what lies between columns is then found once.
        let mut line = vec![Complex32::default(); self.width];
        for (first, out) in tile.chunks_exact_mut(TILE).enumerate().take(rows.len()) {
            line.fill(Complex32::default());
            for (y, t) in rows[first..].iter().step_by(TILE) {
                let (above, below) = image[y * self.width..][..2 * self.width].split_at(self.width);
                add_between(&mut line, above, below, *t);
            }
            for run in columns.chunks(TILE) {
                for (out, (x, t)) in out.iter_mut().zip(run) {
                    let (left, right) = (line[*x], line[*x + 1]);
                    *out += left + (right - left) * *t;
                }
            }
        }
    }

    fn fold_rotated(&self, image: &[Complex32], pose: Pose, tile: &mut [Complex32]) {
        let chips = |pitch: f64, size: usize| (size as f64 / pitch) as usize;
        let (across, down) = (chips(pose.pitch.0, self.width), chips(pose.pitch.1, self.height));
        let (sin, cos) = pose.rotation.sin_cos();
        let centre = |size: usize| size as f64 / 2.0 - 0.5;
        let raster = Raster { image, width: self.width, height: self.height };
        let across: Vec<f64> = (0..across).map(|i| (i as f64 - centre(across)) * pose.pitch.0).collect();
        for j in 0..down {
            let v = (j as f64 - centre(down)) * pose.pitch.1;
            let out = &mut tile[j % TILE * TILE..][..TILE];
            for run in across.chunks(TILE) {
                add_rotated(out, &raster, run, v, (sin, cos));
            }
        }
    }
}

/// What is sampled.
struct Raster<'a> {
    image: &'a [Complex32],
    width: usize,
    height: usize,
}

/// Adds the samples of one row of chips, at most a tile's, where they lie inside of the raster: `u` and `v` are their
/// distances from its centre, turned by an angle of this sine and cosine.
///
/// Where they lie is found for all of them before the first is sampled: that is done in vectors, sampling is not.
#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn add_rotated(out: &mut [Complex32], raster: &Raster<'_>, u: &[f64], v: f64, (sin, cos): (f64, f64)) {
    let Raster { image, width, height } = *raster;
    let centre = |size: usize| size as f64 / 2.0 - 0.5;
    let (centre_x, centre_y) = (centre(width), centre(height));
    let (right, bottom) = ((width - 1) as f64, (height - 1) as f64);
    let (mut xs, mut ys, mut inside) = ([0.0f64; TILE], [0.0f64; TILE], [false; TILE]);
    for i in 0..u.len().min(TILE) {
        xs[i] = centre_x + cos * u[i] - sin * v;
        ys[i] = centre_y + sin * u[i] + cos * v;
        inside[i] = (xs[i] >= 0.0) & (ys[i] >= 0.0) & (xs[i] < right) & (ys[i] < bottom);
    }
    let (mut lefts, mut tops) = ([0i32; TILE], [0i32; TILE]);
    let (mut s, mut t) = ([0.0f32; TILE], [0.0f32; TILE]);
    for i in 0..u.len().min(TILE) {
        // Converting cuts the fraction off; `trunc` would be a call where the target has no instruction for it.
        (lefts[i], tops[i]) = (xs[i] as i32, ys[i] as i32);
        (s[i], t[i]) = ((xs[i] - f64::from(lefts[i])) as f32, (ys[i] - f64::from(tops[i])) as f32);
    }
    for (i, out) in out.iter_mut().enumerate().take(u.len()) {
        if inside[i] {
            // The four around it: from the first to the last, so that one check of bounds does.
            let around = &image[tops[i] as usize * width + lefts[i] as usize..][..width + 2];
            let above = around[0] + (around[1] - around[0]) * s[i];
            let below = around[width] + (around[width + 1] - around[width]) * s[i];
            *out += above + (below - above) * t[i];
        }
    }
}

/// Adds what lies between two rows, `t` of the way from the first to the second.
#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn add_between(sum: &mut [Complex32], above: &[Complex32], below: &[Complex32], t: f32) {
    for ((sum, above), below) in sum.iter_mut().zip(above).zip(below) {
        sum.re += above.re + (below.re - above.re) * t;
        sum.im += above.im + (below.im - above.im) * t;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPRIGHT: Pose = Pose::upright((1.0, 1.0));

    #[test]
    fn at_pitch_one_folding_is_adding_modulo_the_tile() {
        let (width, height) = (300, 200);
        let image: Vec<Complex32> =
            (0..width * height).map(|i| Complex32::new((i % 91) as f32, i as f32)).collect();
        let pyramid = Pyramid::new(image.clone(), width, height, 1.0);
        let mut tile = vec![Complex32::default(); TILE * TILE];
        pyramid.fold(UPRIGHT, &mut tile);
        let mut expected = vec![Complex32::default(); TILE * TILE];
        for y in 0..height {
            for x in 0..width {
                expected[y % TILE * TILE + x % TILE] += image[y * width + x];
            }
        }
        assert!(tile.iter().zip(&expected).all(|(a, b)| (a - b).norm() <= 1e-3 * b.norm().max(1.0)));
    }

    #[test]
    fn a_ramp_is_sampled_at_chip_centres_upright_and_rotated() {
        let (width, height) = (120, 90);
        let image: Vec<Complex32> =
            (0..width * height).map(|i| Complex32::new((i % width) as f32, 0.0)).collect();
        let pyramid = Pyramid::new(image, width, height, 1.0);
        let mut tile = vec![Complex32::default(); TILE * TILE];
        pyramid.fold(Pose { pitch: (1.2, 1.2), ..UPRIGHT }, &mut tile);
        assert!((tile[10 * TILE + 20].re - (20.5 * 1.2 - 0.5)).abs() < 1e-3);
        pyramid.fold(Pose { rotation: 0.1, ..UPRIGHT }, &mut tile);
        let (u, v) = (70.0 - 59.5, 50.0 - 44.5);
        let expected = 59.5 + 0.1f32.cos() * u - 0.1f32.sin() * v;
        assert!((tile[50 * TILE + 70].re - expected).abs() < 1e-3);
    }
}
