//! The payload statistic and its proven bound.
//!
//! Let `y` be the vector of weighted payload coefficients of a video under one hypothesis: a pose, a shift, an
//! offset in time. Geometry, whitening and weights may depend on the video and on the pilot's signs; they
//! never see the payload's signs. Let `s` be those keyed signs, `c` the code word of a message, and
//!
//! ```text
//! z = sum_d s_d c_d y_d / sqrt(sum_d y_d^2)
//! ```
//!
//! For a video that does not depend on the key, `s` is independent of `y`, and for a fixed message the products
//! `s_d c_d` are independent fair signs. By Hoeffding's inequality (JASA 58, 1963) `P(z >= t) <= exp(-t^2 / 2)`,
//! whatever the video is. The union over all `2^96` messages and all `H` hypotheses that were decoded gives
//!
//! ```text
//! log10 p <= log10 H + 96 log10 2 - z^2 / (2 ln 10)
//! ```
//!
//! and without the middle term for one message named before the video was seen. One caution makes this
//! true: dimensions that carry the same sign, from segments with the same pattern, are added before
//! anything is squared. The search over poses uses pilot signs only and is not counted in `H`.

use rustfft::num_complex::Complex32;

use crate::band::Band;
use crate::carrier::{Carriers, PATTERNS, RINGS, TILE};
use crate::chips::{Pose, Pyramid};
use crate::fourier::TileFft;
use crate::payload::Payload;
use crate::polar;
use crate::search::Phases;
use crate::window::Segments;

/// Largest whitened magnitude of a coefficient.
const LIMIT: f32 = 2.0;

/// The bound on log10 p for a statistic of `z` among `hypotheses`; `any_message` for blind decoding.
///
/// At most 0: it bounds a probability.
pub(crate) fn log10_p(z: f64, hypotheses: u64, any_message: bool) -> f64 {
    if z <= 0.0 {
        return 0.0;
    }
    let messages = if any_message { Payload::BITS as f64 * 2f64.log10() } else { 0.0 };
    ((hypotheses.max(1) as f64).log10() + messages - z * z / (2.0 * std::f64::consts::LN_10)).min(0.0)
}

/// What one segment says about the payload: its weighted coefficients.
pub(crate) struct SegmentEvidence {
    pub(crate) number: i64,
    /// Seconds since the clip's first frame.
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) y: Vec<f32>,
}

/// What a window says under one hypothesis.
pub(crate) struct Evidence {
    pub(crate) segments: Vec<SegmentEvidence>,
}

/// Coefficients of one segment before weighting.
struct Coefficients {
    pilot: Vec<Complex32>,
    payload: Vec<Complex32>,
}

/// Samples all segments at a pose and shift, whitens and weighs the coefficients.
pub(crate) fn evidence(carriers: &Carriers, segments: &Segments, pose: Pose, shift: (f64, f64)) -> Evidence {
    let mut fft = TileFft::new();
    let mut tile = vec![Complex32::default(); TILE * TILE];
    let phases = Phases::new(shift);
    let mut coefficients = Vec::with_capacity(segments.all.len());
    for pair in segments.all.chunks(2) {
        let (first, second) = (&pair[0].image, pair.get(1).map(|segment| &segment.image));
        let value = |(i, re): (usize, &f32)| Complex32::new(*re, second.map_or(0.0, |s| s.data[i]));
        let image = first.data.iter().enumerate().map(value);
        let pyramid = Pyramid::for_pose(image.collect(), first.width, first.height, pose);
        pyramid.fold(pose, &mut tile);
        let band = Band::new(&mut tile, &mut fft);
        for part in 0..pair.len() {
            coefficients.push(Coefficients::new(carriers, &band, (pose, &phases), part));
        }
    }
    let polarity = |number: i64| if number.rem_euclid(2) == 0 { 1.0 } else { -1.0 };
    let signs: Vec<f32> = segments.all.iter().map(|segment| polarity(segment.number)).collect();
    let frames: Vec<f32> = segments.all.iter().map(|segment| segment.frames as f32).collect();
    let weights = Weights::new(carriers, &coefficients, &signs, &frames);
    let all = segments.all.iter().zip(&coefficients).enumerate().map(|(n, (segment, coefficients))| {
        let weight = |d: usize| weights.ring[carriers.payload[d].ring] * weights.segment[n];
        let real = coefficients.payload.iter().enumerate().map(|(d, value)| value.re * weight(d));
        let imaginary = coefficients.payload.iter().enumerate().map(|(d, value)| value.im * weight(d));
        let y = real.chain(imaginary).collect();
        SegmentEvidence { number: segment.number, start: segment.start, end: segment.end, y }
    });
    Evidence { segments: all.collect() }
}

