//! Decoding a block while the next one is denoised.
//!
//! A thread of its own goes through the blocks of one stream. On two busy cores blocks come 1.5 times as often in bf16
//! (docs/benchmark-streaming.md); the frames are the same.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use sora_diffusion::pipelines::{BlockDecoder, BlockLatents, FrameBatch};
use sora_diffusion::side_stream::SideStream;
use sora_engine_api::abi::Status;

use crate::call::{Failure, catching};
use crate::exit::Computing;
use crate::log::with_log;
use crate::model::Loaded;

/// Frames of one block: RGB24 `[num_frames, height, width, 3]`.
pub(crate) struct Decoded {
    pub(crate) data: Vec<u8>,
    pub(crate) num_frames: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The thread, and what is on its way to and from it.
pub(crate) struct Ahead {
    /// Taken when the stream is closed, which ends the thread.
    latents: Option<Sender<BlockLatents>>,
    frames: Receiver<Result<Decoded, Failure>>,
    /// Blocks that were given and not handed over.
    under_way: Cell<usize>,
    /// Threads inside an operation: of those who denoise, and as it was before.
    threads: i32,
    before: i32,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts the thread; `None` where there is one core only.
    pub(crate) fn start(loaded: &Arc<Loaded>) -> Result<Option<Self>, Failure> {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return Ok(None);
        }
        // Both sides together have as many threads as one thing after the other has.
        let all = tch::get_num_threads();
        let decoding = (all / 2).max(1);
        let (latents, given) = channel();
        let (made, frames) = channel();
        let loaded = Arc::clone(loaded);
        let body = move || {
            tch::set_num_threads(decoding);
            // A GPU too decodes beside what it denoises.
            match SideStream::enter(loaded.pipeline.device()) {
                Ok(_side) => decode(&loaded, &given, &made),
                Err(reason) => drop(made.send(Err(reason.into()))),
            }
        };
        let thread = std::thread::Builder::new().name("sora:decode".into()).spawn(body)?;
        Ok(Some(Self {
            latents: Some(latents),
            frames,
            under_way: Cell::new(0),
            threads: (all - decoding).max(1),
            before: all,
            thread: Some(thread),
        }))
    }

    /// Leaves the decoding thread its share of the cores; for the thread that denoises, which may be another at each call.
    /// Threads that begin to use libtorch meanwhile get as many: libtorch keeps the number by thread and by process.
    pub(crate) fn settle_threads(&self) {
        if tch::get_num_threads() != self.threads {
            tch::set_num_threads(self.threads);
        }
    }

    /// Has a block decoded.
    pub(crate) fn give(&self, block: BlockLatents) -> Result<(), Failure> {
        let given = self.latents.as_ref().is_some_and(|latents| latents.send(block).is_ok());
        if !given {
            return Err(gone());
        }
        self.under_way.set(self.under_way.get() + 1);
        Ok(())
    }

    /// Hands over what is ready; waits for nothing.
    pub(crate) fn hand_over_ready(
        &self,
        mut hand: impl FnMut(Decoded) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while let Ok(made) = self.frames.try_recv() {
            self.under_way.set(self.under_way.get() - 1);
            hand(made?)?;
        }
        Ok(())
    }

    /// Hands blocks over until so many are left.
    pub(crate) fn hand_over_until(
        &self,
        left: usize,
        mut hand: impl FnMut(Decoded) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while self.under_way.get() > left {
            let made = self.frames.recv().map_err(|_| gone())?;
            self.under_way.set(self.under_way.get() - 1);
            hand(made?)?;
        }
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.latents = None;
        if let Some(thread) = self.thread.take() {
            // Its panics have been caught.
            let _ = thread.join();
        }
        if tch::get_num_threads() != self.before {
            tch::set_num_threads(self.before);
        }
    }
}

fn gone() -> Failure {
    Failure::new(Status::Internal, "the thread that decodes has ended")
}

/// Decodes block after block; after a failure, which is handed on, none of what follows would fit.
fn decode(loaded: &Loaded, given: &Receiver<BlockLatents>, made: &Sender<Result<Decoded, Failure>>) {
    let mut decoder = BlockDecoder::default();
    for block in given {
        let result = catching(|| {
            let _computing = Computing::begin();
            let mut decoded = None;
            let mut keep = |frames: FrameBatch<'_>| {
                let FrameBatch { data, num_frames, width, height } = frames;
                decoded = Some(Decoded { data: data.to_vec(), num_frames, width, height });
                ControlFlow::Continue(())
            };
            // Spans go into the trace; there is nobody here to take log lines.
            with_log(|_| {}, || loaded.pipeline.decode_block(&mut decoder, &block, &mut keep))?;
            decoded.ok_or_else(|| Failure::new(Status::Internal, "a block without frames"))
        });
        let failed = result.is_err();
        if made.send(result).is_err() || failed {
            return;
        }
    }
}
