//! A clip that is made block by block: one without an end, or one that begins with a picture or another clip. Each block
//! is made by what is wished for when it begins.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::subclass::prelude::*;
use sora_engine_api::{
    Block, EngineError, Fade, FrameBatch, Generation, Level, Model, Observer, Progress, Source, Stream,
    StreamOptions,
};

use super::image;
use super::settings::{Opening, Wished, Wishes};
use super::timing::frame_at;
use super::worker::Worker;

/// How often the text pad is looked at before it has said anything.
const POLL: Duration = Duration::from_millis(5);

impl Worker {
    /// Makes blocks until the clip has its length or is called off.
    pub(super) fn stream(
        &self,
        model: &Arc<Model>,
        generation: &Generation,
        opening: Opening,
    ) -> Result<(), EngineError> {
        let Opening { image, video, looped } = opening;
        let ahead = generation.num_frames == 0 && video.is_none() && !looped;
        let mut maker = Maker::open(self, model, generation, ahead)?;
        if let Some((path, mode)) = video {
            return maker.after_or_before(&path, mode, looped);
        }
        let size = (generation.width, generation.height);
        let picture = image.map(|path| image::load(&path, size)).transpose();
        let picture = picture.map_err(EngineError::Request)?;
        if looped { maker.looped(picture) } else { maker.straight(picture) }
    }
}

/// A prompt on its way into the one that is shown.
struct Fading {
    from: String,
    /// The frame that it began with.
    since: u64,
}

/// Makes the blocks of one clip.
pub(super) struct Maker<'a> {
    pub(super) worker: &'a Worker,
    pub(super) generation: &'a Generation,
    pub(super) stream: Stream,
    shown: Wishes,
    fading: Option<Fading>,
    /// A block has been made: there is something that a prompt can fade in over.
    begun: bool,
    /// The number of the next block's first frame.
    frame: u64,
    /// Blocks are decoded while the next one is denoised: there is no end that has to be met.
    ahead: bool,
}

impl<'a> Maker<'a> {
    fn open(
        worker: &'a Worker,
        model: &Arc<Model>,
        generation: &'a Generation,
        ahead: bool,
    ) -> Result<Self, EngineError> {
        let Generation { width, height, seed, .. } = *generation;
        let shown = Wishes {
            prompt: generation.prompt.clone(),
            negative_prompt: generation.negative_prompt.clone(),
            guidance_scale: generation.guidance_scale,
            keep_past: false,
            fade: Duration::ZERO,
        };
        let stream = Stream::open(model, StreamOptions { width, height, seed, ahead })?;
        Ok(Self { worker, generation, stream, shown, fading: None, begun: false, frame: 0, ahead })
    }

    /// Bytes of a frame.
    pub(super) fn frame_size(&self) -> usize {
        self.generation.width as usize * self.generation.height as usize * 3
    }

    /// Block after block, the first one of them a picture where there is one.
    fn straight(&mut self, mut picture: Option<Vec<u8>>) -> Result<(), EngineError> {
        let length = u64::from(self.generation.num_frames);
        while length == 0 || self.frame < length {
            // Nothing of the picture is made anew: the model remembers it as the first frame.
            let block = self.block(picture.as_deref().map(Source::as_it_is))?;
            let Some(mut made) = block else { break };
            picture = None;
            if length > 0 {
                // The last block may be longer than what is left of the clip.
                made.truncate((length - self.frame) as usize * self.frame_size());
            }
            self.show(&made)?;
        }
        let mut making = Making { worker: self.worker, made: Vec::new() };
        self.stream.finish(&mut making)?;
        let made = making.made;
        self.show(&made)
    }

    /// Makes the next block, and gives its frames, or those of the block before where blocks are made ahead; `None` when the storyboard is over.
    pub(super) fn block(&mut self, source: Option<Source<'_>>) -> Result<Option<Vec<u8>>, EngineError> {
        loop {
            let element = self.worker.element().ok_or(EngineError::Cancelled)?;
            match element.imp().wishes(self.frame).ok_or(EngineError::Cancelled)? {
                Wished::Block(wishes) if wishes == self.shown => break,
                Wished::Block(wishes) => {
                    element.imp().wishes_changed(&wishes);
                    self.change(wishes)?;
                    break;
                }
                Wished::End => return Ok(None),
                Wished::NotYet if self.worker.job.pause(POLL) => {}
                Wished::NotYet => return Err(EngineError::Cancelled),
            }
        }
        let began = Instant::now();
        let share = self.share()?;
        let (prompt, fade) = match &self.fading {
            Some(Fading { from, .. }) => (from.as_str(), Some(Fade { to: &self.shown.prompt, share })),
            None => (self.shown.prompt.as_str(), None),
        };
        let block = Block {
            prompt,
            keep_past: self.shown.keep_past,
            fade,
            negative_prompt: &self.shown.negative_prompt,
            num_inference_steps: self.generation.num_inference_steps,
            guidance_scale: self.shown.guidance_scale,
            source,
        };
        let frames = self.stream.block_frames() as u64;
        let mut making = Making { worker: self.worker, made: Vec::new() };
        self.stream.next_block(&block, &mut making)?;
        let made = making.made;
        if self.ahead {
            self.frame += frames;
        }
        self.begun = true;
        if share >= 1.0 {
            self.fading = None;
        }
        self.worker.update_stats(|stats| stats.block(began.elapsed()));
        Ok(Some(made))
    }

    /// From now on these wishes hold; another prompt begins to fade in where that is wished for.
    fn change(&mut self, wishes: Wishes) -> Result<(), EngineError> {
        if wishes.prompt != self.shown.prompt {
            let share = self.share()?;
            // A fade that is interrupted goes on from the prompt that it is nearer to.
            let from = match self.fading.take() {
                Some(Fading { from, .. }) if share < 0.5 => from,
                _ => self.shown.prompt.clone(),
            };
            let fades = self.begun && !wishes.fade.is_zero();
            self.fading = fades.then_some(Fading { from, since: self.frame });
        }
        self.shown = wishes;
        Ok(())
    }

    /// How far the fade will have come at the end of the next block; 1 without one.
    fn share(&self) -> Result<f64, EngineError> {
        let Some(Fading { since, .. }) = self.fading else { return Ok(1.0) };
        let element = self.worker.element().ok_or(EngineError::Cancelled)?;
        let fade = gst::ClockTime::try_from(self.shown.fade).unwrap_or(gst::ClockTime::MAX);
        let frames = element.imp().rate().map_or(0, |rate| frame_at(fade, rate));
        let done = self.frame - since + self.stream.block_frames() as u64;
        Ok(if frames == 0 { 1.0 } else { (done as f64 / frames as f64).min(1.0) })
    }

    /// Hands frames over; waits while downstream is behind.
    pub(super) fn show(&mut self, frames: &[u8]) -> Result<(), EngineError> {
        if frames.is_empty() {
            return Ok(());
        }
        if !self.ahead {
            self.frame += (frames.len() / self.frame_size()) as u64;
        }
        self.worker.frames_flow();
        let wanted = self.worker.job.push(frames, self.frame_size());
        if wanted { Ok(()) } else { Err(EngineError::Cancelled) }
    }
}

/// Listens to one block. What it makes is handed over outside of the engine's call: that may take long, and the
/// process may end meanwhile.
struct Making<'a> {
    worker: &'a Worker,
    made: Vec<u8>,
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
        ControlFlow::Continue(())
    }

    fn log(&mut self, level: Level, target: &str, message: &str) {
        self.worker.log_line(level, target, message);
    }
}
