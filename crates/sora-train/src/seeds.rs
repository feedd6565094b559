//! Random choices that depend on (run seed, step, index) alone, so that a resumed run makes the same ones.

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

    /// low ≤ x < high.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
}
