//! Synchronisation: finding the pilot's geometry, shift and phase (design, synchronisation).
//!
//! The pilot changes sign with every pattern. A lock-in at its fundamental leaves one complex image per
//! window; sampled at a hypothetical pose and folded, one Fourier transform correlates it with all 16384 shifts at
//! once. Only pilot signs are used here, so however many poses are tried, the payload's false-alarm bound is
//! not charged for them.

use std::f64::consts::TAU;

use rayon::prelude::*;
use rustfft::num_complex::{Complex32, Complex64};

use crate::carrier::{Carriers, RINGS, TILE};
use crate::chips::{Pose, Pyramid};
use crate::fourier::TileFft;

/// Temporal phases tried in half a cycle.
const PHASES: usize = 4;
/// Largest whitened magnitude of a bin: a periodic host cannot fake a pilot with a few strong lines.
const LIMIT: f32 = 2.0;

/// A pose with the shift and the phase at which the pilot fits best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) pose: Pose,
    /// Shift of the pattern in chips, modulo the tile.
    pub(crate) shift: (f64, f64),
    /// Phase of the pilot's fundamental, in radians.
    pub(crate) phase: f64,
    /// Pilot statistic: about normal without a mark, the largest of all shifts and phases.
    pub(crate) z: f64,
}

/// Whitened pilot coefficients at one pose: cosine and sine part per frequency.
struct Pilot {
    cosine: Vec<Complex32>,
    sine: Vec<Complex32>,
}

/// Correlates windows with one key's pilot.
pub(crate) struct Search<'a> {
    carriers: &'a Carriers,
    pub(crate) pyramid: &'a Pyramid,
    /// A mean instead of a lock-in: there is no sine part and no phase.
    still: bool,
}

/// Memory of one thread.
pub(crate) struct Scratch {
    fft: TileFft,
    tile: Vec<Complex32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { fft: TileFft::new(), tile: vec![Complex32::default(); TILE * TILE] }
    }
}

impl<'a> Search<'a> {
    pub(crate) fn new(carriers: &'a Carriers, pyramid: &'a Pyramid, still: bool) -> Self {
        Self { carriers, pyramid, still }
    }

    /// The pilot's coefficients at this pose, whitened by rings, outliers limited.
    fn pilot(&self, pose: Pose, scratch: &mut Scratch) -> Pilot {
        self.pyramid.fold(pose, &mut scratch.tile);
        scratch.fft.forward(&mut scratch.tile);
        self.pilot_of_spectrum(&scratch.tile, pose.flipped)
    }

    fn pilot_of_spectrum(&self, spectrum: &[Complex32], flipped: bool) -> Pilot {
        let frequencies = &self.carriers.pilot;
        let parts =
            frequencies.iter().map(|f| split(spectrum, if flipped { f.flipped_index() } else { f.index() }));
        let (mut cosine, mut sine): (Vec<_>, Vec<_>) = parts.unzip();
        let power: Vec<f32> = cosine.iter().zip(&sine).map(|(c, s)| c.norm_sqr() + s.norm_sqr()).collect();
        let (mut sums, mut counts) = ([0.0; RINGS], [0.0f32; RINGS]);
        for (frequency, power) in frequencies.iter().zip(&power) {
            sums[frequency.ring] += power;
            counts[frequency.ring] += 1.0;
        }
        for (i, frequency) in frequencies.iter().enumerate() {
            let rms = (sums[frequency.ring] / counts[frequency.ring].max(1.0)).sqrt();
            let weight = 1.0 / rms.max(power[i].sqrt() / LIMIT).max(f32::MIN_POSITIVE);
            cosine[i] *= weight;
            sine[i] *= weight;
        }
        Pilot { cosine, sine }
    }

    /// The best shift and phase at a pose, to a whole chip. Both mirrorings when `both`.
    pub(crate) fn at(&self, pose: Pose, both: bool, scratch: &mut Scratch) -> Candidate {
        self.pyramid.fold(pose, &mut scratch.tile);
        scratch.fft.forward(&mut scratch.tile);
        let spectrum = scratch.tile.clone();
        let mut best = self.all_shifts(&spectrum, pose, scratch);
        if both {
            let other = self.all_shifts(&spectrum, Pose { flipped: !pose.flipped, ..pose }, scratch);
            if other.z > best.z {
                best = other;
            }
        }
        best
    }

