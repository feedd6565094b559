//! A stream that is signed fragment by fragment.

use std::io::Cursor;

use sora_provenance::{LivePart, LiveSigner, ProvenanceError};

use super::keeper::Keeper;
use super::output::Downstream;

/// A fragmented stream in the making.
pub(super) struct Live {
    signer: LiveSigner,
    out: Downstream,
    keeper: Option<Keeper>,
    /// How many bytes came.
    at: u64,
    /// The muxer went back to fill something in. What is signed and sent stays as it is.
    went_back: bool,
    /// When the fragment that is collected is shown.
    pts: Option<gst::ClockTime>,
    dts: Option<gst::ClockTime>,
}

impl Live {
    pub(super) fn new(signer: LiveSigner, out: Downstream, keeper: Option<Keeper>) -> Self {
        Self { signer, out, keeper, at: 0, went_back: false, pts: None, dts: None }
    }

    pub(super) fn flow_error(&self) -> Option<gst::FlowError> {
        self.out.flow_error()
    }

    pub(super) fn seek(&mut self, to: u64) {
        self.went_back |= to != self.at;
    }

    pub(super) fn write(&mut self, buffer: &gst::BufferRef, bytes: &[u8]) -> Result<(), ProvenanceError> {
        if self.went_back {
            return Ok(());
        }
        self.at += bytes.len() as u64;
        self.pts = self.pts.or(buffer.pts());
        self.dts = self.dts.or(buffer.dts());
        for part in self.signer.push(bytes)? {
            let (bytes, header) = match part {
                LivePart::Init(bytes) => (bytes, true),
                LivePart::Fragment(bytes) => (bytes, false),
            };
            if let (true, Some(keeper)) = (header, &self.keeper) {
                keeper.keep_of(&mut Cursor::new(&bytes))?;
            }
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            {
                let buffer = buffer.make_mut();
                if header {
                    buffer.set_flags(gst::BufferFlags::HEADER);
                } else {
                    buffer.set_pts(self.pts.take());
                    buffer.set_dts(self.dts.take());
                }
            }
            let failed = |source| ProvenanceError::Stream { what: "sending a signed fragment", source };
            self.out.send(buffer).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), ProvenanceError> {
        self.signer.finish()
    }
}
