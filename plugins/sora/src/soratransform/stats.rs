//! The `stats` property.

use std::time::{Duration, Instant};

use crate::block_times::{BlockTimes, nanoseconds};

/// What the element has done since it started.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) frames_in: u64,
    pub(super) frames_out: u64,
    pub(super) restyled: u64,
    pub(super) dropped: u64,
    /// Of each block, from its last frame to its first one out.
    pub(super) blocks: BlockTimes,
    /// Longest time that a frame of the last block spent in the element.
    pub(super) measured_latency: Duration,
    /// From the first whole block to its first frame out, the loading of the model in it.
    pub(super) first_block_time: Duration,
    pub(super) load_time: Duration,
    /// Frames of the last block.
    pub(super) block_frames: u32,
    pub(super) working_size: (u32, u32),
    pub(super) model: String,
    pub(super) device: String,
    pub(super) dtype: String,
    /// Drops that people were told of.
    told_drops: u64,
    drops_since: Option<Instant>,
}

impl Stats {
    /// Counts a block.
    pub(super) fn block(&mut self, frames: u32, time: Duration) {
        self.blocks.add(time);
        self.restyled += u64::from(frames);
        self.block_frames = frames;
    }

    /// Counts a dropped frame. A text for people at the first one, and whenever their number has doubled.
    pub(super) fn drop_frame(&mut self, block: u32) -> Option<String> {
        self.dropped += 1;
        let since = *self.drops_since.get_or_insert_with(Instant::now);
        if self.dropped < 2 * self.told_drops.max(1) && self.told_drops > 0 {
            return None;
        }
        self.told_drops = self.dropped;
        let (dropped, frames) = (self.dropped, self.frames_in);
        let seconds = since.elapsed().as_secs_f64();
        let possible = match self.blocks.mean() {
            // Nothing is measured yet.
            Duration::ZERO => String::new(),
            time => format!(
                " A block of {block} frames takes {} ms, so {:.1} frames a second are possible.",
                time.as_millis(),
                self.possible_fps(block)
            ),
        };
        Some(format!(
            "The video cannot be restyled as fast as it comes: {dropped} of {frames} frames dropped in \
             {seconds:.1} s.{possible} A smaller working size, fewer steps or a lower frame rate help."
        ))
    }

    fn possible_fps(&self, block: u32) -> f64 {
        let time = self.blocks.mean().as_secs_f64();
        if time > 0.0 { f64::from(block) / time } else { 0.0 }
    }

    pub(super) fn to_structure(&self, queued: usize, block: u32, latency: Duration) -> gst::Structure {
        let builder = gst::Structure::builder("soratransform-stats")
            .field("model", &self.model)
            .field("device", &self.device)
            .field("dtype", &self.dtype)
            .field("working-width", self.working_size.0)
            .field("working-height", self.working_size.1)
            .field("frames-in", self.frames_in)
            .field("frames-out", self.frames_out)
            .field("restyled", self.restyled)
            .field("dropped", self.dropped)
            .field("queued", queued as u64)
            .field("block-frames", self.block_frames);
        self.blocks
            .tell(builder)
            .field("possible-fps", self.possible_fps(block))
            .field("latency", nanoseconds(latency))
            .field("measured-latency", nanoseconds(self.measured_latency))
            .field("first-block-time", nanoseconds(self.first_block_time))
            .field("load-time", nanoseconds(self.load_time))
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_at_the_first_and_when_they_have_doubled() {
        let mut stats = Stats { frames_in: 100, ..Stats::default() };
        stats.block(1, Duration::from_millis(900));
        stats.block(4, Duration::from_millis(400));
        let told: Vec<bool> = (0..8).map(|_| stats.drop_frame(4).is_some()).collect();
        assert_eq!(told, [true, true, false, true, false, false, false, true]);
        assert_eq!(stats.dropped, 8);
        for _ in 0..7 {
            assert_eq!(stats.drop_frame(4), None);
        }
        let text = stats.drop_frame(4).expect("sixteen");
        assert!(
            text.contains("16 of 100") && text.contains("400 ms") && text.contains("10.0 frames"),
            "{text}"
        );
    }
}
