//! What the element says of the time that frames spend in it, and whether it is true.

use std::collections::VecDeque;
use std::time::Duration;

/// A change of the stated latency by less than this share of it is not worth a message.
const WORTH_TELLING: f64 = 0.1;
/// Blocks that count, and one in how many of them may take longer than is stated.
const COUNTED: usize = 32;
const EXCEPTIONS: usize = 16;

/// Latency in the making: frames of a block wait for its last one, then the block is computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// From one frame to the next.
    pub(super) frame: Duration,
    /// Frames of a block; 1 where frames pass untouched.
    pub(super) block: u32,
    /// Expected time from the last frame of a block to its first one out.
    compute: Duration,
    /// What was stated last.
    stated: Duration,
    /// Times of the last blocks.
    times: VecDeque<Duration>,
}

impl Latency {
    /// Before anything is measured.
    pub(super) fn expecting(frame: Duration, block: u32) -> Self {
        let mut latency = Self { frame, block, ..Self::default() };
        latency.settle();
        latency
    }

    /// From the arrival of a block's first frame to its leaving.
    fn expected(&self) -> Duration {
        if self.block <= 1 {
            return Duration::ZERO;
        }
        self.frame * (self.block - 1) + self.compute
    }

    /// What the element states. Before the first block is computed: that one takes as long as its frames last,
    /// which is the longest with which a live stream can be kept up with.
    pub(super) fn stated(&self) -> Duration {
        self.stated
    }

    /// Takes the expectation as stated; says whether it changed enough to be told.
    pub(super) fn settle(&mut self) -> bool {
        if self.times.is_empty() {
            self.compute = self.frame * self.block;
        }
        let (expected, stated) = (self.expected(), self.stated);
        let change = expected.abs_diff(stated);
        let worth = change > stated.mul_f64(WORTH_TELLING) || expected.is_zero() != stated.is_zero();
        if worth {
            self.stated = expected;
        }
        worth && !change.is_zero()
    }

    /// A block took so long.
    pub(super) fn computed(&mut self, time: Duration) {
        self.times.push_back(time);
        if self.times.len() > COUNTED {
            self.times.pop_front();
        }
        let mut sorted: Vec<_> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        self.compute = sorted[sorted.len() - 1 - sorted.len() / EXCEPTIONS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_block_waits_for_its_frames_and_its_computation() {
        let mut latency = Latency { frame: MS(125), block: 4, ..Latency::default() };
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(3 * 125 + 500));
        latency.computed(MS(100));
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(475));
    }

    #[test]
    fn slower_blocks_count_at_once_but_not_one_in_many_and_are_forgotten() {
        let mut latency = Latency { frame: MS(125), block: 4, ..Latency::default() };
        latency.computed(MS(100));
        latency.settle();
        latency.computed(MS(200));
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(575));
        for _ in 0..14 {
            latency.computed(MS(100));
        }
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(475), "one in sixteen is an exception");
        for _ in 0..3 {
            latency.computed(MS(300));
        }
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(675));
        for _ in 0..32 {
            latency.computed(MS(100));
        }
        assert!(latency.settle());
        assert_eq!(latency.stated(), MS(475));
        latency.computed(MS(110));
        assert!(!latency.settle(), "a little more is not told");
    }

    #[test]
    fn what_passes_untouched_has_none() {
        let mut latency = Latency { frame: MS(125), block: 4, ..Latency::default() };
        latency.settle();
        latency.block = 1;
        assert!(latency.settle());
        assert_eq!(latency.stated(), Duration::ZERO);
    }
}
