//! Synchronisation: finding the pilot's geometry, shift and phase (design, synchronisation).
//!
//! The pilot changes sign with every pattern. A lock-in at its fundamental leaves one complex image per
//! window; sampled at a hypothetical pose and folded, one Fourier transform correlates it with all 16384 shifts at
//! once. Only pilot signs are used here, so however many poses are tried, the payload's false-alarm bound is
//! not charged for them.

use std::f64::consts::TAU;
use std::sync::OnceLock;

use rayon::prelude::*;
use rustfft::num_complex::{Complex32, Complex64};

use crate::band::Band;
use crate::carrier::{Carriers, RINGS, TILE};
use crate::chips::{Orientation, Pose, Pyramid};
use crate::fourier::{REACH, TileFft};
use crate::peaks::{Factors, PHASES, bounds, peak};

/// Largest whitened magnitude of a bin: a periodic host cannot fake a pilot with a few strong lines.
const LIMIT: f32 = 2.0;

/// Pilot statistic from which a pose is taken for found; the largest of unmarked clips was 6.5 in the design's runs.
pub(crate) const FOUND: f64 = 7.6;
/// How much less than it is a bound may come out.
const ROUNDING: f64 = 1e-4;

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

impl Candidate {
    /// Whether its pose is taken for found.
    pub(crate) fn is_strong(&self) -> bool {
        self.z >= FOUND
    }
}

/// Whitened pilot coefficients at one pose: cosine and sine part per frequency.
struct Pilot {
    cosine: Vec<Complex32>,
    sine: Vec<Complex32>,
}

/// Poses that are searched together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// One pitch for both directions, from 0.42 to 2.3 times the base.
    Isotropic,
    /// Rotated by up to 6 degrees, with a little scale.
    Rotated,
    /// Stretched by up to 15 % in one direction, the other as it was: an aspect ratio changed without a crop.
    Stretched,
}

impl Family {
    const NUMBER: usize = 3;

    fn poses(self, base: f64) -> Vec<Pose> {
        match self {
            Self::Isotropic => isotropic(base),
            Self::Rotated => rotated(base),
            Self::Stretched => stretched(base),
        }
    }
}

/// What a window shows of a pilot, whichever key's: the images of its lock-in, and what they are folded to.
pub(crate) struct Sight {
    pyramid: Pyramid,
    /// A mean instead of a lock-in: there is no sine part and no phase.
    pub(crate) still: bool,
    /// Where several keys look: the bands of the families' poses, each made by the first that asks.
    shared: Option<[OnceLock<Vec<Band>>; Family::NUMBER]>,
}

impl Sight {
    pub(crate) fn new(pyramid: Pyramid, still: bool) -> Self {
        Self { pyramid, still, shared: None }
    }

    /// The same, for several keys.
    pub(crate) fn shared(self) -> Self {
        Self { shared: Some(Default::default()), ..self }
    }

    fn band(&self, pose: Pose, scratch: &mut Scratch) -> Band {
        self.pyramid.fold(pose, &mut scratch.tile);
        Band::new(&mut scratch.tile, &mut scratch.fft)
    }
}

/// Correlates windows with one key's pilot.
pub(crate) struct Search<'a> {
    carriers: &'a Carriers,
    sight: &'a Sight,
}

/// Memory of one thread.
pub(crate) struct Scratch {
    pub(crate) fft: TileFft,
    tile: Vec<Complex32>,
    /// All zero but while a search fills it.
    spectrum: Vec<Complex32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let zeros = || vec![Complex32::default(); TILE * TILE];
        Self { fft: TileFft::new(), tile: zeros(), spectrum: zeros() }
    }
}

impl<'a> Search<'a> {
    pub(crate) fn new(carriers: &'a Carriers, sight: &'a Sight) -> Self {
        Self { carriers, sight }
    }

    /// The pilot's coefficients at this pose.
    fn pilot(&self, pose: Pose, scratch: &mut Scratch) -> Pilot {
        self.pilot_in(&self.sight.band(pose, scratch), pose.orientation)
    }

    /// The pilot's coefficients in a band, whitened by rings, outliers limited.
    fn pilot_in(&self, band: &Band, orientation: Orientation) -> Pilot {
        let frequencies = &self.carriers.pilot;
        let parts = self.carriers.pilot_spots[orientation.number()].iter().map(|spot| band.get(spot));
        let (mut cosine, mut sine): (Vec<_>, Vec<_>) = parts.unzip();
        let power: Vec<f32> = cosine.iter().zip(&sine).map(|(c, s)| c.norm_sqr() + s.norm_sqr()).collect();
        let (mut sums, mut counts) = ([0.0; RINGS], [0.0f32; RINGS]);
        for (frequency, power) in frequencies.iter().zip(&power) {
            sums[frequency.ring] += power;
            counts[frequency.ring] += 1.0;
        }
        let rms: [f32; RINGS] = std::array::from_fn(|ring| (sums[ring] / counts[ring].max(1.0)).sqrt());
        for (i, frequency) in frequencies.iter().enumerate() {
            let weight = 1.0 / rms[frequency.ring].max(power[i].sqrt() / LIMIT).max(f32::MIN_POSITIVE);
            cosine[i] *= weight;
            sine[i] *= weight;
        }
        Pilot { cosine, sine }
    }

