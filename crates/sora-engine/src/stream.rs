//! An open stream behind a handle.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sora_diffusion::pipelines::{BlockRequest, BlockStream, FrameBatch, StreamOptions};
use sora_engine_api::abi::RawCallbacks;

use crate::ahead::{Ahead, Decoded};
use crate::call::Failure;
use crate::convert;
use crate::exit::Computing;
use crate::log::with_log;
use crate::model::{Caller, Handle, Loaded};

/// What a `RawStream` pointer points to.
pub(crate) struct StreamHandle {
    loaded: Arc<Loaded>,
    /// Held over a block: a stream makes one at a time.
    making: Mutex<Making>,
}

struct Making {
    stream: BlockStream,
    /// Decodes a block while the next one is denoised.
    ahead: Option<Ahead>,
}

impl Handle {
    pub(crate) fn open_stream(&self, options: &StreamOptions, ahead: bool) -> Result<StreamHandle, Failure> {
        let loaded = Arc::clone(&self.0);
        let stream = loaded.pipeline.open_stream(options)?;
        let ahead = if ahead { Ahead::start(&loaded)? } else { None };
        Ok(StreamHandle { loaded, making: Mutex::new(Making { stream, ahead }) })
    }
}

impl StreamHandle {
    fn making(&self) -> MutexGuard<'_, Making> {
        // A stream that panicked is broken and says so at its next block.
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn block_frames(&self) -> u32 {
        u32::try_from(self.making().stream.block_frames()).unwrap_or(u32::MAX)
    }

    pub(crate) fn next_block(
        &self,
        request: &BlockRequest<'_>,
        callbacks: RawCallbacks,
    ) -> Result<(), Failure> {
        let caller = Caller::new(callbacks);
        let mut making = self.making();
        let Making { stream, ahead } = &mut *making;
        let computing = Computing::begin();
        let pipeline = &self.loaded.pipeline;
        with_log(
            move |line| caller.log(&line),
            || match ahead.as_ref() {
                None => {
                    let mut on_progress =
                        |progress| computing.outside(|| caller.progress(&convert::progress(progress)));
                    let mut on_frames = |frames: FrameBatch<'_>| computing.outside(|| caller.frames(frames));
                    Ok(pipeline.next_block(stream, request, &mut on_progress, &mut on_frames)?)
                }
                Some(ahead) => self.next_ahead(stream, ahead, request, (&caller, &computing)),
            },
        )
    }

    /// Makes a block while the one before it is decoded, and hands that one over.
    fn next_ahead(
        &self,
        stream: &mut BlockStream,
        ahead: &Ahead,
        request: &BlockRequest<'_>,
        (caller, computing): (&Caller, &Computing),
    ) -> Result<(), Failure> {
        ahead.settle_threads();
        let first = stream.blocks() == 0;
        let failure = RefCell::new(None);
        let noted =
            |result: Result<(), Failure>| result.map_err(|reason| *failure.borrow_mut() = Some(reason));
        let mut on_progress = |progress| {
            computing.outside(|| {
                // Frames that are ready are handed over between the steps.
                match noted(ahead.hand_over_ready(|decoded| hand(caller, decoded))) {
                    Ok(()) => caller.progress(&convert::progress(progress)),
                    Err(()) => ControlFlow::Break(()),
                }
            })
        };
        let mut on_latents =
            |made| noted(ahead.give(made)).map_err(|()| sora_diffusion::DiffusionError::Cancelled);
        let made = self.loaded.pipeline.next_latents(stream, request, &mut on_progress, &mut on_latents);
        if let Some(failure) = failure.take() {
            return Err(failure);
        }
        made?;
        // The first frames come as soon as without all this.
        let left = if first { 0 } else { 1 };
        computing.outside(|| ahead.hand_over_until(left, |decoded| hand(caller, decoded)))
    }

    /// Hands over what is not handed over yet.
    pub(crate) fn finish(&self, callbacks: RawCallbacks) -> Result<(), Failure> {
        let caller = Caller::new(callbacks);
        match &self.making().ahead {
            None => Ok(()),
            Some(ahead) => ahead.hand_over_until(0, |decoded| hand(&caller, decoded)),
        }
    }
}

/// Gives frames to the caller.
fn hand(caller: &Caller, Decoded { data, num_frames, width, height }: Decoded) -> Result<(), Failure> {
    let frames = FrameBatch { data: &data, num_frames, width, height };
    if caller.frames(frames).is_break() { Err(Failure::cancelled()) } else { Ok(()) }
}
