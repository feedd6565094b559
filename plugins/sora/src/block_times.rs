//! How long blocks take, for the `stats` of elements.

use std::time::Duration;

/// Times of the blocks that an element made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BlockTimes {
    /// How many there were.
    pub(crate) count: u64,
    last: Duration,
    /// Sum and largest of all but the first, in which everything is done for the first time.
    sum: Duration,
    longest: Duration,
}

impl BlockTimes {
    /// Counts a block.
    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.last = time;
        if self.count > 1 {
            self.sum += time;
            self.longest = self.longest.max(time);
        }
    }

    /// Mean of all but the first; zero where there are none.
    pub(crate) fn mean(&self) -> Duration {
        let counted = u32::try_from(self.count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.sum.checked_div(counted).unwrap_or_default()
    }

    /// The fields `blocks`, `block-time`, `mean-block-time` and `max-block-time`.
    pub(crate) fn tell(&self, builder: gst::structure::Builder) -> gst::structure::Builder {
        builder
            .field("blocks", self.count)
            .field("block-time", nanoseconds(self.last))
            .field("mean-block-time", nanoseconds(self.mean()))
            .field("max-block-time", nanoseconds(self.longest))
    }
}

/// A time as `stats` has it.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_is_in_no_mean_and_no_maximum() {
        let mut times = BlockTimes::default();
        assert_eq!(times.mean(), Duration::ZERO);
        for milliseconds in [900, 100, 300] {
            times.add(Duration::from_millis(milliseconds));
        }
        gst::init().expect("GStreamer");
        let told = times.tell(gst::Structure::builder("stats")).build();
        let told =
            ["blocks", "block-time", "mean-block-time", "max-block-time"].map(|name| told.get::<u64>(name));
        assert_eq!(told, [Ok(3), Ok(300_000_000), Ok(200_000_000), Ok(300_000_000)]);
    }
}