    /// The best shift and phase at a pose, to a whole chip, in any of these orientations instead of its own.
    pub(crate) fn at(&self, pose: Pose, orientations: &[Orientation], scratch: &mut Scratch) -> Candidate {
        self.best_in(&self.sight.band(pose, scratch), (pose, orientations), 0.0, scratch)
    }

    /// The same in the band of a pose, where only candidates with a statistic of `least` or more count: without one
    /// there is nothing to be read from what this gives, but that its statistic is less.
    pub(crate) fn best_in(
        &self,
        band: &Band,
        (pose, orientations): (Pose, &[Orientation]),
        least: f64,
        scratch: &mut Scratch,
    ) -> Candidate {
        let mut best = Candidate { pose, shift: (0.0, 0.0), phase: 0.0, z: 0.0 };
        for orientation in orientations {
            let found = self.all_shifts(band, Pose { orientation: *orientation, ..pose }, least, scratch);
            if found.z > best.z {
                best = found;
            }
        }
        best
    }

    /// The best shift and phase in a band.
    fn all_shifts(&self, band: &Band, pose: Pose, least: f64, scratch: &mut Scratch) -> Candidate {
        let pilot = self.pilot_in(band, pose.orientation);
        let norms = pilot.norms();
        let phase = |step: usize| std::f64::consts::PI * step as f64 / PHASES as f64;
        let factors: Factors = std::array::from_fn(|step| {
            // Without a lock-in there is no phase but the first.
            let phase = if self.sight.still { 0.0 } else { phase(step) };
            let (sin, cos) = phase.sin_cos();
            let scale = 1.0 / norms.at(phase);
            ((cos * scale) as f32, (sin * scale) as f32)
        });
        // Cosine and sine correlations in one transform, as real and imaginary part.
        let Scratch { fft, spectrum, .. } = scratch;
        for (i, frequency) in self.carriers.pilot.iter().enumerate() {
            let sign = self.carriers.pilot_signs[i].conj();
            let (cosine, sine) = (sign * pilot.cosine[i], sign * pilot.sine[i]);
            // Times i.
            let turned = |value: Complex32| Complex32::new(-value.im, value.re);
            spectrum[frequency.index()] = (cosine + turned(sine)) * 0.5;
            spectrum[frequency.mirror()] = (cosine.conj() + turned(sine.conj())) * 0.5;
        }
        let (columns, numbers) = if least > 0.0 {
            // Nine in ten columns of unmarked pictures cannot hold a peak that high, which is known before they are made.
            let bounds = bounds(fft.inverse_rows(spectrum), &factors);
            let can = |column: &usize| f64::from(bounds[*column]) >= least * (1.0 - ROUNDING);
            let numbers: Vec<usize> = (0..TILE).filter(can).collect();
            (fft.inverse_columns(&numbers), Some(numbers))
        } else {
            (fft.inverse_band(spectrum), None)
        };
        let (most, step, place) = peak(columns, &factors);
        let mut best = Candidate { pose, shift: (0.0, 0.0), phase: 0.0, z: 0.0 };
        if f64::from(most) > best.z {
            let (a, b) = factors[step];
            let value = a * columns[place].re + b * columns[place].im;
            let turn = if value < 0.0 { std::f64::consts::PI } else { 0.0 };
            let column = numbers.map_or(place / TILE, |numbers| numbers[place / TILE]);
            let shift = (column as f64, (place % TILE) as f64);
            best = Candidate { pose, shift, phase: phase(step) + turn, z: f64::from(most) };
        }
        for frequency in &self.carriers.pilot {
            spectrum[frequency.index()] = Complex32::default();
            spectrum[frequency.mirror()] = Complex32::default();
        }
        best
    }

