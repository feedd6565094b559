//! Which noise levels a block visits.

use tch::{Kind, Tensor};

/// Root mean square difference of successive frames, in −1…1, that counts as the fastest motion
/// (StreamDiffusionV2, arXiv 2511.07399).
const FASTEST: f64 = 0.2;
/// Share of the strength that the fastest motion takes away, and inertia from block to block: as there.
const TAKEN: f64 = 0.125;
const INERTIA: f64 = 0.1;

/// Noise levels of a block that is made from a source, from that of `strength` (0 to 1) down to 0; as many steps as
/// `strength` is of 1, at least one. At strength 1 these are the levels of the whole schedule; 0 gives the one level 0:
/// no step.
pub fn levels(strength: f64, num_inference_steps: i64, shift: f64) -> Vec<f64> {
    let steps = (strength * num_inference_steps as f64).ceil() as i64;
    let level = |i: i64| {
        let time = if steps == 0 { 0.0 } else { strength * (steps - i) as f64 / steps as f64 };
        shift * time / (1.0 + (shift - 1.0) * time)
    };
    (0..=steps).map(level).collect()
}

/// Strength that follows the motion: fast motion hides behind less noise.
#[derive(Default)]
pub(super) struct Pace {
    /// Last frame of the block before, `[1, 3, 1, H, W]`.
    last: Option<Tensor>,
    strength: Option<f64>,
}

impl Pace {
    /// The strength for these frames, `[1, 3, T, H, W]` in −1…1.
    pub(super) fn strength(&mut self, wanted: f64, video: &Tensor) -> f64 {
        let frames = match &self.last {
            Some(last) => Tensor::cat(&[last, video], 2),
            None => video.shallow_clone(),
        };
        let count = frames.size()[2];
        let motion = if count < 2 {
            0.0
        } else {
            let difference = frames.narrow(2, 1, count - 1) - frames.narrow(2, 0, count - 1);
            let mean = difference.square().mean_dim([0i64, 1, 3, 4].as_slice(), false, Kind::Float);
            (mean.max().double_value(&[]).sqrt() / FASTEST).clamp(0.0, 1.0)
        };
        self.last = Some(frames.narrow(2, count - 1, 1).copy());
        let target = wanted * (1.0 - TAKEN * motion);
        let strength =
            self.strength.map_or(target, |before| INERTIA * before + (1.0 - INERTIA) * target).min(wanted);
        self.strength = Some(strength);
        strength
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_schedule_from_the_strength_on() {
        let close = |levels: Vec<f64>, wanted: &[f64]| {
            assert_eq!(levels.len(), wanted.len(), "{levels:?}");
            for (level, wanted) in levels.iter().zip(wanted) {
                assert!((level - wanted).abs() < 1e-12, "{levels:?} for {wanted:?}");
            }
        };
        close(levels(1.0, 4, 3.0), &[1.0, 0.9, 0.75, 0.5, 0.0]);
        close(levels(0.5, 4, 3.0), &[0.75, 0.5, 0.0]);
        close(levels(0.1, 4, 3.0), &[0.25, 0.0]);
        close(levels(0.0, 4, 3.0), &[0.0]);
    }

    #[test]
    fn fast_motion_lessens_the_strength_and_a_still_picture_does_not() {
        let still = Tensor::zeros([1, 3, 4, 8, 8], (Kind::Float, tch::Device::Cpu));
        let mut pace = Pace::default();
        assert_eq!(pace.strength(0.8, &still), 0.8);
        let moving = Tensor::cat(&[&still.narrow(2, 0, 1), &still.narrow(2, 0, 1).ones_like()], 2);
        let strength = pace.strength(0.8, &moving);
        assert!((0.7..0.72).contains(&strength), "{strength}");
    }
}
