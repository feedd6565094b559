//! A file, an address or standard input, as bytes while they arrive.

use std::path::Path;

use gst::prelude::*;

use crate::clip::ClipError;

/// How long a wait for bytes lasts before the clock and the bus are looked at again.
const STEP: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// The bytes of a stream, as they arrive.
pub(crate) struct Source {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
}

/// What came.
pub(crate) enum Next {
    /// Some.
    Bytes(Vec<u8>),
    /// Nothing, in that moment.
    Nothing,
    /// Nothing more comes.
    End,
}

impl Source {
    /// Opens an address, a path, or `-` for standard input. GStreamer must have been [started](super::start).
    pub(crate) fn open(input: &str) -> Result<Self, ClipError> {
        let internal = |error: String| ClipError::Internal(error);
        let make = |factory: &str| {
            gst::ElementFactory::make(factory)
                .build()
                .map_err(|_| ClipError::Internal(format!("there is no element {factory}")))
        };
        let source = match input {
            "-" => make("fdsrc")?,
            path if Path::new(path).exists() || !path.contains("://") => {
                let source = make("filesrc")?;
                source.set_property("location", path);
                source
            }
            uri => gst::Element::make_from_uri(gst::URIType::Src, uri, None)
                .map_err(|error| ClipError::NoInput(format!("it cannot be read: {error}")))?,
        };
        if source.has_property("is-live") {
            // A connection is watched as it is, not played in time.
            source.set_property("is-live", false);
        }
        let sink = make("appsink")?
            .downcast::<gst_app::AppSink>()
            .map_err(|_| internal("appsink is another element".into()))?;
        sink.set_property("sync", false);
        sink.set_max_buffers(8);
        let pipeline = gst::Pipeline::new();
        let wired = pipeline.add_many([&source, sink.upcast_ref()]);
        wired.map_err(|error| internal(error.to_string()))?;
        if input.contains("://") && input.split(['?', '#']).next().is_some_and(|path| path.ends_with(".m3u8"))
        {
            let demux = make("hlsdemux")?;
            pipeline.add(&demux).map_err(|error| internal(error.to_string()))?;
            source.link(&demux).map_err(|error| internal(error.to_string()))?;
            let entry = sink.static_pad("sink").ok_or_else(|| internal("appsink has no pad".into()))?;
            demux.connect_pad_added(move |_, pad| {
                if !entry.is_linked() {
                    // Should it fail, the stream has no data, which is told.
                    let _ = pad.link(&entry);
                }
            });
        } else {
            source.link(&sink).map_err(|error| internal(error.to_string()))?;
        }
        let bus = pipeline.bus().ok_or_else(|| internal("a pipeline without a bus".into()))?;
        let opened = Self { pipeline, sink, bus };
        if opened.pipeline.set_state(gst::State::Playing).is_err() {
            let why = opened.problem().unwrap_or_else(|| "its source does not start".into());
            return Err(ClipError::NoInput(format!("it cannot be read: {why}")));
        }
        Ok(opened)
    }

    /// Waits a moment for bytes.
    pub(crate) fn next(&self) -> Result<Next, String> {
        if let Some(sample) = self.sink.try_pull_sample(STEP) {
            let Some(buffer) = sample.buffer() else { return Ok(Next::Nothing) };
            let map = buffer.map_readable().map_err(|error| error.to_string())?;
            return Ok(Next::Bytes(map.to_vec()));
        }
        match self.problem() {
            Some(why) => Err(format!("reading failed: {why}")),
            None if self.sink.is_eos() => Ok(Next::End),
            None => Ok(Next::Nothing),
        }
    }

    /// What the pipeline says went wrong.
    fn problem(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
            _ => None,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // To NULL it always comes.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