    /// The best shift and phase of a folded spectrum.
    fn all_shifts(&self, spectrum: &[Complex32], pose: Pose, scratch: &mut Scratch) -> Candidate {
        let pilot = self.pilot_of_spectrum(spectrum, pose.flipped);
        // Cosine and sine correlations in one transform, as real and imaginary part.
        let tile = &mut scratch.tile;
        tile.fill(Complex32::default());
        for (i, frequency) in self.carriers.pilot.iter().enumerate() {
            let sign = self.carriers.pilot_signs[i].conj();
            let (cosine, sine) = (sign * pilot.cosine[i], sign * pilot.sine[i]);
            let turn = Complex32::i();
            tile[frequency.index()] = (cosine + turn * sine) * 0.5;
            tile[frequency.mirror()] = (cosine.conj() + turn * sine.conj()) * 0.5;
        }
        scratch.fft.inverse(tile);
        let norms = pilot.norms();
        let mut best = Candidate { pose, shift: (0.0, 0.0), phase: 0.0, z: 0.0 };
        let phases = if self.still { 1 } else { PHASES };
        for step in 0..phases {
            let phase = std::f64::consts::PI * step as f64 / phases as f64;
            let (sin, cos) = phase.sin_cos();
            let scale = 1.0 / norms.at(phase);
            let (a, b) = ((cos * scale) as f32, (sin * scale) as f32);
            let value = |value: &Complex32| a * value.re + b * value.im;
            let (mut most, mut place) = (0.0f32, 0);
            for (i, found) in tile.iter().enumerate() {
                let found = value(found).abs();
                if found > most {
                    (most, place) = (found, i);
                }
            }
            if f64::from(most) > best.z {
                let turn = if value(&tile[place]) < 0.0 { std::f64::consts::PI } else { 0.0 };
                let shift = ((place % TILE) as f64, (place / TILE) as f64);
                best = Candidate { pose, shift, phase: phase + turn, z: f64::from(most) };
            }
        }
        best
    }

    /// The candidate moved to the best fraction of a chip and the best phase, near where it is.
    fn settle(&self, candidate: Candidate, pilot: &Pilot, first_step: f64) -> Candidate {
        let norms = pilot.norms();
        let value = |shift: (f64, f64)| {
            let (cosine, sine) = self.correlate(pilot, shift);
            let phase = if self.still {
                if cosine < 0.0 { std::f64::consts::PI } else { 0.0 }
            } else {
                sine.atan2(cosine)
            };
            let z = (phase.cos() * cosine + phase.sin() * sine) / norms.at(phase);
            (z, phase)
        };
        let mut best = (value(candidate.shift), candidate.shift);
        let mut step = first_step;
        while step > 0.03 {
            let before = best.1;
            for (x, y) in [(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)] {
                let shift = (before.0 + x * step, before.1 + y * step);
                let found = value(shift);
                if found.0 > best.0.0 {
                    best = (found, shift);
                }
            }
            if best.1 == before {
                step /= 2.0;
            }
        }
        let wrap = |value: f64| value.rem_euclid(TILE as f64);
        let ((z, phase), shift) = best;
        Candidate { shift: (wrap(shift.0), wrap(shift.1)), phase, z, ..candidate }
    }

    fn correlate(&self, pilot: &Pilot, shift: (f64, f64)) -> (f64, f64) {
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (i, frequency) in self.carriers.pilot.iter().enumerate() {
            let turn = phase_of(frequency.column, frequency.row, shift) * self.carriers.pilot_signs[i].conj();
            cosine += f64::from((turn * pilot.cosine[i]).re);
            sine += f64::from((turn * pilot.sine[i]).re);
        }
        (cosine, sine)
    }

    /// The pilot at a fixed shift: its phase and statistic.
    pub(crate) fn fixed(&self, pose: Pose, shift: (f64, f64), scratch: &mut Scratch) -> Candidate {
        let pilot = self.pilot(pose, scratch);
        let candidate = Candidate { pose, shift, phase: 0.0, z: 0.0 };
        self.settle(candidate, &pilot, 0.0)
    }

    /// Climbs from a candidate to the best pose, shift and phase around it.
    pub(crate) fn refine(&self, candidate: Candidate, scratch: &mut Scratch) -> Candidate {
        let pilot = self.pilot(candidate.pose, scratch);
        let mut best = self.settle(candidate, &pilot, 0.5);
        let (mut step, mut rounds) = (0.002, 0);
        while step > 2e-4 && rounds < 8 {
            rounds += 1;
            let from = best;
            let mut tries = Vec::new();
            for (x, y) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
                let pitch = (
                    from.pose.pitch.0 * (1.0 + f64::from(x) * step),
                    from.pose.pitch.1 * (1.0 + f64::from(y) * step),
                );
                tries.push(Pose { pitch, ..from.pose });
            }
            if from.pose.rotation != 0.0 {
                tries.extend(
                    [-step, step].map(|turn| Pose { rotation: from.pose.rotation + turn, ..from.pose }),
                );
            }
            for pose in tries {
                let pilot = self.pilot(pose, scratch);
                let found = self.settle(Candidate { pose, ..from }, &pilot, 0.25);
                if found.z > best.z {
                    best = found;
                }
            }
            if best == from {
                step /= 2.0;
            }
        }
        best
    }

    /// The best candidates among many poses, strongest first, poses near a stronger one left out.
    pub(crate) fn among(&self, poses: &[Pose], keep: usize) -> Vec<Candidate> {
        let mut found: Vec<Candidate> =
            poses.par_iter().map_init(Scratch::new, |scratch, pose| self.at(*pose, true, scratch)).collect();
        found.sort_by(|a, b| b.z.total_cmp(&a.z));
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in found {
            let near = |other: &Candidate| {
                let ratio = |a: f64, b: f64| (a / b - 1.0).abs() < 0.012;
                let (a, b) = (candidate.pose, other.pose);
                a.flipped == b.flipped
                    && ratio(a.pitch.0, b.pitch.0)
                    && ratio(a.pitch.1, b.pitch.1)
                    && (a.rotation - b.rotation).abs() < 0.012
            };
            if kept.len() < keep && !kept.iter().any(near) {
                kept.push(candidate);
            }
        }
        kept
    }
}

