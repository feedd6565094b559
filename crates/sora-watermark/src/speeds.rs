//! Playback speeds: when frames of the same picture are shown sooner or later, the pilot changes its sign faster or slower.

use std::sync::OnceLock;

use rayon::prelude::*;
use rustfft::num_complex::Complex32;

use crate::band::Band;
use crate::carrier::TILE;
use crate::chips::{Orientation, Pose, Pyramid};
use crate::search::{Candidate, Scratch, Search};
use crate::window::Window;

/// The bins of one window, each folded once: folding is linear, so the lock-in of every speed works on tiles.
pub(crate) struct Speeds {
    tiles: Vec<Vec<Complex32>>,
    /// Of every speed that all keys try.
    bands: OnceLock<Vec<(Band, f64)>>,
}

impl Speeds {
    /// Of a window that is otherwise seen in this pose.
    pub(crate) fn new(window: &Window, pose: Pose) -> Self {
        let tile = |bin| {
            let mut tile = vec![Complex32::default(); TILE * TILE];
            Pyramid::for_pose(bin, window.width, window.height, pose).fold(pose, &mut tile);
            tile
        };
        Self { tiles: window.bins().map(tile).collect(), bands: OnceLock::new() }
    }

    /// The speed at which a pilot fits best, and how it lies then.
    pub(crate) fn best(&self, window: &Window, search: &Search<'_>, pose: Pose) -> Option<(Candidate, f64)> {
        let bands = self.bands.get_or_init(|| self.bands(window, &speeds()));
        let (_, coarse) = strongest(bands, search, pose)?;
        let finer: Vec<f64> = (-5..=5).map(|i| coarse * (1.0 + 0.002 * f64::from(i))).collect();
        strongest(&self.bands(window, &finer), search, pose)
    }

    fn bands(&self, window: &Window, speeds: &[f64]) -> Vec<(Band, f64)> {
        let band = |scratch: &mut Scratch, speed: &f64| {
            let mut image = vec![Complex32::default(); TILE * TILE];
            for (tile, (cosine, sine)) in self.tiles.iter().zip(window.lock_in_weights(*speed)) {
                for (out, value) in image.iter_mut().zip(tile) {
                    *out += Complex32::new(cosine * value.re, sine * value.re);
                }
            }
            (Band::new(&mut image, &mut scratch.fft), *speed)
        };
        speeds.par_iter().map_init(Scratch::new, band).collect()
    }
}

fn strongest(bands: &[(Band, f64)], search: &Search<'_>, pose: Pose) -> Option<(Candidate, f64)> {
    let best = |scratch: &mut Scratch, (band, speed): &(Band, f64)| {
        (search.best_in(band, (pose, Orientation::NOT_TURNED), 0.0, scratch), *speed)
    };
    let found: Vec<(Candidate, f64)> = bands.par_iter().map_init(Scratch::new, best).collect();
    // Of equals the first, which is the slower.
    found.into_iter().rev().max_by(|a, b| a.0.z.total_cmp(&b.0.z))
}

/// From 0.45 to 2.2 in steps of 2 %.
fn speeds() -> Vec<f64> {
    let (from, to, step) = (0.45f64.ln(), 2.2f64.ln(), 0.02);
    let count = ((to - from) / step) as usize;
    (0..=count).map(|i| (from + f64::from(i as u32) * step).exp()).collect()
}