    /// The candidate moved to the best fraction of a chip and the best phase, near where it is.
    fn settle(&self, candidate: Candidate, pilot: &Pilot, first_step: f64) -> Candidate {
        let norms = pilot.norms();
        let value = |phases: &Phases| {
            let (cosine, sine) = self.correlate(pilot, phases);
            let phase = if self.sight.still {
                if cosine < 0.0 { std::f64::consts::PI } else { 0.0 }
            } else {
                sine.atan2(cosine)
            };
            let z = (phase.cos() * cosine + phase.sin() * sine) / norms.at(phase);
            (z, phase)
        };
        let mut phases = Phases::new(candidate.shift);
        let mut best = (value(&phases), candidate.shift);
        let mut step = first_step;
        while step > 0.03 {
            let (before, around) = (best.1, phases.clone());
            for (x, y) in [(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)] {
                let shift = (before.0 + x * step, before.1 + y * step);
                // The other axis stays as it is.
                let moved = if y == 0.0 { around.with_across(shift.0) } else { around.with_down(shift.1) };
                let found = value(&moved);
                if found.0 > best.0.0 {
                    best = (found, shift);
                    phases = moved;
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

    fn correlate(&self, pilot: &Pilot, phases: &Phases) -> (f64, f64) {
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (i, frequency) in self.carriers.pilot.iter().enumerate() {
            let turn = phases.of(frequency.both()) * self.carriers.pilot_signs[i].conj();
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

    /// The best candidates among the poses of a family in any of these orientations, strongest first, poses near a stronger
    /// one left out, and those whose statistic is less than `least`.
    pub(crate) fn among(
        &self,
        family: Family,
        base: f64,
        orientations: &[Orientation],
        (keep, least): (usize, f64),
    ) -> Vec<Candidate> {
        let poses = family.poses(base);
        let shared = self.sight.shared.as_ref().map(|bands| {
            let band = |scratch: &mut Scratch, pose: &Pose| self.sight.band(*pose, scratch);
            bands[family as usize].get_or_init(|| poses.par_iter().map_init(Scratch::new, band).collect())
        });
        let best = |scratch: &mut Scratch, (i, pose): (usize, &Pose)| match shared {
            Some(bands) => self.best_in(&bands[i], (*pose, orientations), least, scratch),
            None => self.best_in(&self.sight.band(*pose, scratch), (*pose, orientations), least, scratch),
        };
        let mut found: Vec<Candidate> = poses.par_iter().enumerate().map_init(Scratch::new, best).collect();
        found.retain(|candidate| candidate.z >= least);
        found.sort_by(|a, b| b.z.total_cmp(&a.z));
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in found {
            let near = |other: &Candidate| {
                let ratio = |a: f64, b: f64| (a / b - 1.0).abs() < 0.012;
                let (a, b) = (candidate.pose, other.pose);
                a.orientation == b.orientation
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
    /// Three sums side by side: one after the other, each would wait for its own last term.
    fn norms(&self) -> Norms {
        let (mut cosine, mut sine, mut cross) = (0.0f32, 0.0f32, 0.0f32);
        for (c, s) in self.cosine.iter().zip(&self.sine) {
            cosine += c.norm_sqr();
            sine += s.norm_sqr();
            cross += (c.conj() * s).re;
        }
        Norms { cosine: cosine.into(), sine: sine.into(), cross: cross.into() }
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

/// The factors that undo a shift along one axis, by cycles per tile from none on.
type Turns = [Complex64; REACH + 1];

/// The factors that undo a shift of the pattern, by frequency.
#[derive(Clone)]
pub(crate) struct Phases {
    across: Turns,
    down: Turns,
}

fn turns(shift: f64) -> Turns {
    std::array::from_fn(|cycles| Complex64::cis(TAU * cycles as f64 * shift / TILE as f64))
}

impl Phases {
    pub(crate) fn new((across, down): (f64, f64)) -> Self {
        Self { across: turns(across), down: turns(down) }
    }

    /// Those of another shift across.
    fn with_across(&self, shift: f64) -> Self {
        Self { across: turns(shift), down: self.down }
    }

    /// Those of another shift down.
    fn with_down(&self, shift: f64) -> Self {
        Self { across: self.across, down: turns(shift) }
    }

    pub(crate) fn of(&self, (column, row): (i32, i32)) -> Complex32 {
        let part = |phases: &Turns, cycles: i32| {
            let phase = phases[cycles.unsigned_abs() as usize];
            if cycles < 0 { phase.conj() } else { phase }
        };
        let value = part(&self.across, column) * part(&self.down, row);
        Complex32::new(value.re as f32, value.im as f32)
    }
}

fn isotropic(base: f64) -> Vec<Pose> {
    let (from, to, step) = (0.42f64.ln(), 2.3f64.ln(), 0.0035);
    let count = ((to - from) / step) as usize;
    let pose = |i: usize| {
        let pitch = base * (from + i as f64 * step).exp();
        Pose::upright((pitch, pitch))
    };
    (0..=count).map(pose).collect()
}

fn stretched(base: f64) -> Vec<Pose> {
    let ratios = (-60..=60).filter(|i| *i != 0).map(|i| base * (1.0 + 0.0025 * f64::from(i)));
    ratios.flat_map(|pitch| [(pitch, base), (base, pitch)].map(Pose::upright)).collect()
}

fn rotated(base: f64) -> Vec<Pose> {
    let all = (-18..=18).flat_map(|turn| (-3..=3).map(move |scale| (turn, scale)));
    let pose = |(turn, scale)| {
        let pitch = base * (1.0 + 0.005 * f64::from(scale));
        Pose { rotation: (f64::from(turn) / 3.0).to_radians(), ..Pose::upright((pitch, pitch)) }
    };
    all.filter(|(turn, _): &(i32, i32)| *turn != 0).map(pose).collect()
}
