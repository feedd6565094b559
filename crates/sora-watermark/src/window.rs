//! Four seconds of frames, binned in time and whitened: all that the detector remembers of pictures.
//!
//! Frames are averaged in bins of 1/24 s, so that the memory of a window depends neither on the frame rate
//! nor on the clip's length. A whole pattern is eight bins. A window can be seen in two ways: as it is, and without what
//! moved in it, which costs more to make and shows a mark under moving pictures two to five times as clearly.

use std::time::Duration;

use rayon::prelude::*;
use rustfft::num_complex::Complex32;

use crate::blur::{Plane, gaussian};
use crate::carrier::PATTERNS_PER_SECOND;
use crate::front_end::whitened;
use crate::motion::{Scales, predicted, unexplained};

/// Bins per second.
const BINS_PER_SECOND: u128 = 24;
/// Length of a window: one cycle of the patterns.
pub(crate) const WINDOW: Duration = Duration::from_secs(4);
/// Fixed-point unit of stored means, and of stored rasters.
const UNIT: f32 = 512.0;
const RASTER_UNIT: f32 = 256.0;
/// Bins that are whitened together.
const BATCH: usize = 8;
/// Patterns to the frames that predict a frame, each the nearest of its range before and after: one at least, so that
/// they show another pattern, and not many, so that the picture has not changed too much. The farther ones help where
/// the nearer show what was hidden, and average out noise: 5 to 8 % more of the statistic.
const REFERENCES: [std::ops::Range<f64>; 2] = [0.9..1.9, 1.9..3.0];

/// A mean of frames.
struct Bin {
    /// Mean presentation time in seconds since the clip's first frame.
    time: f64,
    frames: u32,
    /// The mean raster.
    raster: Vec<u16>,
    /// The same whitened; empty until it is.
    data: Vec<i16>,
}

impl Bin {
    fn plane(&self, width: usize, height: usize) -> Plane {
        let data = self.raster.iter().map(|value| f32::from(*value) / RASTER_UNIT).collect();
        Plane { width, height, data }
    }
}

/// A whitened raster as it is stored.
fn stored(raster: &Plane) -> Vec<i16> {
    whitened(raster).data.iter().map(|value| (value * UNIT).round() as i16).collect()
}

/// Frames of one size within at most [`WINDOW`].
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) width: usize,
    pub(crate) height: usize,
    bins: Vec<Bin>,
    open: Option<Open>,
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

struct Open {
    number: u128,
    frames: u32,
    time: f64,
    sum: Plane,
}

