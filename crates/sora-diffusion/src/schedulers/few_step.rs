//! The few-step sampler of the Self-Forcing family (arXiv 2506.08009, after DMD2, arXiv 2405.14867): predict the clean
//! video, noise it again to the next, lower level with fresh noise, and so on.
//!
//! Follows `utils/scheduler.py` and `pipeline/causal_inference.py` of the public code in which values are rounded
//! where: levels are f32, the prediction is made in f64, noise is added in f32.

use tch::{Device, Kind, Tensor};

/// Rows of the table, from pure noise on.
const ROWS: i64 = 1000;

/// The table of noise levels that lists of steps refer to.
pub struct FewStepSchedule {
    /// f32 values, falling from 1; the timestep of each is a thousand times as much.
    sigmas: Vec<f32>,
}

impl FewStepSchedule {
    /// A table whose levels are moved towards noise by `shift`: `shift · σ / (1 + (shift − 1) · σ)` with σ from 1 to
    /// 0 in a thousand steps.
    pub fn new(shift: f64) -> Self {
        let line = Tensor::linspace(1.0, 0.0, ROWS + 1, (Kind::Float, Device::Cpu)).narrow(0, 0, ROWS);
        let shifted = (&line * shift) / (&line * (shift - 1.0) + 1.0);
        let mut sigmas = vec![0f32; ROWS as usize];
        shifted.copy_data(&mut sigmas, ROWS as usize);
        Self { sigmas }
    }

    /// The noise levels of the table.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The noise levels to visit for a list of steps, each 1000 to 1, and 0 after the last. `warp`ed steps count the
    /// rows of the table from its end, so 1000 is pure noise; others are timesteps, of which the nearest row is taken.
    pub fn levels(&self, list: &[i64], warp: bool) -> Vec<f64> {
        let level = |step: i64| {
            let step = step.clamp(1, ROWS);
            let row = if warp { (ROWS - step) as usize } else { self.nearest_row(step as f64) };
            f64::from(self.sigmas[row])
        };
        list.iter().map(|step| level(*step)).chain([0.0]).collect()
    }

    fn nearest_row(&self, timestep: f64) -> usize {
        let distance = |row: &usize| (f64::from(self.sigmas[*row] * ROWS as f32) - timestep).abs();
        (0..self.sigmas.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    }
}

/// A list of `steps` steps like `list`: itself where it has as many, else spread evenly from its first one.
pub fn list_of(list: &[i64], steps: i64) -> Vec<i64> {
    if list.len() as i64 == steps {
        return list.to_vec();
    }
    let first = list.first().copied().unwrap_or(ROWS);
    (0..steps.min(first)).map(|i| (first * (steps - i) + steps / 2) / steps).map(|step| step.max(1)).collect()
}

/// What the network takes `sample` for without its noise: `sample − σ · velocity`, in f64, returned in f32.
pub fn predict_clean(sample: &Tensor, velocity: &Tensor, sigma: f64) -> Tensor {
    let clean = sample.to_kind(Kind::Double) - velocity.to_kind(Kind::Double) * sigma;
    clean.to_kind(Kind::Float)
}

/// `clean` with `noise` at level `sigma`: `(1 − σ) · clean + σ · noise`, in f32.
pub fn add_noise(clean: &Tensor, noise: &Tensor, sigma: f64) -> Tensor {
    let sigma = sigma as f32;
    clean * f64::from(1.0 - sigma) + noise * f64::from(sigma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warped_steps_are_rows_of_the_shifted_table() {
        let schedule = FewStepSchedule::new(5.0);
        let levels = schedule.levels(&[1000, 750, 500, 250], true);
        for (level, wanted) in levels.iter().zip([1.0, 0.9375, 5.0 / 6.0, 0.625, 0.0]) {
            assert!((level - wanted).abs() < 1e-6, "{levels:?}");
        }
        // Timesteps as they are: the nearest row is a thousandth away at most.
        let levels = schedule.levels(&[700, 500], false);
        for (level, wanted) in levels.iter().zip([0.7, 0.5, 0.0]) {
            assert!((level - wanted).abs() < 1e-3, "{levels:?}");
        }
    }

    #[test]
    fn another_number_of_steps_is_spread_evenly() {
        let list = [1000, 750, 500, 250];
        assert_eq!(list_of(&list, 4), list);
        assert_eq!(list_of(&list, 2), [1000, 500]);
        assert_eq!(list_of(&list, 3), [1000, 667, 333]);
        assert_eq!(list_of(&[700, 400], 1), [700]);
        let many = list_of(&list, 1000);
        assert_eq!((many.len(), many[0], many[999]), (1000, 1000, 1));
        assert!(many.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn predicting_undoes_adding() {
        let (clean, noise) = (crate::noise::seeded_noise(1, &[64]), crate::noise::seeded_noise(2, &[64]));
        let noisy = add_noise(&clean, &noise, 0.625);
        let back = predict_clean(&noisy, &(&noise - &clean), 0.625);
        assert!((back - clean).abs().max().double_value(&[]) < 1e-6);
    }
}