impl Pilot {
    fn norms(&self) -> Norms {
        let sum = |f: &dyn Fn(&Complex32, &Complex32) -> f32| {
            f64::from(self.cosine.iter().zip(&self.sine).map(|(c, s)| f(c, s)).sum::<f32>())
        };
        Norms {
            cosine: sum(&|c, _| c.norm_sqr()),
            sine: sum(&|_, s| s.norm_sqr()),
            cross: sum(&|c, s| (c.conj() * s).re),
        }
    }
}

/// Energies of the two quadratures.
struct Norms {
    cosine: f64,
    sine: f64,
    cross: f64,
}

impl Norms {
    /// The standard deviation of the correlation at a phase, for random pilot signs.
    fn at(&self, phase: f64) -> f64 {
        let (sin, cos) = phase.sin_cos();
        let power = cos * cos * self.cosine + sin * sin * self.sine + 2.0 * sin * cos * self.cross;
        power.max(0.0).sqrt() + 1e-9
    }
}

/// The spectra of two real images that were transformed as one complex image, at one bin.
pub(crate) fn split(spectrum: &[Complex32], index: usize) -> (Complex32, Complex32) {
    let wrap = |value: usize| (TILE - value) % TILE;
    let mirror = wrap(index / TILE) * TILE + wrap(index % TILE);
    let (here, there) = (spectrum[index], spectrum[mirror].conj());
    let difference = here - there;
    ((here + there) * 0.5, Complex32::new(difference.im, -difference.re) * 0.5)
}

/// The factor that undoes a shift of the pattern, for one frequency.
pub(crate) fn phase_of(column: i32, row: i32, shift: (f64, f64)) -> Complex32 {
    let turns = (f64::from(column) * shift.0 + f64::from(row) * shift.1) / TILE as f64;
    let value = Complex64::cis(TAU * turns);
    Complex32::new(value.re as f32, value.im as f32)
}

/// Poses of one pitch for both directions, from 0.42 to 2.3 times `base`.
pub(crate) fn isotropic(base: f64) -> Vec<Pose> {
    let (from, to, step) = (0.42f64.ln(), 2.3f64.ln(), 0.0035);
    let count = ((to - from) / step) as usize;
    let pose = |i: usize| {
        let pitch = base * (from + i as f64 * step).exp();
        Pose { pitch: (pitch, pitch), rotation: 0.0, flipped: false }
    };
    (0..=count).map(pose).collect()
}

/// Poses stretched by up to 15 % in one direction, the other as it was: an aspect ratio changed without a crop.
pub(crate) fn stretched(base: f64) -> Vec<Pose> {
    let pose = |pitch| Pose { pitch, rotation: 0.0, flipped: false };
    let ratios = (-60..=60).filter(|i| *i != 0).map(|i| base * (1.0 + 0.0025 * f64::from(i)));
    ratios.flat_map(|pitch| [pose((pitch, base)), pose((base, pitch))]).collect()
}

/// Poses rotated by up to 6 degrees, with a little scale.
pub(crate) fn rotated(base: f64) -> Vec<Pose> {
    let all = (-18..=18).flat_map(|turn| (-3..=3).map(move |scale| (turn, scale)));
    let pose = |(turn, scale)| {
        let pitch = base * (1.0 + 0.005 * f64::from(scale));
        Pose { pitch: (pitch, pitch), rotation: (f64::from(turn) / 3.0).to_radians(), flipped: false }
    };
    all.filter(|(turn, _): &(i32, i32)| *turn != 0).map(pose).collect()
}

/// Playback speeds from 0.45 to 2.2 in steps of 2 %.
pub(crate) fn speeds() -> Vec<f64> {
    let (from, to, step) = (0.45f64.ln(), 2.2f64.ln(), 0.02);
    let count = ((to - from) / step) as usize;
    (0..=count).map(|i| (from + f64::from(i as u32) * step).exp()).collect()
}
