//! Downstream as something to write to and seek in.

use std::io::{self, Seek, SeekFrom, Write};

use gst::prelude::*;

/// Writes buffers to a pad, and goes to other places by segments in bytes, as muxers do.
pub(super) struct Downstream {
    pad: gst::Pad,
    at: u64,
    /// A segment is due before the next buffer.
    moved: bool,
    /// What a push gave that failed.
    failed: Option<gst::FlowError>,
}

impl Downstream {
    pub(super) fn new(pad: gst::Pad) -> Self {
        Self { pad, at: 0, moved: true, failed: None }
    }

    /// Why writing failed, where downstream said it.
    pub(super) fn flow_error(&self) -> Option<gst::FlowError> {
        self.failed
    }
}

impl Write for Downstream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut self.moved) {
            let mut segment = gst::FormattedSegment::<gst::format::Bytes>::new();
            segment.set_start(gst::format::Bytes::from_u64(self.at));
            self.pad.push_event(gst::event::Segment::new(&segment));
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes.to_vec());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_offset(self.at);
            buffer.set_offset_end(self.at + bytes.len() as u64);
        }
        self.pad.push(buffer).map_err(|error| {
            self.failed = Some(error);
            io::Error::other(format!("downstream answered {error}"))
        })?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Downstream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            // A sink does not say where its end is.
            SeekFrom::End(_) => None,
        };
        let at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.moved |= at != self.at;
        self.at = at;
        Ok(at)
    }
}
