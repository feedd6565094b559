//! Figures of clips that no network is needed for, and the distance between two sets of features.

use tch::{Device, Kind, Tensor};

/// Fréchet distance of the Gaussians fitted to two sets of features `[N, D]` (arXiv 1706.08500):
/// |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·√(Σ₁Σ₂)), in squared units of the features. Small sets give large values even
/// where both come from one distribution: compare only distances of sets of one size.
pub(crate) fn frechet(a: &Tensor, b: &Tensor) -> f64 {
    let moments = |x: &Tensor| {
        let x = x.to_kind(Kind::Double);
        let mean = x.mean_dim([0i64].as_slice(), true, Kind::Double);
        let centred = &x - &mean;
        let covariance = centred.transpose(0, 1).matmul(&centred) / (x.size()[0] - 1).max(1) as f64;
        (mean, covariance)
    };
    let ((mean_a, cov_a), (mean_b, cov_b)) = (moments(a), moments(b));
    // tr √(Σ₁Σ₂) = tr √(√Σ₁·Σ₂·√Σ₁), which is symmetric.
    let root = {
        let (values, vectors) = cov_a.linalg_eigh("L");
        vectors.matmul(&(values.clamp_min(0.0).sqrt().unsqueeze(1) * vectors.transpose(0, 1)))
    };
    let product = root.matmul(&cov_b).matmul(&root);
    let product = (&product + product.transpose(0, 1)) * 0.5;
    let (values, _) = product.linalg_eigh("L");
    let cross = values.clamp_min(0.0).sqrt().sum(Kind::Double);
    let distance = (mean_a - mean_b).square().sum(Kind::Double) + cov_a.trace() + cov_b.trace() - cross * 2.0;
    distance.double_value(&[]).max(0.0)
}

/// Mean distance of every pair of rows of `[N, D]`.
pub(crate) fn mean_pairwise_distance(features: &Tensor) -> f64 {
    let n = features.size()[0];
    if n < 2 {
        return 0.0;
    }
    let squares = features.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    let squares = &squares + squares.transpose(0, 1) - features.matmul(&features.transpose(0, 1)) * 2.0;
    squares.clamp_min(0.0).sqrt().sum(Kind::Double).double_value(&[]) / (n * (n - 1)) as f64
}

/// Temporal flicker of `[3, T, H, W]` in −1…1, in levels of 255: how strongly a pixel departs from the line
/// between its neighbours in time, root mean square over the calmer half of the pixels (which is backdrop
/// before a still camera). A still clip has 0; independent noise on every frame has most of its standard
/// deviation. Less than three frames have 0.
pub(crate) fn flicker(video: &Tensor) -> f64 {
    let (_, t, h, w) = video.size4().expect("3 T H W");
    if t < 3 {
        return 0.0;
    }
    let at = |from: i64| video.narrow(1, from, t - 2);
    // The second difference of noise of variance s² has variance 6·s².
    let bend = (at(0) - at(1) * 2.0 + at(2)) / 6f64.sqrt();
    let energy = bend.square().mean_dim([0i64, 1].as_slice(), false, Kind::Float).flatten(0, 1);
    let (calm, _) = energy.sort(0, false);
    127.5 * calm.narrow(0, 0, (h * w / 2).max(1)).mean(Kind::Float).double_value(&[]).sqrt()
}

/// How much a video changes where the frames of one latent frame meet those of the next, in terms of the mean change from
/// frame to frame. It may come in parts.
pub(crate) struct BorderChange {
    /// Frames of a latent frame; the first of all is alone in its own.
    factor: usize,
    last: Option<Tensor>,
    /// From each frame to the next, mean over the pixels.
    changes: Vec<f64>,
}

impl BorderChange {
    /// Of a video whose latent frames are of `factor` frames.
    pub(crate) fn new(factor: i64) -> Self {
        Self { factor: factor as usize, last: None, changes: Vec::new() }
    }

    /// Adds the next frames, `[3, T, H, W]`.
    pub(crate) fn follow(&mut self, frames: &Tensor) {
        let video = match &self.last {
            Some(last) => Tensor::cat(&[last, frames], 1),
            None => frames.shallow_clone(),
        };
        let count = video.size()[1] - 1;
        let change = (video.narrow(1, 1, count) - video.narrow(1, 0, count)).abs();
        let change = change.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Double);
        self.changes.extend((0..count).map(|i| change.double_value(&[i])));
        self.last = Some(video.narrow(1, count, 1).copy());
    }

    /// 1 where borders do not show, and for a still picture.
    pub(crate) fn ratio(&self) -> f64 {
        let mean = |step: usize| {
            let list: Vec<f64> = self.changes.iter().copied().step_by(step).collect();
            list.iter().sum::<f64>() / list.len().max(1) as f64
        };
        let all = mean(1);
        if all > 0.0 { mean(self.factor) / all } else { 1.0 }
    }
}

/// [`BorderChange`] of a whole clip.
pub(crate) fn border_change(video: &Tensor, factor: i64) -> f64 {
    let mut change = BorderChange::new(factor);
    change.follow(video);
    change.ratio()
}

/// Standard deviation over the pixels of a frame, mean over frames, in levels of 255; 0 is a flat field.
/// `[3, T, H, W]` in −1…1.
pub(crate) fn contrast(video: &Tensor) -> f64 {
    let grey = luminance(video).flatten(1, 2);
    127.5 * grey.std_dim([1i64].as_slice(), false, false).mean(Kind::Float).double_value(&[])
}

/// `[3, T, H, W]` → `[T, H, W]` (BT.601).
pub(crate) fn luminance(video: &Tensor) -> Tensor {
    video.get(0) * 0.299 + video.get(1) * 0.587 + video.get(2) * 0.114
}

/// Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) of the luminance of two videos `[3, T, H, W]`
/// in −1…1: mean over frames and positions, Gaussian window of 11 pixels and σ 1.5; sides of at least 11.
pub(crate) fn ssim(a: &Tensor, b: &Tensor) -> f64 {
    const SIDE: i64 = 11;
    let axis = Tensor::arange(SIDE, (Kind::Float, Device::Cpu)) - ((SIDE - 1) / 2) as f64;
    let gauss = (axis.square() / (-2.0 * 1.5 * 1.5)).exp();
    let gauss = &gauss / gauss.sum(Kind::Float);
    let kernel = (gauss.unsqueeze(0) * gauss.unsqueeze(1)).view([1, 1, SIDE, SIDE]);
    let blur = |x: &Tensor| x.conv2d::<Tensor>(&kernel, None, [1, 1], [0, 0], [1, 1], 1);
    let planes = |v: &Tensor| luminance(v).unsqueeze(1) * 0.5 + 0.5;
    let (a, b) = (planes(a), planes(b));
    let (mean_a, mean_b) = (blur(&a), blur(&b));
    let var_a = blur(&a.square()) - mean_a.square();
    let var_b = blur(&b.square()) - mean_b.square();
    let covariance = blur(&(&a * &b)) - &mean_a * &mean_b;
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let above = (&mean_a * &mean_b * 2.0 + c1) * (covariance * 2.0 + c2);
    let below = (mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2);
    (above / below).mean(Kind::Double).double_value(&[])
}

/// Slope and share of explained variance of the straight line through (x, y).
pub(crate) fn straight_line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    (xy / xx.max(1e-12), xy * xy / (xx * yy).max(1e-12))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn a_set_is_at_no_distance_from_itself_and_far_from_another() {
        let a = crate::seeds::Seeds::new(1, 0, 0).normal(&[300, 8]);
        assert!(frechet(&a, &a) < 1e-6, "{}", frechet(&a, &a));
        // Moved by 3 in one of the dimensions: 9, by the formula.
        let moved = &a + Tensor::from_slice(&[3f32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((frechet(&a, &moved) - 9.0).abs() < 1e-3, "{}", frechet(&a, &moved));
        // Twice as wide: (2 − 1)² per unit of variance.
        let wide = frechet(&a, &(&a * 2.0));
        assert!((wide - 8.0).abs() < 1.5, "{wide}");
    }

    #[test]
    fn a_still_clip_does_not_flicker_and_noise_does() {
        tch::manual_seed(1);
        let still = Tensor::rand([3, 1, 16, 16], OPTIONS).expand([3, 9, 16, 16], false);
        assert_eq!(flicker(&still), 0.0);
        let noisy = &still + Tensor::randn([3, 9, 16, 16], OPTIONS) * (10.0 / 127.5);
        assert!((5.0..11.0).contains(&flicker(&noisy)), "{}", flicker(&noisy));
        // Steady motion in a corner is not flicker of the backdrop.
        let moving = still.copy();
        for t in 0..9 {
            let _ = moving.narrow(1, t, 1).narrow(3, t, 4).narrow(2, 2, 4).fill_(1.0);
        }
        assert_eq!(flicker(&moving), 0.0);
    }

    #[test]
    fn borders_show_where_the_picture_changes_more() {
        let at = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).expand([3, -1, 4, 4], false);
        let steady: Vec<f32> = (0..9).map(|t| t as f32 * 0.1).collect();
        assert!((border_change(&at(&steady), 4) - 1.0).abs() < 1e-6);
        // Nothing moves but at the borders: all of the change in one of four.
        let jumps = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert!((border_change(&at(&jumps), 4) - 4.0).abs() < 1e-6);
        assert_eq!(border_change(&at(&[0.5; 5]), 4), 1.0);
        // In parts it is the same, wherever these end.
        for cut in 1..8 {
            let (whole, mut parts) = (at(&jumps), BorderChange::new(4));
            parts.follow(&whole.narrow(1, 0, cut));
            parts.follow(&whole.narrow(1, cut, 9 - cut));
            assert!((parts.ratio() - 4.0).abs() < 1e-6, "{cut}: {}", parts.ratio());
        }
    }

    #[test]
    fn similarity_is_one_for_equals_and_falls_with_noise() {
        tch::manual_seed(1);
        let a = Tensor::rand([3, 2, 32, 32], OPTIONS) * 2.0 - 1.0;
        assert!((ssim(&a, &a) - 1.0).abs() < 1e-6);
        let little = ssim(&a, &(&a + a.randn_like() * 0.1));
        let much = ssim(&a, &(&a + a.randn_like() * 0.5));
        assert!(much < little && little < 0.999, "{little} {much}");
    }

    #[test]
    fn a_flat_field_has_no_contrast() {
        assert_eq!(contrast(&Tensor::ones([3, 2, 8, 8], OPTIONS)), 0.0);
        assert!(contrast(&(Tensor::rand([3, 2, 8, 8], OPTIONS) * 2.0 - 1.0)) > 20.0);
    }

    #[test]
    fn equal_rows_are_not_diverse() {
        let rows = Tensor::ones([4, 8], OPTIONS);
        assert!(mean_pairwise_distance(&rows) < 1e-6);
        let two = Tensor::from_slice2(&[[0f32, 0.0], [3.0, 4.0]]);
        assert!((mean_pairwise_distance(&two) - 5.0).abs() < 1e-4);
    }

    #[test]
    fn a_line_is_straight() {
        let points: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 0.4 * f64::from(i) + 2.0)).collect();
        let (slope, r2) = straight_line(&points);
        assert!((slope - 0.4).abs() < 1e-9 && (r2 - 1.0).abs() < 1e-9);
    }
}
