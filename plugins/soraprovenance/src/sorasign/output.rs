//! Downstream as something to write to and seek in.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use bytes::Bytes;
use gst::prelude::*;
use sora_provenance::Output;

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

impl Downstream {
    /// Sends a buffer that knows when it is shown and what it is.
    pub(super) fn send(&mut self, mut buffer: gst::Buffer) -> io::Result<()> {
        if std::mem::take(&mut self.moved) {
            self.say_place();
        }
        let length = buffer.size() as u64;
        {
            let buffer = buffer.make_mut();
            buffer.set_offset(self.at);
            buffer.set_offset_end(self.at + length);
        }
        self.pad.push(buffer).map_err(|error| {
            self.failed = Some(error);
            io::Error::other(format!("downstream answered {error}"))
        })?;
        self.at += length;
        Ok(())
    }

    fn say_place(&self) {
        let mut segment = gst::FormattedSegment::<gst::format::Bytes>::new();
        segment.set_start(gst::format::Bytes::from_u64(self.at));
        self.pad.push_event(gst::event::Segment::new(&segment));
    }

    /// Has downstream write what it holds back, by going to `end`, and gives the file that it writes into, where it
    /// is one. A sink that writes files does so before it goes anywhere.
    pub(super) fn settle(&mut self, end: u64) -> Option<PathBuf> {
        // To where it is already it would not go.
        for place in [0, end] {
            self.at = place;
            self.say_place();
        }
        self.moved = false;
        let mut query = gst::query::Uri::new();
        if !self.pad.peer_query(&mut query) {
            return None;
        }
        let (path, _) = gst::glib::filename_from_uri(query.uri()?.as_str()).ok()?;
        // Something between might write another file than what was sent.
        let metadata = std::fs::metadata(&path).ok()?;
        (metadata.is_file() && metadata.len() == end).then_some(path)
    }
}

impl Write for Downstream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.send(gst::Buffer::from_mut_slice(bytes.to_vec()))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Downstream {
    fn write_shared(&mut self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.send(gst::Buffer::from_slice(bytes)) }
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
