//! The `stats` property.

use std::time::{Duration, Instant};

use sora_engine_api::Generation;

use crate::block_times::{BlockTimes, nanoseconds};

/// What is known of the clip being made or made last.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) dtype: String,
    pub(super) generation: Option<Generation>,
    /// The prompt that the model saw.
    pub(super) prompt_used: Option<String>,
    /// Steps done.
    pub(super) step: u64,
    /// Frames pushed.
    pub(super) frames: u64,
    /// Frames of a live clip that were not ready at their time.
    pub(super) late_frames: u64,
    /// Frames that were not shown because newer ones waited.
    pub(super) dropped: u64,
    /// Blocks that were dropped because they were made before a change.
    pub(super) outdated_blocks: u64,
    /// Times that a frame was shown again.
    pub(super) repeated: u64,
    /// Blocks of a clip without an end.
    blocks: BlockTimes,
    /// When the first block was ready.
    since: Option<Instant>,
    /// Late, dropped and repeated frames that people were told of.
    told_lag: u64,
    /// From the start of the element to the loaded model.
    pub(super) load_time: Duration,
    /// From the request to the first denoised clip.
    pub(super) denoise_time: Duration,
    /// From the request to the last frame.
    pub(super) generate_time: Duration,
}

impl Stats {
    /// Counts a block.
    pub(super) fn block(&mut self, time: Duration) {
        self.blocks.add(time);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Frames a second since the first block; 0 before.
    fn fps(&self) -> f64 {
        let seconds = self.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        if seconds > 0.0 { self.frames as f64 / seconds } else { 0.0 }
    }

    /// A text for people at the first frame that lags, and whenever their number has doubled.
    pub(super) fn lag_told(&mut self, block: u32, rate: gst::Fraction) -> Option<String> {
        let lagging = self.late_frames + self.dropped + self.repeated;
        if lagging < 2 * self.told_lag.max(1) && self.told_lag > 0 {
            return None;
        }
        self.told_lag = lagging;
        let Self { late_frames, dropped, repeated, .. } = *self;
        let lasts = f64::from(rate.denom()) / f64::from(rate.numer().max(1)) * f64::from(block);
        let took = match self.blocks.mean() {
            Duration::ZERO => String::new(),
            time => format!("; {block} frames take {} ms", time.as_millis()),
        };
        Some(format!(
            "The video is not made as fast as it is shown: {late_frames} frames late, {dropped} dropped, \
             {repeated} shown again{took} and last {:.0} ms. A smaller size, fewer steps or a lower frame rate help.",
            lasts * 1000.0,
        ))
    }

    pub(super) fn to_structure(&self, queued: usize) -> gst::Structure {
        let builder = gst::Structure::builder("soragen-stats")
            .field("model", &self.model)
            .field("device", &self.device)
            .field("dtype", &self.dtype)
            .field("step", self.step)
            .field("frames", self.frames)
            .field("late-frames", self.late_frames)
            .field("dropped", self.dropped)
            .field("repeated", self.repeated)
            .field("outdated-blocks", self.outdated_blocks)
            .field("queued", queued as u64)
            .field("fps", self.fps());
        let mut builder = self
            .blocks
            .tell(builder)
            .field("load-time", nanoseconds(self.load_time))
            .field("denoise-time", nanoseconds(self.denoise_time))
            .field("generate-time", nanoseconds(self.generate_time));
        if let Some(generation) = &self.generation {
            builder = builder
                .field("seed", generation.seed)
                .field("width", generation.width)
                .field("height", generation.height)
                .field("num-frames", generation.num_frames)
                .field("num-inference-steps", generation.num_inference_steps)
                .field("guidance-scale", generation.guidance_scale);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_told_with_figures_at_first_and_when_it_has_doubled() {
        let mut stats = Stats::default();
        stats.block(Duration::from_millis(900));
        stats.block(Duration::from_millis(700));
        let mut told = Vec::new();
        for _ in 0..9 {
            stats.repeated += 1;
            told.push(stats.lag_told(4, gst::Fraction::new(8, 1)));
        }
        assert_eq!(
            told.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, true, false, true, false, false, false, true, false]
        );
        let text = told.remove(7).expect("the eighth");
        assert!(text.contains("8 shown again; 4 frames take 700 ms and last 500 ms"), "{text}");
    }
}
