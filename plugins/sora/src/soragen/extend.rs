//! Clips that go on from another clip, or end where they began.

use std::collections::VecDeque;
use std::path::Path;

use gst::subclass::prelude::*;
use sora_engine_api::{EngineError, Source};

use super::VideoMode;
use super::stream::Maker;
use super::video::ClipFile;
use crate::bridge::{self, Detail};

/// Most bytes of frames that are held back: those that are made backwards come out in the end only.
const MOST_HELD: u64 = 2 << 30;

type Frame = Vec<u8>;

impl Maker<'_> {
    /// Blocks that there are to be, all in all; the last one may be cut off.
    fn blocks(&self) -> usize {
        (self.generation.num_frames as usize).div_ceil(self.worker.block_frames())
    }

    /// The next block where the storyboard must not end.
    fn made(&mut self, source: Option<Source<'_>>) -> Result<Vec<u8>, EngineError> {
        self.block(source)?.ok_or(EngineError::Cancelled)
    }

    /// A file, and what comes after or before it.
    pub(super) fn after_or_before(
        &mut self,
        path: &Path,
        mode: VideoMode,
        looped: bool,
    ) -> Result<(), EngineError> {
        let rate = self.worker.element().and_then(|element| element.imp().rate());
        let size = (self.generation.width, self.generation.height);
        let mut clip =
            ClipFile::open(path, size, rate.ok_or(EngineError::Cancelled)?).map_err(EngineError::Request)?;
        match mode {
            VideoMode::Prepend => self.before(path, &mut clip),
            VideoMode::Extend => self.after(path, &mut clip, true, looped),
            VideoMode::Continue => self.after(path, &mut clip, false, looped),
        }
    }

    fn read(&self, clip: &mut ClipFile) -> Result<Option<Frame>, EngineError> {
        let frame = clip.next(|| !self.worker.job.is_cancelled()).map_err(EngineError::Request)?;
        if self.worker.job.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(frame) }
    }

    /// What comes after a clip: its tail is remembered, then new frames follow.
    fn after(
        &mut self,
        path: &Path,
        clip: &mut ClipFile,
        shows_clip: bool,
        looped: bool,
    ) -> Result<(), EngineError> {
        let refuse = |text: String| Err(EngineError::Request(format!("video {} {text}", path.display())));
        let block = self.worker.block_frames();
        let mut drawn = if looped { bridge::drawn(self.blocks()) } else { 0 };
        let (mut head, mut tail) = (Vec::new(), VecDeque::new());
        let context = self.worker.context_frames();
        let mut length = 0usize;
        while let Some(frame) = self.read(clip)? {
            if head.len() < drawn * block {
                // These come in the end, drawn to.
                head.push(frame.clone());
            } else if shows_clip {
                self.show(&frame)?;
            }
            tail.push_back(frame);
            if tail.len() > context {
                tail.pop_front();
            }
            length += 1;
        }
        if length == 0 {
            return refuse("has no picture in it".into());
        }
        if looped && length < block {
            return refuse(format!("has {length} frames; a loop takes {block} at least"));
        }
        if looped {
            // Those that the clip is long enough for.
            drawn = head.len() / block;
        }
        for frame in head.split_off(drawn * block) {
            if shows_clip {
                self.show(&frame)?;
            }
        }
        let mut detail = self.remember(tail.make_contiguous())?;
        if !looped {
            return self.go_on(detail);
        }
        for _ in drawn..self.blocks() {
            let mut made = self.made(None)?;
            if let Some(detail) = detail.take() {
                detail.fade_out(&mut made);
            }
            self.show(&made)?;
        }
        self.drawn_to(&head.concat())
    }

    /// What comes before a clip: its head is remembered backwards, and what follows it then is shown backwards.
    fn before(&mut self, path: &Path, clip: &mut ClipFile) -> Result<(), EngineError> {
        let size = self.frame_size();
        let num_frames = self.generation.num_frames;
        if u64::from(num_frames) * size as u64 > MOST_HELD {
            return Err(EngineError::Request(format!(
                "num-frames is {num_frames}, of {size} bytes each: video-mode=prepend makes the last one first \
                 and holds at most {MOST_HELD} bytes"
            )));
        }
        let context = self.worker.context_frames();
        let mut head = Vec::new();
        while head.len() < context
            && let Some(frame) = self.read(clip)?
        {
            head.push(frame);
        }
        if head.is_empty() {
            let text = format!("video {} has no picture in it", path.display());
            return Err(EngineError::Request(text));
        }
        let backwards: Vec<Frame> = head.iter().rev().cloned().collect();
        let detail = self.remember(&backwards)?;
        let mut made = Vec::new();
        let wanted = num_frames as usize * size;
        while made.len() < wanted {
            let mut block = self.made(None)?;
            if let (true, Some(detail)) = (made.is_empty(), &detail) {
                detail.fade_out(&mut block);
            }
            made.extend(block);
        }
        made.truncate(wanted);
        for frame in made.chunks_exact(size).rev() {
            self.show(frame)?;
        }
        for frame in &head {
            self.show(frame)?;
        }
        while let Some(frame) = self.read(clip)? {
            self.show(&frame)?;
        }
        Ok(())
    }

    /// A clip from the prompt whose end leads back to its beginning: its very first frames are not shown, but drawn to
    /// by the last ones; what follows them is shown first.
    pub(super) fn looped(&mut self, picture: Option<Frame>) -> Result<(), EngineError> {
        let drawn = bridge::drawn(self.blocks());
        // A block of another length than the rest, which cannot come again.
        let _ = self.made(picture.as_deref().map(Source::as_it_is))?;
        let mut head = Vec::new();
        for _ in 0..drawn {
            head.extend(self.made(None)?);
        }
        for _ in drawn..self.blocks() {
            let made = self.made(None)?;
            self.show(&made)?;
        }
        self.drawn_to(&head)
    }

    /// Makes frames part of what the model remembers, as many of the last ones as make whole blocks. Gives what it does
    /// not see of the last.
    fn remember(&mut self, frames: &[Frame]) -> Result<Option<Detail>, EngineError> {
        let mut seen = Vec::new();
        for pixels in bridge::context(frames, self.stream.block_frames(), self.worker.block_frames()) {
            seen = self.made(Some(Source::as_it_is(&pixels)))?;
        }
        let seen = seen.chunks_exact(self.frame_size()).last();
        Ok(frames.last().zip(seen).map(|(own, seen)| Detail::lost(own, seen)))
    }

    /// New frames up to the clip's length, or without an end.
    fn go_on(&mut self, mut detail: Option<Detail>) -> Result<(), EngineError> {
        let size = self.frame_size();
        let (mut left, endless) = (self.generation.num_frames as usize, self.generation.num_frames == 0);
        while endless || left > 0 {
            let Some(mut made) = self.block(None)? else { return Ok(()) };
            if let Some(detail) = detail.take() {
                detail.fade_out(&mut made);
            }
            if !endless {
                made.truncate(left * size);
                left -= made.len() / size;
            }
            self.show(&made)?;
        }
        Ok(())
    }

    /// Blocks that are drawn to the frames of `target`, from block to block more.
    fn drawn_to(&mut self, target: &[u8]) -> Result<(), EngineError> {
        let block = self.worker.block_frames() * self.frame_size();
        let strengths = bridge::strengths(target.len() / block, self.worker.shift());
        for (n, (pixels, strength)) in target.chunks(block).zip(strengths).enumerate() {
            let source = Source { strength, fresh_noise: true, cut: n == 0, ..Source::as_it_is(pixels) };
            let mut made = self.made(Some(source))?;
            if (n + 1) * block >= target.len() {
                bridge::fade_into(&mut made, pixels, self.frame_size());
            }
            self.show(&made)?;
        }
        Ok(())
    }
}
