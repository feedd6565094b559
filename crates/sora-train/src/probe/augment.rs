//! What may happen to a picture without changing what it shows.

use sora_diffusion::noise::seeded_noise;
use sora_world::{Camera, Heading};
use tch::{Device, Kind, Tensor};

use super::clips::Clips;
use super::network::SIDE;
use super::questions::Question;
use crate::seeds::Seeds;

/// A batch as the network learns from it.
pub(crate) struct Batch {
    /// −1…1, `[B, T, 3, SIDE, SIDE]`.
    pub(crate) video: Tensor,
    /// 0…1, `[B, T, MAPS, MAP_SIDE, MAP_SIDE]`.
    pub(crate) maps: Tensor,
    /// `[B, questions]`, −1 where there is no answer.
    pub(crate) labels: Tensor,
}

impl Batch {
    /// The clips as they are.
    pub(crate) fn plain(clips: &Clips) -> Self {
        Self {
            video: clips.video.to_kind(Kind::Float) / 127.5 - 1.0,
            maps: clips.maps.to_kind(Kind::Float) / 255.0,
            labels: clips.labels.copy(),
        }
    }

    /// The same on a device.
    pub(crate) fn on(self, device: Device) -> Self {
        let Self { video, maps, labels } = self;
        let [video, maps, labels] = [video, maps, labels].map(|tensor| tensor.to_device(device));
        Self { video, maps, labels }
    }

    /// The clips mirrored, shifted, blurred, tinted and made noisy, each in its own way.
    pub(crate) fn augmented(clips: &Clips, seeds: &mut Seeds) -> Self {
        let batch = Self::plain(clips);
        // For what the step drops out; noise is seeded where it is drawn, as others may draw in between.
        tch::manual_seed(seeds.next_u64() as i64);
        let (mut videos, mut maps) = (Vec::new(), Vec::new());
        for i in 0..clips.len() as i64 {
            let (mut video, mut map) = (batch.video.get(i), batch.maps.get(i));
            if seeds.below(2) == 0 {
                (video, map) = (video.flip([3]), map.flip([3]));
                mirror_labels(&batch.labels.get(i));
            }
            if seeds.below(2) == 0 {
                (video, map) = moved(&video, &map, seeds);
            }
            videos.push(degraded(video, seeds));
            maps.push(map);
        }
        Self { video: Tensor::stack(&videos, 0), maps: Tensor::stack(&maps, 0), labels: batch.labels }
    }
}

/// Left becomes right, in place; `[questions]`.
fn mirror_labels(labels: &Tensor) {
    let swap = |question: Question, pair: [usize; 2]| {
        let at = Question::ALL.iter().position(|q| *q == question).expect("a question") as i64;
        let answer = labels.int64_value(&[at]);
        let [a, b] = pair.map(|class| class as i64);
        if answer == a || answer == b {
            let _ = labels.get(at).fill_(a + b - answer);
        }
    };
    swap(Question::Heading, [Heading::Left.index(), Heading::Right.index()]);
    swap(Question::Camera, [Camera::PanLeft.index(), Camera::PanRight.index()]);
}

/// The same shift and zoom for all frames and their maps.
fn moved(video: &Tensor, maps: &Tensor, seeds: &mut Seeds) -> (Tensor, Tensor) {
    let zoom = f64::from(seeds.range(0.88, 1.06));
    let (dx, dy) = (f64::from(seeds.range(-0.1, 0.1)), f64::from(seeds.range(-0.1, 0.1)));
    let theta =
        Tensor::from_slice(&[zoom as f32, 0.0, dx as f32, 0.0, zoom as f32, dy as f32]).view([1, 2, 3]);
    let warp = |x: &Tensor| {
        let (t, c, h, w) = x.size4().expect("T C H W");
        let grid = Tensor::affine_grid_generator(&theta, [1, t * c, h, w], false);
        // Bilinear, the border goes on.
        x.reshape([1, t * c, h, w]).grid_sampler(&grid, 0, 1, false).view([t, c, h, w])
    };
    (warp(video), warp(maps))
}

/// Light, tint, blur in space and time, noise.
fn degraded(video: Tensor, seeds: &mut Seeds) -> Tensor {
    let (t, _, _, _) = video.size4().expect("T 3 H W");
    let mut x = video;
    let contrast = f64::from(seeds.range(0.88, 1.1));
    let tint: [f32; 3] = std::array::from_fn(|_| seeds.range(-0.05, 0.05));
    let light = f64::from(seeds.range(-0.06, 0.06));
    x = x * contrast + Tensor::from_slice(&tint).view([1, 3, 1, 1]) + light;
    match seeds.below(6) {
        0 => {
            let half = x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
            x = half.upsample_bilinear2d([SIDE, SIDE], false, None, None);
        }
        1 => x = x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>),
        // What moves fast smears.
        2 => {
            let before = Tensor::cat(&[x.narrow(0, 0, 1), x.narrow(0, 0, t - 1)], 0);
            x = &x * 0.6 + before * 0.4;
        }
        _ => {}
    }
    if seeds.below(3) == 0 {
        x = &x + seeded_noise(seeds.next_u64(), &x.size()) * f64::from(seeds.range(0.01, 0.08));
    }
    if seeds.below(3) == 0 {
        // Blotches that come and go, as of latents that are slightly wrong.
        let blotches = seeded_noise(seeds.next_u64(), &[t, 3, 8, 8]) * f64::from(seeds.range(0.02, 0.1));
        x += blotches.upsample_bilinear2d([SIDE, SIDE], false, None, None);
    }
    x.clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_swaps_left_and_right_and_nothing_else() {
        let mut answers = [1i64; Question::ALL.len()];
        answers[6] = Heading::Left.index() as i64;
        answers[7] = Camera::Orbit.index() as i64;
        let labels = Tensor::from_slice(&answers);
        mirror_labels(&labels);
        answers[6] = Heading::Right.index() as i64;
        assert_eq!(Vec::<i64>::try_from(&labels).expect("list"), answers);
        mirror_labels(&labels);
        answers[6] = Heading::Left.index() as i64;
        assert_eq!(Vec::<i64>::try_from(&labels).expect("list"), answers);
    }
}
