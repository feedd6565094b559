//! From a request to frames.

mod clip_in_blocks;
mod decoding;
mod frames;
mod load;
mod prompt;
mod prompt_cache;
pub mod prompt_enhancer;
mod stream;
mod text_to_video;

use std::ops::ControlFlow;

pub use frames::FrameBatch;
use frames::{Rgb8, bytes_on};
pub use load::LoadOptions;
pub use prompt::PromptEmbeds;
pub use prompt_cache::PromptCacheChoice;
pub use prompt_enhancer::{Decoding, Enhancement, PromptEnhancer};
pub use stream::{
    BlockDecoder, BlockLatents, BlockRequest, BlockSource, BlockStream, Fade, StreamOptions,
    levels as source_levels,
};
pub use text_to_video::{GenerationRequest, TextToVideoPipeline};

/// Where a pipeline stands. Every report is also a chance to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Weights are being read.
    Loading {
        /// Bytes read so far.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// The prompt is being embedded.
    Encoding,
    /// `step` of `of` denoising steps are done.
    Step {
        /// From 0 (about to begin) to `of`.
        step: usize,
        /// Number of steps.
        of: usize,
    },
    /// `frame` of `of` frames are decoded.
    Decoding {
        /// Frames decoded so far.
        frame: usize,
        /// Frames of the clip.
        of: usize,
    },
}

/// Called at every stage; [`ControlFlow::Break`] cancels.
pub type OnProgress<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Called with every run of finished frames; [`ControlFlow::Break`] cancels.
pub type OnFrames<'a> = dyn FnMut(FrameBatch<'_>) -> ControlFlow<()> + 'a;
