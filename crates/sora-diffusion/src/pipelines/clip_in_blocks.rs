//! A clip of a model that was taught a few steps per block, and can make nothing else.

use std::ops::ControlFlow;

use super::stream::{BlockRequest, StreamOptions};
use super::text_to_video::report;
use super::{FrameBatch, GenerationRequest, OnFrames, OnProgress, Progress, TextToVideoPipeline};
use crate::error::{DiffusionError, Result};

impl TextToVideoPipeline {
    /// The first frames of the stream that begins with this prompt; the last block is cut where the clip ends.
    pub(super) fn generate_in_blocks(
        &self,
        request: &GenerationRequest,
        on_progress: &mut OnProgress<'_>,
        on_frames: &mut OnFrames<'_>,
    ) -> Result<()> {
        if let Some(class) = request.scheduler {
            return Err(DiffusionError::Request {
                what: "scheduler",
                value: class.name().into(),
                bound: "this model was taught steps of its own: leave the scheduler to it".into(),
            });
        }
        let options =
            StreamOptions { width: request.width, height: request.height, seed: request.seed, memory: None };
        let mut stream = self.open_stream(&options)?;
        let of = request.num_frames as usize;
        let latent = i64::from(self.dir.size_rules().num_latent_frames(request.num_frames as u32));
        let blocks = {
            let causal = self.dir.causal();
            1 + (latent - causal.block_size(0))
                .max(0)
                .unsigned_abs()
                .div_ceil(causal.block_size(1).unsigned_abs()) as usize
        };
        let block = BlockRequest {
            prompt: &request.prompt,
            keep_past: true,
            fade: None,
            negative_prompt: &request.negative_prompt,
            guidance_scale: request.guidance_scale,
            num_inference_steps: request.num_inference_steps,
            source: None,
        };
        let steps_of =
            |alone| self.block_levels(1.0, request.num_inference_steps, alone).len().saturating_sub(1);
        let (first, rest) = (steps_of(true), steps_of(false));
        let all = first + (blocks - 1) * rest;
        let mut made = 0;
        for number in 0..blocks {
            let before = if number == 0 { 0 } else { first + (number - 1) * rest };
            let mut stepping = |progress| match progress {
                // Prompts are encoded once.
                Progress::Encoding if number > 0 => ControlFlow::Continue(()),
                Progress::Step { step, .. } => on_progress(Progress::Step { step: before + step, of: all }),
                other => on_progress(other),
            };
            let mut cutting = |batch: FrameBatch<'_>| {
                let num_frames = batch.num_frames.min(of - made);
                made += num_frames;
                let data = &batch.data[..num_frames * batch.width * batch.height * 3];
                on_frames(FrameBatch { data, num_frames, ..batch })
            };
            self.next_block(&mut stream, &block, &mut stepping, &mut cutting)?;
            report(on_progress, Progress::Decoding { frame: made, of })?;
        }
        Ok(())
    }
}
