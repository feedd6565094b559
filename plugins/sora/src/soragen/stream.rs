//! A clip without an end, or one that begins with a picture: the worker makes block after block, each by what is wished for when it begins.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::subclass::prelude::*;
use sora_engine_api::{
    Block, EngineError, FrameBatch, Generation, Level, Model, Observer, Progress, Source, Stream,
    StreamOptions,
};

use super::image;
use super::settings::{Wished, Wishes};
use super::worker::Worker;

/// How often the text pad is looked at before it has said anything.
const POLL: Duration = Duration::from_millis(5);

impl Worker {
    /// Makes blocks until the clip has its length or is called off.
    pub(super) fn stream(
        &self,
        model: &Arc<Model>,
        generation: &Generation,
        image: Option<PathBuf>,
    ) -> Result<(), EngineError> {
        let Generation { width, height, seed, .. } = *generation;
        let mut stream = Stream::open(model, StreamOptions { width, height, seed })?;
        let mut shown = Wishes {
            prompt: generation.prompt.clone(),
            negative_prompt: generation.negative_prompt.clone(),
            guidance_scale: generation.guidance_scale,
            keep_past: false,
        };
        let picture = image.map(|path| image::load(&path, (width, height))).transpose();
        let mut picture = picture.map_err(EngineError::Request)?;
        let mut frame = 0;
        while generation.num_frames == 0 || frame < u64::from(generation.num_frames) {
            let element = self.element().ok_or(EngineError::Cancelled)?;
            let wishes = match element.imp().wishes(frame).ok_or(EngineError::Cancelled)? {
                Wished::Block(wishes) => wishes,
                Wished::End => return Ok(()),
                Wished::NotYet if self.job.pause(POLL) => continue,
                Wished::NotYet => return Err(EngineError::Cancelled),
            };
            if wishes != shown {
                element.imp().wishes_changed(&wishes);
                shown = wishes;
            }
            drop(element);
            let began = Instant::now();
            let block = Block {
                prompt: &shown.prompt,
                keep_past: shown.keep_past,
                negative_prompt: &shown.negative_prompt,
                num_inference_steps: generation.num_inference_steps,
                guidance_scale: shown.guidance_scale,
                // Nothing of the picture is made anew: the model remembers it as the first frame.
                source: picture.as_deref().map(|pixels| Source {
                    pixels,
                    strength: 0.0,
                    fresh_noise: false,
                    motion_adaptive: false,
                    source_prompt: None,
                }),
            };
            let mut making = Making { worker: self, made: Vec::new(), frame_size: 0 };
            stream.next_block(&block, &mut making)?;
            picture = None;
            self.update_stats(|stats| stats.block(began.elapsed()));
            // Outside of the engine's call: it may take long, and the process may end meanwhile.
            let Making { mut made, frame_size, .. } = making;
            if generation.num_frames > 0 {
                // The last block may be longer than what is left of the clip.
                let left = u64::from(generation.num_frames) - frame;
                made.truncate(left as usize * frame_size);
            }
            frame += made.len().checked_div(frame_size).unwrap_or(0) as u64;
            self.frames_flow();
            if !self.job.push(&made, frame_size) {
                return Err(EngineError::Cancelled);
            }
        }
        Ok(())
    }
}

/// Listens to one block.
struct Making<'a> {
    worker: &'a Worker,
    made: Vec<u8>,
    frame_size: usize,
}

impl Observer for Making<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Progress::Step { step, .. } = progress {
            self.worker.update_stats(|stats| stats.step = step);
        }
        if self.worker.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn frames(&mut self, frames: FrameBatch<'_>) -> ControlFlow<()> {
        self.made.extend_from_slice(frames.pixels);
        self.frame_size = frames.width * frames.height * 3;
        ControlFlow::Continue(())
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.worker.log_line(level, target, message);
    }
}
