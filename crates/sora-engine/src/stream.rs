//! An open stream behind a handle.

use std::sync::{Arc, Mutex, PoisonError};

use sora_diffusion::pipelines::{BlockRequest, BlockStream, FrameBatch, StreamOptions};
use sora_engine_api::abi::RawCallbacks;

use crate::call::Failure;
use crate::convert;
use crate::exit::Computing;
use crate::log::with_log;
use crate::model::{Caller, Handle, Loaded};

/// What a `RawStream` pointer points to.
pub(crate) struct StreamHandle {
    loaded: Arc<Loaded>,
    /// Held over a block: a stream makes one at a time.
    stream: Mutex<BlockStream>,
}

impl Handle {
    pub(crate) fn open_stream(&self, options: &StreamOptions) -> Result<StreamHandle, Failure> {
        let stream = Mutex::new(self.0.pipeline.open_stream(options)?);
        Ok(StreamHandle { loaded: Arc::clone(&self.0), stream })
    }
}

impl StreamHandle {
    pub(crate) fn block_frames(&self) -> u32 {
        // A stream that panicked is broken and says so at its next block.
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(stream.block_frames()).unwrap_or(u32::MAX)
    }

    pub(crate) fn next_block(
        &self,
        request: &BlockRequest<'_>,
        callbacks: RawCallbacks,
    ) -> Result<(), Failure> {
        let caller = Caller::new(callbacks);
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let computing = Computing::begin();
        let mut on_progress = |progress| computing.outside(|| caller.progress(&convert::progress(progress)));
        let mut on_frames = |frames: FrameBatch<'_>| computing.outside(|| caller.frames(frames));
        with_log(
            move |line| caller.log(&line),
            || Ok(self.loaded.pipeline.next_block(&mut stream, request, &mut on_progress, &mut on_frames)?),
        )
    }
}