impl Window {
    pub(crate) fn new(width: usize, height: usize, start: Duration) -> Self {
        Self { width, height, start, end: start, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bins.is_empty() && self.open.is_none()
    }

    /// Adds the raster of a frame at its time since the clip's first frame.
    pub(crate) fn add(&mut self, frame: Plane, time: Duration) {
        self.end = time;
        let number = (time.as_nanos() + 1_000) * BINS_PER_SECOND / 1_000_000_000;
        if self.open.as_ref().is_some_and(|open| open.number != number) {
            self.close_bin();
            if self.bins.iter().rev().take_while(|bin| bin.data.is_empty()).count() >= BATCH {
                self.whiten();
            }
        }
        match &mut self.open {
            Some(open) => {
                open.frames += 1;
                open.time += time.as_secs_f64();
                open.sum.data.iter_mut().zip(&frame.data).for_each(|(sum, value)| *sum += value);
            }
            None => self.open = Some(Open { number, frames: 1, time: time.as_secs_f64(), sum: frame }),
        }
    }

    /// Makes the window ready to be looked at. Frames may be added afterwards.
    pub(crate) fn close(&mut self) {
        self.close_bin();
        self.whiten();
    }

    fn close_bin(&mut self) {
        let Some(Open { frames, time, sum, .. }) = self.open.take() else { return };
        let scale = RASTER_UNIT / frames as f32;
        let raster = sum.data.iter().map(|value| (value * scale).round() as u16).collect();
        self.bins.push(Bin { time: time / f64::from(frames), frames, raster, data: Vec::new() });
    }

    fn whiten(&mut self) {
        let (width, height) = (self.width, self.height);
        let waiting = self.bins.par_iter_mut().filter(|bin| bin.data.is_empty());
        waiting.for_each(|bin| bin.data = stored(&bin.plane(width, height)));
    }

    /// The same frames without what others at least a pattern away explain by motion; `None` when no frame has another
    /// that far away. Only to be looked at: it takes no frames.
    pub(crate) fn without_motion(&self) -> Option<Self> {
        let references: Vec<Vec<usize>> = self.bins.iter().map(|bin| self.references(bin)).collect();
        if references.iter().all(Vec::is_empty) {
            return None;
        }
        let scales: Vec<Scales> =
            self.bins.par_iter().map(|bin| Scales::new(bin.plane(self.width, self.height))).collect();
        let rest = |n: usize| {
            let bin = &self.bins[n];
            let data = if references[n].is_empty() {
                bin.data.clone()
            } else {
                let predictions: Vec<Plane> =
                    references[n].iter().map(|other| predicted(&scales[n], &scales[*other])).collect();
                stored(&unexplained(&scales[n].raster, &predictions))
            };
            Bin { time: bin.time, frames: bin.frames, raster: Vec::new(), data }
        };
        let bins = (0..self.bins.len()).into_par_iter().map(rest).collect();
        Some(Self {
            width: self.width,
            height: self.height,
            bins,
            open: None,
            start: self.start,
            end: self.end,
        })
    }

    /// The bins that predict a bin.
    fn references(&self, bin: &Bin) -> Vec<usize> {
        let nearest = |(range, way): (&std::ops::Range<f64>, f64)| {
            let distance = |other: &usize| (self.bins[*other].time - bin.time) * way * PATTERNS_PER_SECOND;
            let inside = (0..self.bins.len()).filter(|other| range.contains(&distance(other)));
            inside.min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        REFERENCES.iter().flat_map(|range| [(range, -1.0), (range, 1.0)]).filter_map(nearest).collect()
    }

    /// Seconds from the first bin to the last.
    pub(crate) fn span(&self) -> f64 {
        match (self.bins.first(), self.bins.last()) {
            (Some(first), Some(last)) => last.time - first.time,
            _ => 0.0,
        }
    }

    /// Weights of a least-squares fit of each pixel's series to a constant and the pilot's fundamental, a cosine
    /// and a sine of 1.5 Hz: per bin, the weights of the cosine and of the sine.
    ///
    /// The constant takes away all that stands still. A window too short to tell it from the sines is
    /// correlated as it is.
    pub(crate) fn lock_in_weights(&self, speed: f64) -> Vec<(f32, f32)> {
        let phase = |bin: &Bin| std::f64::consts::PI * PATTERNS_PER_SECOND * bin.time * speed;
        let total: f64 = self.bins.iter().map(|bin| f64::from(bin.frames)).sum();
        let rows: Vec<[f64; 3]> =
            self.bins.iter().map(|bin| [1.0, phase(bin).cos(), phase(bin).sin()]).collect();
        let inverse = if self.span() * speed > 0.4 {
            let mut gram = [[0.0; 3]; 3];
            for (row, bin) in rows.iter().zip(&self.bins) {
                for (i, gram) in gram.iter_mut().enumerate() {
                    for (j, gram) in gram.iter_mut().enumerate() {
                        *gram += row[i] * row[j] * f64::from(bin.frames);
                    }
                }
            }
            (0..3).for_each(|i| gram[i][i] += 1e-2 * total);
            inverse(gram)
        } else {
            [[1.0 / total, 0.0, 0.0], [0.0, 1.0 / total, 0.0], [0.0, 0.0, 1.0 / total]]
        };
        let weight = |i: usize, row: &[f64; 3]| (0..3).map(|j| inverse[i][j] * row[j]).sum::<f64>();
        let both = rows.iter().zip(&self.bins).map(|(row, bin)| {
            let frames = f64::from(bin.frames);
            ((weight(1, row) * frames) as f32, (weight(2, row) * frames) as f32)
        });
        both.collect()
    }

    /// The fit's images: cosine in the real part, sine in the imaginary part.
    pub(crate) fn lock_in(&self, speed: f64) -> Vec<Complex32> {
        let mut out = vec![Complex32::default(); self.width * self.height];
        for (bin, (cosine, sine)) in self.bins.iter().zip(self.lock_in_weights(speed)) {
            let (cosine, sine) = (cosine / UNIT, sine / UNIT);
            for (out, value) in out.iter_mut().zip(&bin.data) {
                let value = f32::from(*value);
                out.re += cosine * value;
                out.im += sine * value;
            }
        }
        out
    }

    /// The mean of all frames, as a real image: for windows shorter than a pattern.
    pub(crate) fn mean(&self) -> Vec<Complex32> {
        let total: f32 = self.bins.iter().map(|bin| bin.frames as f32).sum();
        let mut out = vec![Complex32::default(); self.width * self.height];
        for bin in &self.bins {
            let scale = bin.frames as f32 / (total * UNIT);
            out.iter_mut().zip(&bin.data).for_each(|(out, value)| out.re += scale * f32::from(*value));
        }
        out
    }

    /// Images of each bin by themselves, for the search over speeds.
    pub(crate) fn bins(&self) -> impl Iterator<Item = Vec<Complex32>> {
        let image =
            |bin: &Bin| bin.data.iter().map(|value| Complex32::new(f32::from(*value) / UNIT, 0.0)).collect();
        self.bins.iter().map(image)
    }

    /// Means over each pattern's time, for patterns that change at `offset` seconds modulo 1/3 at this speed, with
    /// what stands still taken away.
    pub(crate) fn segments(&self, offset: f64, speed: f64) -> Segments {
        let number = |bin: &Bin| ((bin.time * speed - offset) * PATTERNS_PER_SECOND + 1e-5).floor() as i64;
        let mut segments: Vec<Segment> = Vec::new();
        for bin in &self.bins {
            let number = number(bin);
            if segments.last().is_none_or(|last| last.number != number) {
                let image = Plane::new(self.width, self.height);
                segments.push(Segment { number, frames: 0, start: bin.time, end: bin.time, image });
            }
            let Some(segment) = segments.last_mut() else { continue };
            segment.frames += bin.frames;
            segment.end = bin.time;
            let scale = bin.frames as f32 / UNIT;
            segment
                .image
                .data
                .iter_mut()
                .zip(&bin.data)
                .for_each(|(sum, value)| *sum += scale * f32::from(*value));
        }
        for segment in &mut segments {
            let scale = 1.0 / segment.frames as f32;
            segment.image.data.iter_mut().for_each(|value| *value *= scale);
        }
        remove_static(&mut segments);
        Segments { all: segments }
    }
}

/// The mean picture of one pattern's time.
pub(crate) struct Segment {
    /// Patterns since time zero; the pattern shown is this plus an unknown even number, modulo twelve.
    pub(crate) number: i64,
    pub(crate) frames: u32,
    /// Times of the first and the last bin, in seconds.
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) image: Plane,
}

/// All segments of a window.
pub(crate) struct Segments {
    pub(crate) all: Vec<Segment>,
}

/// Takes the host's static part away: each segment less a share of the others' mean, where the covariance over
/// segments says that they have something in common; then the rest is brought to local unit variance.
fn remove_static(segments: &mut [Segment]) {
    const SIGMA: f32 = 4.0;
    let n = segments.len() as f32;
    let Some(first) = segments.first() else { return };
    if segments.len() < 2 {
        return;
    }
    let (width, height) = (first.image.width, first.image.height);
    let (mut total, mut squares) = (Plane::new(width, height), Plane::new(width, height));
    for segment in segments.iter() {
        let sums = total.data.iter_mut().zip(&mut squares.data);
        for ((total, squares), value) in sums.zip(&segment.image.data) {
            *total += value;
            *squares += value * value;
        }
    }
    let mut covariance = total.clone();
    for (covariance, squares) in covariance.data.iter_mut().zip(&squares.data) {
        *covariance = (*covariance * *covariance - squares) / (n * (n - 1.0));
    }
    let covariance = gaussian(&covariance, SIGMA);
    let variance = gaussian(&squares.map(|value| value / n), SIGMA);
    let mut share = covariance;
    for (share, variance) in share.data.iter_mut().zip(&variance.data) {
        let variance = variance + 1e-9;
        let host = share.max(0.0);
        let rest = (variance - host).max(0.02 * variance);
        *share = host / (host + rest / (n - 1.0));
    }
    let mut power = Plane::new(width, height);
    for segment in segments.iter_mut() {
        let rest = segment.image.data.iter_mut().zip(&mut power.data);
        for (((value, power), total), share) in rest.zip(&total.data).zip(&share.data) {
            *value -= share * (total - *value) / (n - 1.0);
            *power += *value * *value / n;
        }
    }
    let scale = gaussian(&power, SIGMA).map(|power| 1.0 / (power.max(0.0).sqrt() + 0.15));
    for segment in segments.iter_mut() {
        segment.image.data.iter_mut().zip(&scale.data).for_each(|(value, scale)| *value *= scale);
    }
}

/// The inverse of a symmetric positive definite matrix, by cofactors.
fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * cofactor(0, j)).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| cofactor(j, i) / determinant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(fps: f64, seconds: f64, value: impl Fn(f64) -> f32) -> Window {
        let mut window = Window::new(64, 64, Duration::ZERO);
        for i in 0..(fps * seconds) as usize {
            let time = i as f64 / fps;
            window.add(Plane::new(64, 64).map(|_| 100.0), Duration::from_secs_f64(time));
        }
        window.close();
        // Whitening leaves nothing of flat frames: the values are put in after it.
        for bin in &mut window.bins {
            bin.data.fill((value(bin.time) * UNIT).round() as i16);
        }
        window
    }

    #[test]
    fn memory_does_not_depend_on_the_frame_rate() {
        assert!(window(240.0, 3.9, |_| 0.0).bins.len() <= 96);
        assert_eq!(window(8.0, 4.0, |_| 0.0).bins.len(), 32);
    }

    #[test]
    fn the_lock_in_finds_the_fundamental_and_no_constant() {
        let omega = std::f64::consts::PI * PATTERNS_PER_SECOND;
        let window = window(24.0, 4.0, |time| {
            3.0 + 0.5 * (omega * time).cos() as f32 - 0.25 * (omega * time).sin() as f32
        });
        let fit = window.lock_in(1.0)[100];
        assert!((fit.re - 0.5).abs() < 0.02 && (fit.im + 0.25).abs() < 0.02, "{fit}");
    }

    #[test]
    fn the_matrix_inverse_inverts() {
        let m = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]];
        let inverse = inverse(m);
        for (i, row) in m.iter().enumerate() {
            for j in 0..3 {
                let product: f64 = row.iter().zip(&inverse).map(|(m, column)| m * column[j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_window_of_twelve_patterns_has_twelve_segments() {
        let segments = window(24.0, 4.0, |time| (time * 7.0).sin() as f32).segments(0.0, 1.0);
        let numbers: Vec<i64> = segments.all.iter().map(|segment| segment.number).collect();
        assert_eq!(numbers, (0..12).collect::<Vec<_>>());
        assert!(segments.all.iter().all(|segment| segment.frames == 8));
    }
}
