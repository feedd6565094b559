//! The blocks between the two clips.

use std::ops::ControlFlow;
use std::sync::Arc;

use sora_engine_api::{
    Block, EngineError, Fade, FrameBatch, Level, Model, Observer, Progress, Source, Stream, StreamOptions,
};

use super::settings::Plan;
use crate::bridge::{self, Detail};
use crate::loading::Owner;

/// A stream of the engine that leads from the one clip to the other.
pub(super) struct Transition<'a> {
    stream: Stream,
    plan: &'a Plan,
    owner: &'a dyn Owner,
    /// Blocks made after what is remembered, and how many there are to be.
    made: usize,
    blocks: usize,
    /// Of the last picture remembered; fades out over the first block.
    detail: Option<Detail>,
}

impl<'a> Transition<'a> {
    /// Of so many blocks, of pictures of this size, after what is seen in `tail`, RGB24; `block_frames` are those of
    /// every block but the first.
    pub(super) fn open(
        model: &Arc<Model>,
        (width, height): (u32, u32),
        plan: &'a Plan,
        owner: &'a dyn Owner,
        (tail, block_frames, blocks): (&[Vec<u8>], usize, usize),
    ) -> Result<Self, EngineError> {
        let stream = Stream::open(model, StreamOptions { width, height, seed: plan.seed, ahead: false })?;
        let first = stream.block_frames();
        let mut transition = Self { stream, plan, owner, made: 0, blocks: blocks.max(1), detail: None };
        for pixels in bridge::context(tail, first, block_frames) {
            let seen = transition.block(Some(Source::as_it_is(&pixels)), 0.0)?;
            let size = tail.last().map_or(0, Vec::len);
            let last = |pixels: &'_ [u8]| pixels.len().saturating_sub(size);
            transition.detail = Some(Detail::lost(&pixels[last(&pixels)..], &seen[last(&seen)..]));
        }
        Ok(transition)
    }

    /// The next block, made freely.
    pub(super) fn free(&mut self) -> Result<Vec<u8>, EngineError> {
        self.next(None)
    }

    /// The next block, drawn to these pictures; `cut` where they do not follow those of the block before.
    pub(super) fn drawn(&mut self, pixels: &[u8], strength: f64, cut: bool) -> Result<Vec<u8>, EngineError> {
        self.next(Some(Source { strength, fresh_noise: true, cut, ..Source::as_it_is(pixels) }))
    }

    fn next(&mut self, source: Option<Source<'_>>) -> Result<Vec<u8>, EngineError> {
        self.made += 1;
        let share = self.made as f64 / self.blocks as f64;
        let mut made = self.block(source, share.min(1.0))?;
        if let Some(detail) = self.detail.take() {
            detail.fade_out(&mut made);
        }
        Ok(made)
    }

    fn block(&mut self, source: Option<Source<'_>>, share: f64) -> Result<Vec<u8>, EngineError> {
        let plan = self.plan;
        let block = Block {
            prompt: &plan.prompt,
            keep_past: true,
            fade: (plan.prompt != plan.to_prompt).then_some(Fade { to: &plan.to_prompt, share }),
            negative_prompt: &plan.negative_prompt,
            num_inference_steps: plan.num_inference_steps,
            guidance_scale: plan.guidance_scale,
            source,
        };
        let mut watch = Watch { made: Vec::new(), owner: self.owner };
        self.stream.next_block(&block, &mut watch)?;
        Ok(watch.made)
    }
}

struct Watch<'a> {
    made: Vec<u8>,
    owner: &'a dyn Owner,
}

impl Observer for Watch<'_> {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        if self.owner.is_gone() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        self.made.extend_from_slice(frames.pixels);
        ControlFlow::Continue(())
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.owner.log(level, target, message);
    }
}
