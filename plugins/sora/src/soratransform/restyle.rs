//! One block: pictures in, pictures out.

use std::ops::ControlFlow;
use std::sync::Arc;

use sora_engine_api::{
    Block, EngineError, FrameBatch, Level, Model, Observer, Progress, Source, Stream, StreamOptions,
};

use super::settings::Style;

/// A stream of the engine with what it was opened for.
pub(super) struct Restyler {
    stream: Stream,
    /// Frames of a latent frame, but of the first.
    latent_frames: usize,
}

/// Listens to the engine while it computes.
pub(super) trait Listener {
    /// Whether the block is still wanted.
    fn is_wanted(&self) -> bool;
    /// A log line.
    fn log(&self, level: Level, target: &str, message: &str);
}

impl Restyler {
    pub(super) fn open(
        model: &Arc<Model>,
        (width, height): (u32, u32),
        seed: u64,
        latent_frames: u32,
    ) -> Result<Self, EngineError> {
        let stream = Stream::open(model, StreamOptions { width, height, seed, ahead: false })?;
        Ok(Self { stream, latent_frames: latent_frames.max(1) as usize })
    }

    /// Frames of the next block.
    pub(super) fn block_frames(&self) -> usize {
        self.stream.block_frames()
    }

    /// Restyles the next block: `pixels` of up to [`Self::block_frames`] pictures of `frame_size` bytes; a latent
    /// frame that is not whole is filled up with the last picture. Gives as many pictures as it is given.
    pub(super) fn restyle(
        &mut self,
        mut pixels: Vec<u8>,
        frame_size: usize,
        style: &Style,
        listener: &dyn Listener,
    ) -> Result<Vec<u8>, EngineError> {
        let given = pixels.len();
        let whole =
            whole_frames(given / frame_size.max(1), self.block_frames(), self.latent_frames) * frame_size;
        while pixels.len() < whole && pixels.len() >= frame_size {
            pixels.extend_from_within(pixels.len() - frame_size..);
        }
        let block = Block {
            prompt: &style.prompt,
            // The frames carry the scene on; the past would hold on to the style.
            keep_past: false,
            fade: None,
            negative_prompt: &style.negative_prompt,
            num_inference_steps: style.num_inference_steps,
            guidance_scale: style.guidance_scale,
            source: Some(Source {
                pixels: &pixels,
                strength: style.strength,
                fresh_noise: style.fresh_noise,
                motion_adaptive: style.motion_adaptive,
                source_prompt: style.source_prompt.as_deref(),
                shown: style.shown,
                cut: false,
            }),
        };
        let mut watch = Watch { made: Vec::with_capacity(whole), listener };
        self.stream.next_block(&block, &mut watch)?;
        let mut made = watch.made;
        made.truncate(given);
        Ok(made)
    }
}

/// Frames of the latent frames that `given` pictures begin, in a block of at most `block`. The first block's first
/// latent frame is one frame.
fn whole_frames(given: usize, block: usize, latent_frames: usize) -> usize {
    let alone = block % latent_frames;
    alone + given.saturating_sub(alone).div_ceil(latent_frames) * latent_frames
}

struct Watch<'a> {
    made: Vec<u8>,
    listener: &'a dyn Listener,
}

impl Observer for Watch<'_> {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        if self.listener.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        self.made.extend_from_slice(frames.pixels);
        ControlFlow::Continue(())
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.listener.log(level, target, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_as_many_latent_frames_as_its_pictures_begin() {
        // Blocks of one latent frame: one frame, then four.
        assert_eq!(whole_frames(1, 1, 4), 1);
        assert_eq!([1, 3, 4].map(|given| whole_frames(given, 4, 4)), [4, 4, 4]);
        // Of three: nine, then twelve.
        assert_eq!([1, 2, 5, 9].map(|given| whole_frames(given, 9, 4)), [1, 5, 5, 9]);
        assert_eq!([1, 4, 5, 12].map(|given| whole_frames(given, 12, 4)), [4, 4, 8, 12]);
        // A VAE that does not compress time.
        assert_eq!(whole_frames(3, 3, 1), 3);
    }
}
