//! The two-dimensional Fourier transform of a 128 x 128 tile.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::carrier::TILE;

/// Plans and scratch of forward and inverse transforms of one tile; not normalised either way.
pub(crate) struct TileFft {
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    scratch: Vec<Complex32>,
    columns: Vec<Complex32>,
}

impl TileFft {
    pub(crate) fn new() -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(TILE), planner.plan_fft_inverse(TILE));
        let length = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        let zero = Complex32::default();
        Self { forward, inverse, scratch: vec![zero; length], columns: vec![zero; TILE * TILE] }
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

    fn run(&mut self, fft: &dyn Fft<f32>, data: &mut [Complex32]) {
        assert_eq!(data.len(), TILE * TILE, "a tile is 128 x 128");
        fft.process_with_scratch(data, &mut self.scratch);
        transpose(data, &mut self.columns);
        fft.process_with_scratch(&mut self.columns, &mut self.scratch);
        transpose(&self.columns, data);
    }
}

fn transpose(from: &[Complex32], to: &mut [Complex32]) {
    const BLOCK: usize = 16;
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