impl Coefficients {
    fn new(carriers: &Carriers, band: &Band, (pose, phases): (Pose, &Phases), part: usize) -> Self {
        let value = |frequency: &crate::carrier::Frequency| {
            let (first, second) = band.at(frequency.both(), pose.orientation);
            (if part == 0 { first } else { second }) * phases.of(frequency.both())
        };
        let mut pilot: Vec<Complex32> = carriers.pilot.iter().map(value).collect();
        let mut payload: Vec<Complex32> = carriers.payload.iter().map(value).collect();
        let (mut power, mut count) = ([0.0f32; RINGS], [0.0f32; RINGS]);
        let frequencies = || carriers.pilot.iter().chain(&carriers.payload);
        for (frequency, value) in frequencies().zip(pilot.iter().chain(&payload)) {
            power[frequency.ring] += value.norm_sqr();
            count[frequency.ring] += 1.0;
        }
        for (frequency, value) in frequencies().zip(pilot.iter_mut().chain(&mut payload)) {
            let rms = (power[frequency.ring] / count[frequency.ring].max(1.0)).sqrt().max(f32::MIN_POSITIVE);
            *value /= rms.max(value.norm() / LIMIT);
        }
        Self { pilot, payload }
    }
}

/// Amplitudes expected of the mark, from the pilot: the weights of a matched filter in white noise.
struct Weights {
    ring: [f32; RINGS],
    segment: Vec<f32>,
}

impl Weights {
    /// Measured ring amplitudes are drawn towards their mean as if so many more dimensions had shown it.
    const RING_PRIOR: f32 = 60.0;
    /// Least weight, as a share of the mean.
    const LEAST: f32 = 0.1;

    fn new(carriers: &Carriers, coefficients: &[Coefficients], signs: &[f32], frames: &[f32]) -> Self {
        let rings = |values: &Coefficients, sign: f32| {
            let mut sums = [0.0f32; RINGS];
            for ((frequency, a), value) in carriers.pilot.iter().zip(&carriers.pilot_signs).zip(&values.pilot)
            {
                sums[frequency.ring] += sign * (a.conj() * value).re;
            }
            sums
        };
        let sums: Vec<[f32; RINGS]> =
            coefficients.iter().zip(signs).map(|(c, sign)| rings(c, *sign)).collect();
        let mut dimensions = [0.0f32; RINGS];
        carriers.pilot.iter().for_each(|frequency| dimensions[frequency.ring] += 2.0);
        let n = coefficients.len().max(1) as f32;

        let total: [f32; RINGS] = std::array::from_fn(|r| sums.iter().map(|sums| sums[r]).sum());
        let mean = total.iter().sum::<f32>() / (n * dimensions.iter().sum::<f32>());
        let ring: [f32; RINGS] = std::array::from_fn(|r| {
            let drawn = (total[r] + mean * Self::RING_PRIOR) / (n * dimensions[r] + Self::RING_PRIOR);
            drawn.max(Self::LEAST * mean.abs()).max(1e-6)
        });

        // Amplitude of each segment relative to what the rings and its frames lead to expect.
        let energy: f32 = ring.iter().zip(&dimensions).map(|(gain, n)| gain * gain * n).sum();
        let mean_frames = frames.iter().sum::<f32>() / n;
        let expected: Vec<f32> = frames.iter().map(|frames| (frames / mean_frames).sqrt().max(0.2)).collect();
        let found = sums.iter().zip(&expected).map(|(sums, expected)| {
            ring.iter().zip(sums).map(|(gain, sum)| gain * sum).sum::<f32>() / (energy * expected)
        });
        let found: Vec<f32> = found.collect();
        // A whitened dimension has a variance of one half.
        let noise = 0.5 / energy;
        let spread = found.iter().map(|found| (found - 1.0).powi(2)).sum::<f32>() / n;
        let trust = ((spread - noise) / spread.max(1e-9)).clamp(0.0, 1.0);
        let weight = |(found, expected): (&f32, &f32)| {
            expected * (1.0 + trust * (found - 1.0)).clamp(Self::LEAST, 3.0)
        };
        Self { ring, segment: found.iter().zip(&expected).map(weight).collect() }
    }
}

