//! Frames on their way in and out: converted on the threads that bring them and that push them, while the worker is at
//! another block.

use std::sync::Arc;
use std::time::Instant;

use sora_engine_api::trace;

use crate::fit::Fit;

/// A frame that came in.
pub(super) struct Arrived {
    pub(super) buffer: gst::Buffer,
    pub(super) at: Instant,
    /// Its working picture, where it was known how frames are converted.
    picture: Option<(Arc<Fit>, Vec<u8>)>,
}

impl Arrived {
    /// Converts it, if a way is known.
    pub(super) fn new(buffer: gst::Buffer, fit: Option<Arc<Fit>>) -> Self {
        let at = Instant::now();
        let picture = fit.and_then(|fit| {
            let _span = trace::span("copy");
            let mut pixels = Vec::with_capacity(fit.frame_size());
            // What cannot be converted is found out, and told, by the worker.
            fit.append(&buffer, &mut pixels).ok()?;
            Some((fit, pixels))
        });
        Self { buffer, at, picture }
    }

    /// Appends its working picture.
    pub(super) fn append(&self, fit: &Arc<Fit>, pixels: &mut Vec<u8>) -> Result<(), String> {
        match &self.picture {
            Some((of, picture)) if Arc::ptr_eq(of, fit) => pixels.extend_from_slice(picture),
            _ => fit.append(&self.buffer, pixels)?,
        }
        Ok(())
    }
}

/// A frame that is to be pushed.
pub(super) enum Leaving {
    /// As it came.
    Untouched(gst::Buffer),
    Restyled {
        fit: Arc<Fit>,
        /// The working pictures of a block, and which of them it is.
        block: Arc<Vec<u8>>,
        number: usize,
        /// The frame that came in.
        like: gst::Buffer,
    },
}

impl Leaving {
    /// What goes out.
    pub(super) fn buffer(self) -> Result<gst::Buffer, String> {
        match self {
            Self::Untouched(buffer) => Ok(buffer),
            Self::Restyled { fit, block, number, like } => {
                let _span = trace::span("copy");
                let size = fit.frame_size();
                fit.frame(&block[number * size..][..size], &like)
            }
        }
    }
}
