//! Random choices that depend on (run seed, step, index) alone, so that a resumed run makes the same ones.

use tch::Tensor;

/// SplitMix64 (Steele, Lea, Flood 2014): a hash that is also a good generator.
#[derive(Clone)]
pub(crate) struct Seeds(u64);

impl Seeds {
    /// A stream of its own for every triple.
    pub(crate) fn new(run: u64, step: u64, index: u64) -> Self {
        let mut seeds = Self(run);
        seeds.0 = seeds.next_u64() ^ step.wrapping_mul(0xA24B_AED4_963E_E407);
        seeds.0 = seeds.next_u64() ^ index.wrapping_mul(0x9FB2_1C65_1E98_DF25);
        seeds
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `n` − 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Which of several groups an element falls into that is drawn from all of them; they are not all empty.
    pub(crate) fn one_of(&mut self, sizes: impl Iterator<Item = usize> + Clone) -> usize {
        let mut at = self.below(sizes.clone().sum::<usize>() as u64) as usize;
        for (group, size) in sizes.enumerate() {
            if at < size {
                return group;
            }
            at -= size;
        }
        unreachable!("what is drawn is less than the sum of the sizes")
    }

    /// 0 ≤ x < 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Standard normal numbers in f32 on the CPU (G. E. P. Box and M. E. Muller, 1958).
    ///
    /// Unlike libtorch's generator, of which a process has one, nothing that another thread draws changes them.
    pub(crate) fn normal(&mut self, shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>() as usize;
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            // Above 0, as its logarithm is taken.
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let (sine, cosine) = (std::f32::consts::TAU * self.unit()).sin_cos();
            values.extend([radius * cosine, radius * sine]);
        }
        Tensor::from_slice(&values[..count]).view(shape)
    }

    /// Numbers in −1 ≤ x < 1, in f32 on the CPU.
    pub(crate) fn uniform(&mut self, shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>();
        let values: Vec<f32> = (0..count).map(|_| self.range(-1.0, 1.0)).collect();
        Tensor::from_slice(&values).view(shape)
    }

    /// low ≤ x < high.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn numbers_are_as_they_should_be_distributed_and_drawn_again_the_same() {
        let mut seeds = Seeds::new(1, 2, 3);
        let normal = seeds.normal(&[100, 999]);
        let uniform = seeds.uniform(&[100, 999]);
        let share = |x: Tensor| x.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let moments = |x: &Tensor| [1, 2, 4].map(|power| share(x.pow_tensor_scalar(power)));
        // In the order of 1/√n, four times over.
        for (found, expected) in moments(&normal).into_iter().zip([0.0, 1.0, 3.0]) {
            assert!((found - expected).abs() < 0.15, "{found} is not {expected}");
        }
        assert!((share(normal.abs().gt(1.96)) - 0.05).abs() < 0.005);
        for (found, expected) in moments(&uniform).into_iter().zip([0.0, 1.0 / 3.0, 0.2]) {
            assert!((found - expected).abs() < 0.02, "{found} is not {expected}");
        }
        assert!(
            uniform.abs().max().double_value(&[]) <= 1.0 && normal.isfinite().all().int64_value(&[]) == 1
        );
        // Neighbours, which come of one pair, have nothing to do with each other.
        let (even, odd) =
            (normal.flatten(0, 1).slice(0, 0, 99_900, 2), normal.flatten(0, 1).slice(0, 1, 99_900, 2));
        assert!(share(even * odd).abs() < 0.02);
        assert_eq!(Seeds::new(1, 2, 3).normal(&[100, 999]), normal);
        assert_ne!(Seeds::new(1, 2, 4).normal(&[100, 999]), normal);
    }
}
