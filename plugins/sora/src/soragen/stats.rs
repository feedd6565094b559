//! The `stats` property.

use std::time::Duration;

use sora_engine_api::Generation;

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
    /// From the start of the element to the loaded model.
    pub(super) load_time: Duration,
    /// From the request to the first denoised clip.
    pub(super) denoise_time: Duration,
    /// From the request to the last frame.
    pub(super) generate_time: Duration,
}

impl Stats {
    pub(super) fn to_structure(&self) -> gst::Structure {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut builder = gst::Structure::builder("soragen-stats")
            .field("model", &self.model)
            .field("device", &self.device)
            .field("dtype", &self.dtype)
            .field("step", self.step)
            .field("frames", self.frames)
            .field("late-frames", self.late_frames)
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
