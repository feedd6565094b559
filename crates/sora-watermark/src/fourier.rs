//! The two-dimensional Fourier transform of a 128 x 128 tile, and the same of the mark's band alone.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::carrier::TILE;

/// No frequency of the mark has more cycles per tile than this, across or down.
pub(crate) const REACH: usize = 27;
/// Frequencies of the band across: from -REACH to REACH.
pub(crate) const ACROSS: usize = 2 * REACH + 1;

/// Rows of the band are those before the first of these, and from the second on.
const ABOVE: usize = REACH + 1;
const BELOW: usize = TILE - REACH;

/// Rows or columns that are transposed together: all of a tile's would be in each other's way in a cache.
const BLOCK: usize = 16;

/// Plans and scratch of forward and inverse transforms of one tile; not normalised either way.
pub(crate) struct TileFft {
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    scratch: Vec<Complex32>,
    columns: Vec<Complex32>,
    /// The rows of a band after their transform, in the order of a spectrum.
    rows: Vec<Complex32>,
}

impl TileFft {
    pub(crate) fn new() -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(TILE), planner.plan_fft_inverse(TILE));
        let inplace = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        let length = inplace.max(inverse.get_immutable_scratch_len());
        let zeros = |length| vec![Complex32::default(); length];
        let (scratch, columns, rows) = (zeros(length), zeros(TILE * TILE), zeros(TILE * TILE));
        Self { forward, inverse, scratch, columns, rows }
    }

    /// `tile` becomes its spectrum: row l, column k, both modulo 128.
    pub(crate) fn forward(&mut self, tile: &mut [Complex32]) {
        let fft = Arc::clone(&self.forward);
        self.run(&*fft, tile);
    }

    /// The inverse, 128^2 times too large.
    pub(crate) fn inverse(&mut self, spectrum: &mut [Complex32]) {
        let fft = Arc::clone(&self.inverse);
        self.run(&*fft, spectrum);
    }

    /// The spectrum of a tile, which is used up, within the band: column by column from -REACH on, rows modulo 128.
    pub(crate) fn forward_band(&mut self, tile: &mut [Complex32]) -> &[Complex32] {
        assert_eq!(tile.len(), TILE * TILE, "a tile is 128 x 128");
        self.forward.process_with_scratch(tile, &mut self.scratch);
        let columns = &mut self.columns[..ACROSS * TILE];
        for first in (0..TILE).step_by(BLOCK) {
            for (column, values) in columns.chunks_exact_mut(TILE).enumerate() {
                // Negative columns lie at the end.
                let from = (column + TILE - REACH) % TILE;
                for row in first..first + BLOCK {
                    values[row] = tile[row * TILE + from];
                }
            }
        }
        self.forward.process_with_scratch(columns, &mut self.scratch);
        columns
    }

    /// The inverse, 128^2 times too large, of a spectrum that is zero outside the band: column by column.
    pub(crate) fn inverse_band(&mut self, spectrum: &[Complex32]) -> &[Complex32] {
        self.inverse_rows(spectrum);
        for (block, columns) in self.columns.chunks_exact_mut(BLOCK * TILE).enumerate() {
            for row in (0..ABOVE).chain(BELOW..TILE) {
                let values = &self.rows[row * TILE + block * BLOCK..][..BLOCK];
                values.iter().enumerate().for_each(|(x, value)| columns[x * TILE + row] = *value);
            }
            columns.chunks_exact_mut(TILE).for_each(|column| column[ABOVE..BELOW].fill(Complex32::default()));
        }
        self.inverse.process_with_scratch(&mut self.columns, &mut self.scratch);
        &self.columns
    }

    /// The first half of [`Self::inverse_band`]: rows of the band, in the order of the spectrum; the others are zero.
    pub(crate) fn inverse_rows(&mut self, spectrum: &[Complex32]) -> &[Complex32] {
        assert_eq!(spectrum.len(), TILE * TILE, "a tile is 128 x 128");
        for part in [0..ABOVE * TILE, BELOW * TILE..TILE * TILE] {
            let (from, to) = (&spectrum[part.clone()], &mut self.rows[part]);
            self.inverse.process_immutable_with_scratch(from, to, &mut self.scratch);
        }
        &self.rows
    }

    /// The second half, after [`Self::inverse_rows`], of these columns alone: one after the other.
    pub(crate) fn inverse_columns(&mut self, numbers: &[usize]) -> &[Complex32] {
        let columns = &mut self.columns[..numbers.len() * TILE];
        for (column, number) in columns.chunks_exact_mut(TILE).zip(numbers) {
            column
                .iter_mut()
                .zip(self.rows[*number..].iter().step_by(TILE))
                .for_each(|(to, from)| *to = *from);
        }
        self.inverse.process_with_scratch(columns, &mut self.scratch);
        columns
    }

    fn run(&mut self, fft: &dyn Fft<f32>, data: &mut [Complex32]) {
        assert_eq!(data.len(), TILE * TILE, "a tile is 128 x 128");
        fft.process_with_scratch(data, &mut self.scratch);
        transpose(data, &mut self.columns);
        fft.process_with_scratch(&mut self.columns, &mut self.scratch);
        transpose(&self.columns, data);
    }
}

fn transpose(from: &[Complex32], to: &mut [Complex32]) {
    for y0 in (0..TILE).step_by(BLOCK) {
        for x0 in (0..TILE).step_by(BLOCK) {
            for y in y0..y0 + BLOCK {
                for x in x0..x0 + BLOCK {
                    to[x * TILE + y] = from[y * TILE + x];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.5
    }

    #[test]
    fn the_band_is_what_the_whole_transform_has_there() {
        let mut fft = TileFft::new();
        let tile: Vec<_> = (0..TILE * TILE).map(|i| Complex32::new(noise(i), noise(3 * i + 1))).collect();
        let (mut whole, mut used_up) = (tile.clone(), tile);
        fft.forward(&mut whole);
        let band = fft.forward_band(&mut used_up);
        for column in 0..ACROSS {
            for row in 0..TILE {
                let across = (column + TILE - REACH) % TILE;
                assert_eq!(band[column * TILE + row], whole[row * TILE + across]);
            }
        }
    }

    #[test]
    fn the_inverse_of_a_band_is_that_of_the_whole_spectrum() {
        let mut fft = TileFft::new();
        let inside = |at: usize| at <= REACH || at >= TILE - REACH;
        let value = |i: usize| {
            let value = Complex32::new(noise(i), noise(5 * i + 2));
            if inside(i % TILE) && inside(i / TILE) { value } else { Complex32::default() }
        };
        let spectrum: Vec<_> = (0..TILE * TILE).map(value).collect();
        let mut whole = spectrum.clone();
        fft.inverse(&mut whole);
        // What the transform before left must not show.
        fft.inverse_band(&vec![Complex32::new(1.0, 2.0); TILE * TILE]);
        let columns = fft.inverse_band(&spectrum);
        assert!((0..TILE * TILE).all(|i| columns[i % TILE * TILE + i / TILE] == whole[i]));
        // Nor what another one left, where some columns are asked for.
        fft.inverse_rows(&spectrum);
        let some = [127, 0, 64];
        for (column, number) in fft.inverse_columns(&some).chunks_exact(TILE).zip(some) {
            assert!((0..TILE).all(|row| column[row] == whole[row * TILE + number]));
        }
    }
}