/// Evidence of segments with the same pattern, added: the only thing that is decoded.
#[derive(Clone, Default)]
pub(crate) struct Sums {
    groups: Vec<(usize, Vec<f32>)>,
}

impl Sums {
    pub(crate) fn add(&mut self, evidence: &Evidence) {
        for segment in &evidence.segments {
            let group = segment.number.rem_euclid(PATTERNS as i64) as usize;
            match self.groups.iter_mut().find(|(number, _)| *number == group) {
                Some((_, sum)) => sum.iter_mut().zip(&segment.y).for_each(|(sum, y)| *sum += y),
                None => self.groups.push((group, segment.y.clone())),
            }
        }
    }

    #[cfg(feature = "attacks")]
    pub(crate) fn into_groups(self) -> Vec<(usize, Vec<f32>)> {
        self.groups
    }

    pub(crate) fn norm(&self) -> f64 {
        let squares = self.groups.iter().map(|(_, y)| y.iter().map(|y| f64::from(y * y)).sum::<f64>());
        squares.sum::<f64>().sqrt()
    }

    /// The statistic of a code word, when group 0 shows pattern `first`.
    pub(crate) fn z(&self, carriers: &Carriers, first: usize, code: &[f32]) -> f64 {
        let norm = self.norm();
        if norm <= 1e-12 || !norm.is_finite() {
            return 0.0;
        }
        let sum =
            self.groups.iter().map(|(group, y)| correlate(carriers, (group + first) % PATTERNS, y, code));
        sum.sum::<f64>() / norm
    }

    /// The log-likelihood ratios of the coded bits, up to a factor.
    pub(crate) fn ratios(&self, carriers: &Carriers, first: usize) -> Vec<f32> {
        let mut ratios = vec![0.0; polar::LENGTH];
        for (group, y) in &self.groups {
            let pattern = &carriers.patterns[(group + first) % PATTERNS];
            for ((y, sign), bit) in y.iter().zip(&pattern.signs).zip(&pattern.bits) {
                ratios[usize::from(*bit)] += y * sign;
            }
        }
        ratios
    }

    /// The payload that fits best when group 0 shows pattern `first`, with its statistic.
    pub(crate) fn decode(&self, carriers: &Carriers, first: usize) -> Option<(Payload, f64)> {
        let payload = polar::decode(&self.ratios(carriers, first))?;
        Some((payload, self.z(carriers, first, &polar::encode(&payload.protected_bits()))))
    }

    /// The evidence less what a payload explains, ring by ring and group by group: to look for a second one.
    pub(crate) fn without(&self, carriers: &Carriers, first: usize, code: &[f32]) -> Self {
        let half = carriers.payload.len();
        let ring = |d: usize| carriers.payload[d % half].ring;
        let groups = self.groups.iter().map(|(group, y)| {
            let pattern = &carriers.patterns[(group + first) % PATTERNS];
            let sign = |d: usize| pattern.signs[d] * code[usize::from(pattern.bits[d])];
            let (mut sums, mut counts) = ([0.0f32; RINGS], [0.0f32; RINGS]);
            for (d, y) in y.iter().enumerate() {
                sums[ring(d)] += y * sign(d);
                counts[ring(d)] += 1.0;
            }
            let rest = |(d, y): (usize, &f32)| y - sums[ring(d)] / counts[ring(d)] * sign(d);
            (*group, y.iter().enumerate().map(rest).collect())
        });
        Self { groups: groups.collect() }
    }
}

