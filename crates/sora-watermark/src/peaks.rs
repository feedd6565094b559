//! The largest of all correlations of a pilot, and where it is.
//!
//! Correlations are complex, one of the pilot's two quadratures in either part; a phase of the pilot is a pair of factors
//! that these are weighed by.

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use crate::carrier::TILE;
use crate::fourier::REACH;

/// Temporal phases tried in half a cycle.
pub(crate) const PHASES: usize = 4;

/// By phase what real and imaginary parts are weighed by.
pub(crate) type Factors = [(f32, f32); PHASES];

/// As cache lines lie.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned<T>([T; TILE]);

/// The largest magnitude of the first factor times the real and the second times the imaginary part, among all phases,
/// with the number of the phase, and its place. Of equals the first phase, and of its places the first. Values are whole
/// columns of a tile.
#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
pub(crate) fn peak(values: &[Complex32], factors: &Factors) -> (f32, usize, usize) {
    // Of numbers that are not negative, the largest has the largest bits, and whole numbers are compared in any order.
    let bits = |(a, b): (f32, f32), re: f32, im: f32| (a * re + b * im).abs().to_bits();
    // The largest of every row, by phase.
    let mut rows = [Aligned([0u32; TILE]); PHASES];
    let (mut real, mut imaginary) = (Aligned([0.0f32; TILE]), Aligned([0.0f32; TILE]));
    for values in values.chunks_exact(TILE) {
        for ((real, imaginary), value) in real.0.iter_mut().zip(&mut imaginary.0).zip(values) {
            (*real, *imaginary) = (value.re, value.im);
        }
        for i in 0..TILE {
            for (row, factors) in rows.iter_mut().zip(factors) {
                row.0[i] = row.0[i].max(bits(*factors, real.0[i], imaginary.0[i]));
            }
        }
    }
    let most = rows.map(|rows| rows.0.into_iter().fold(0, u32::max));
    let best = most.into_iter().fold(0, u32::max);
    let step = most.iter().position(|most| *most == best).unwrap_or(0);
    let is_best = |place: &usize| bits(factors[step], values[*place].re, values[*place].im) == best;
    let places = (0..TILE).filter(|row| rows[step].0[*row] == best);
    let place = places.filter_map(|row| (row..values.len()).step_by(TILE).find(is_best)).min();
    (f32::from_bits(best), step, place.unwrap_or(0))
}

/// What no correlation of a column can exceed, at any phase, from rows that are transformed while columns are not: the sum of
/// the magnitudes of what a phase has of each frequency. By column.
#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
pub(crate) fn bounds(rows: &[Complex32], factors: &Factors) -> [f32; TILE] {
    let mut sums = [Aligned([0.0f32; TILE]); PHASES];
    let row = |number: usize| &rows[number * TILE..][..TILE];
    for (sums, (a, b)) in sums.iter_mut().zip(factors) {
        for (sum, value) in sums.0.iter_mut().zip(row(0)) {
            *sum = (a * value.re + b * value.im).abs();
        }
    }
    let [mut real_sum, mut real_rest, mut imaginary_sum, mut imaginary_rest] = [Aligned([0.0f32; TILE]); 4];
    for number in 1..=REACH {
        // Of a real signal the coefficients of a frequency and of its negative are conjugates: what a phase has of both.
        for (i, (above, below)) in row(number).iter().zip(row(TILE - number)).enumerate() {
            (real_sum.0[i], real_rest.0[i]) = (above.re + below.re, above.re - below.re);
            (imaginary_sum.0[i], imaginary_rest.0[i]) = (above.im + below.im, above.im - below.im);
        }
        for (sums, (a, b)) in sums.iter_mut().zip(factors) {
            for i in 0..TILE {
                let re = a * real_sum.0[i] + b * imaginary_sum.0[i];
                let im = a * imaginary_rest.0[i] - b * real_rest.0[i];
                sums.0[i] += (re * re + im * im).sqrt();
            }
        }
    }
    std::array::from_fn(|i| sums.iter().map(|sums| sums.0[i]).fold(0.0, f32::max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fourier::TileFft;

    const FACTORS: Factors = [(1.1, 0.0), (0.6, 0.8), (0.0, 0.9), (-0.7, 0.7)];

    fn noise(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1013) as f32 / 1013.0 - 0.5
    }

    #[test]
    fn a_peak_is_the_first_of_the_largest() {
        let mut values: Vec<_> = (0..3 * TILE).map(|i| Complex32::new(noise(i), noise(7 * i + 1))).collect();
        for place in [2 * TILE + 5, TILE + 90, TILE + 91] {
            values[place] = Complex32::new(-0.6, -0.8) * 3.0;
        }
        assert_eq!(peak(&values, &FACTORS), (3.0, 1, TILE + 90));
        assert_eq!(peak(&[Complex32::default(); TILE], &FACTORS), (0.0, 0, 0));
    }

    #[test]
    fn no_correlation_exceeds_its_bound_and_a_column_of_one_frequency_reaches_it() {
        let mut fft = TileFft::new();
        let inside = |at: usize| at <= REACH || at >= TILE - REACH;
        let spectrum = |value: &dyn Fn(usize) -> Complex32| -> Vec<Complex32> {
            let at = |i| if inside(i % TILE) && inside(i / TILE) { value(i) } else { Complex32::default() };
            (0..TILE * TILE).map(at).collect()
        };
        let noisy = spectrum(&|i| Complex32::new(noise(i), noise(5 * i + 2)));
        let one =
            spectrum(&|i| if i / TILE == 9 { Complex32::new(noise(i), 0.3) } else { Complex32::default() });
        for (spectrum, reached) in [(noisy, 0.0), (one, 0.97)] {
            let bounds = bounds(fft.inverse_rows(&spectrum), &FACTORS);
            for (column, bound) in fft.inverse_band(&spectrum).chunks_exact(TILE).zip(bounds) {
                let (most, _, _) = peak(column, &FACTORS);
                assert!(most <= bound * 1.0001 && most >= bound * reached, "{most} {bound}");
            }
        }
    }
}