/// The correlation of one pattern's coefficients with a code word.
fn correlate(carriers: &Carriers, pattern: usize, y: &[f32], code: &[f32]) -> f64 {
    let pattern = &carriers.patterns[pattern];
    let terms = y.iter().zip(&pattern.signs).zip(&pattern.bits);
    terms.map(|((y, sign), bit)| f64::from(y * sign * code[usize::from(*bit)])).sum()
}

impl SegmentEvidence {
    /// Correlation with a code word, and energy: `z` of a set of segments is the sum of the first over the root of
    /// the sum of the second.
    pub(crate) fn score(&self, carriers: &Carriers, first: usize, code: &[f32]) -> (f64, f64) {
        let pattern = (self.number + first as i64).rem_euclid(PATTERNS as i64) as usize;
        let energy = self.y.iter().map(|y| f64::from(y * y)).sum();
        (correlate(carriers, pattern, &self.y, code), energy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    #[test]
    fn the_bound_has_the_designs_figures() {
        // Design, section 3: with 60 hypotheses, 1e-6 at 13.0, 1e-9 at 13.5, 1e-12 at 14.0; known id 7.0 for 1e-9.
        assert!((log10_p(13.0, 60, true) + 6.0).abs() < 0.2);
        assert!((log10_p(14.0, 60, true) + 12.0).abs() < 0.3);
        assert!((log10_p(7.0, 60, false) + 9.0).abs() < 0.2);
        assert_eq!(log10_p(3.0, 1, true), 0.0);
        assert_eq!(log10_p(-50.0, 1, false), 0.0);
    }

    fn random_evidence(label: &str) -> Evidence {
        let mut stream = Key::public().stream(label);
        let mut y = || (0..1904).map(|_| stream.below(2001) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
        let segment = |number| SegmentEvidence { number, start: 0.0, end: 0.0, y: y() };
        Evidence { segments: (0..15).map(segment).collect() }
    }

    #[test]
    fn random_keys_keep_below_the_bound_on_a_fixed_video() {
        let mut sums = Sums::default();
        sums.add(&random_evidence("fixed video"));
        let code = polar::encode(&Payload::from_id([9; 11]).protected_bits());
        let keys = 300;
        let values: Vec<f64> = (0..keys)
            .map(|i| {
                sums.z(
                    &Carriers::new(&Key::from_bytes(
                        [i as u8, (i >> 8) as u8].repeat(16).try_into().expect("32"),
                    )),
                    0,
                    &code,
                )
            })
            .collect();
        let variance = values.iter().map(|z| z * z).sum::<f64>() / f64::from(keys);
        // A unit variance within four deviations, and tails under the bound.
        assert!((0.65..1.35).contains(&variance), "{variance}");
        for t in [2.0, 2.5, 3.0] {
            let share = values.iter().filter(|z| **z >= t).count() as f64 / f64::from(keys);
            assert!(share <= (-t * t / 2.0f64).exp(), "{t} {share}");
        }
    }

    #[test]
    fn repeated_patterns_are_added_before_they_are_squared() {
        // Twelve segments and the same twelve again: the same evidence, not twice as much.
        let code = polar::encode(&Payload::from_id([9; 11]).protected_bits());
        let carriers = Carriers::new(&Key::public());
        let mut evidence = random_evidence("twelve");
        evidence.segments.truncate(12);
        let mut sums = Sums::default();
        sums.add(&evidence);
        let once = sums.z(&carriers, 3, &code);
        sums.add(&evidence);
        assert!((sums.z(&carriers, 3, &code) - once).abs() < 1e-4);
        assert_eq!(sums.groups.len(), 12);
    }

    #[test]
    fn silence_has_no_statistic() {
        let carriers = Carriers::new(&Key::public());
        let code = polar::encode(&Payload::from_id([9; 11]).protected_bits());
        let segment = SegmentEvidence { number: 0, start: 0.0, end: 0.0, y: vec![0.0; 1904] };
        let mut sums = Sums::default();
        assert_eq!(sums.z(&carriers, 0, &code), 0.0);
        sums.add(&Evidence { segments: vec![segment] });
        assert_eq!(sums.z(&carriers, 0, &code), 0.0);
    }
}
