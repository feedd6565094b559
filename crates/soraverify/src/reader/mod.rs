//! Any file that GStreamer decodes, as luma frames.

pub(crate) mod bytes;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use sora_gst::{FrameError, FrameLayout, Samples};
use sora_watermark::{LumaPlane, LumaRange, SampleFormat, WatermarkError};

/// The formats that are looked at as they are, since their first plane is luma; others are converted.
const FORMATS: &str =
    "{ I420, YV12, NV12, NV21, GRAY8, Y42B, Y444, P010_10LE, I420_10LE, I422_10LE, Y444_10LE }";

/// How long a wait for a frame lasts before the bus is looked at again.
const STEP: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// Files that are nothing but addresses of others. Whoever has a file looked at has not asked for what is elsewhere, and
/// a stranger's file is not to say what is fetched.
const ADDRESSES: &[&str] = &[
    "application/x-hls",
    "application/dash+xml",
    "application/vnd.ms-sstr+xml",
    "application/sdp",
    "application/xges",
    "text/uri-list",
];

/// Kinds of streams that are not looked at.
const OTHER_STREAMS: &[&str] = &["audio/", "text/", "subpicture/", "closedcaption/"];

/// Why an input could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No file, no permission, a folder.
    #[error("it cannot be read: {0}")]
    Open(String),
    /// Nothing in it.
    #[error("it is empty (0 bytes)")]
    Empty,
    /// Not a format that any of the installed plugins knows.
    #[error("it is no video that GStreamer knows: {0}")]
    NotMedia(String),
    /// No stream of it is video.
    #[error("there is no video in it")]
    NoVideo,
    /// A plugin that decodes it is not installed.
    #[error("it cannot be decoded here, for want of a GStreamer plugin: {0}")]
    NoDecoder(String),
    /// A part of GStreamer that every installation should have.
    #[error("GStreamer does not work here: {0}")]
    Gstreamer(String),
    /// Damage in the file, or a connection that broke.
    #[error("reading failed: {0}")]
    Broken(String),
    /// A frame that contradicts its caps.
    #[error("a frame is damaged: {0}")]
    Frame(#[from] FrameError),
    /// Frames that can carry no mark.
    #[error("its frames cannot carry a mark: {0}")]
    Unsupported(#[from] WatermarkError),
}

/// An input that is being read.
pub struct Reader {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
    streams: Arc<Mutex<Streams>>,
    /// Plugins that the decoder missed.
    missing: Vec<String>,
    /// It missed others, for sound or words, which are not wanted.
    others_missing: bool,
    last: Duration,
}

/// What the decoder has found.
#[derive(Default)]
struct Streams {
    video: bool,
    complete: bool,
}

/// A decoded frame.
pub struct Frame {
    buffer: gst::Buffer,
    layout: FrameLayout,
    /// Presentation time, from the beginning of the input.
    pub time: Duration,
}

impl Frame {
    /// How long it is shown, where the input says it.
    pub fn shown(&self) -> Option<Duration> {
        self.buffer.duration().map(Duration::from)
    }

    /// Shows the frame's luma to `see`.
    ///
    /// # Errors
    /// When the frame is shorter than it should be, and those of `see`.
    pub fn with_luma<T>(
        &self,
        see: impl FnOnce(&LumaPlane<'_>) -> Result<T, WatermarkError>,
    ) -> Result<T, ReadError> {
        let plane = self.layout.map_readable(&self.buffer)?;
        let format = match self.layout.samples() {
            Samples::Luma10Low => SampleFormat::U10Low,
            Samples::Luma10High => SampleFormat::U10High,
            // RGB is converted before it comes here.
            Samples::Luma8 | Samples::Rgb { .. } => SampleFormat::U8,
        };
        let range = if self.layout.is_full_range() { LumaRange::Full } else { LumaRange::Limited };
        let (width, height) = (self.layout.width(), self.layout.height());
        Ok(see(&LumaPlane::new(plane.data(), format, width, height, plane.stride, range)?)?)
    }
}

/// Starts GStreamer; once before the first [`Reader::open`].
///
/// # Errors
/// When it cannot be started.
pub fn start() -> Result<(), ReadError> {
    gst::init().map_err(|error| ReadError::Gstreamer(error.to_string()))
}

impl Reader {
    /// Opens a path, a URI, or `-` for standard input. GStreamer must have been [started](start).
    ///
    /// # Errors
    /// When there is no such file or nothing in it.
    pub fn open(input: &str) -> Result<Self, ReadError> {
        let uri = uri_of(input)?;
        let remote = uri == input;
        let make = |factory: &str| {
            gst::ElementFactory::make(factory)
                .build()
                .map_err(|_| ReadError::Gstreamer(format!("there is no element {factory}")))
        };
        let (source, convert, filter, sink) =
            (make("uridecodebin")?, make("videoconvert")?, make("capsfilter")?, make("appsink")?);
        // Not with expose-all-streams=false, with which decodebin of 1.22 looks at no decoder behind a parser.
        source.set_property("caps", gst::Caps::new_empty_simple("video/x-raw"));
        source.set_property("uri", &uri);
        if !remote {
            // Such a stream stays what it is, and is no video.
            source.connect("autoplug-continue", false, |values| {
                let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
                let name = caps.as_ref().and_then(|caps| caps.structure(0)).map(|caps| caps.name().as_str());
                Some((!name.is_some_and(|name| ADDRESSES.contains(&name))).to_value())
            });
        }
        let formats = format!("video/x-raw, format={FORMATS}").parse::<gst::Caps>();
        // Written above.
        filter.set_property("caps", formats.expect("valid caps"));
        let sink = sink
            .downcast::<gst_app::AppSink>()
            .map_err(|_| ReadError::Gstreamer("appsink is another element".into()))?;
        sink.set_property("sync", false);
        // Frames wait at the sink, not in memory.
        sink.set_max_buffers(2);

        let pipeline = gst::Pipeline::new();
        let wired = pipeline
            .add_many([&source, &convert, &filter, sink.upcast_ref()])
            .and_then(|()| gst::Element::link_many([&convert, &filter, sink.upcast_ref()]));
        wired.map_err(|error| ReadError::Gstreamer(error.to_string()))?;
        let streams = Arc::<Mutex<Streams>>::default();
        let found = Arc::clone(&streams);
        let entry = convert
            .static_pad("sink")
            .ok_or_else(|| ReadError::Gstreamer("videoconvert has no pad".into()))?;
        source.connect_pad_added(move |_, pad| {
            // The first video stream; cover pictures and further angles come after it.
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let is_video = caps.structure(0).is_some_and(|structure| structure.name() == "video/x-raw");
            if is_video && !entry.is_linked() && pad.link(&entry).is_ok() {
                found.lock().unwrap_or_else(PoisonError::into_inner).video = true;
            }
        });
        let found = Arc::clone(&streams);
        source.connect_no_more_pads(move |_| {
            found.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
        });
        // A pipeline has a bus.
        let bus = pipeline.bus().ok_or_else(|| ReadError::Gstreamer("no bus".into()))?;
        // What goes wrong is on the bus.
        let _ = pipeline.set_state(gst::State::Playing);
        Ok(Self {
            pipeline,
            sink,
            bus,
            streams,
            missing: Vec::new(),
            others_missing: false,
            last: Duration::ZERO,
        })
    }

    /// Length of the input, where it is known.
    pub fn duration(&self) -> Option<Duration> {
        self.pipeline.query_duration::<gst::ClockTime>().map(Duration::from)
    }

    /// The next frame; `None` after the last.
    ///
    /// # Errors
    /// When the input is not video, cannot be decoded here, or is broken at this place.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(sample) = self.sink.try_pull_sample(STEP) {
                return self.frame(&sample).map(Some);
            }
            while let Some(message) = self.bus.pop() {
                match message.view() {
                    gst::MessageView::Error(error) => return Err(self.explain(error)),
                    gst::MessageView::Element(element) => {
                        let structure = element.structure();
                        match structure.and_then(missing_plugin) {
                            Some((name, true)) => self.missing.push(name),
                            Some((_, false)) => self.others_missing = true,
                            None => {}
                        }
                    }
                    _ => {}
                }
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.complete && !streams.video {
                return Err(self.without_video());
            }
        }
    }

    fn frame(&mut self, sample: &gst::Sample) -> Result<Frame, ReadError> {
        let broken = |text: &str| ReadError::Broken(text.to_owned());
        let buffer = sample.buffer_owned().ok_or_else(|| broken("a frame without data"))?;
        let caps = sample.caps().ok_or_else(|| broken("a frame without a format"))?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|error| broken(&error.to_string()))?;
        let layout = FrameLayout::new(&info).ok_or_else(|| broken("a format that was not asked for"))?;
        let time = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<gst::ClockTime>())
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let step = buffer.duration().unwrap_or_default();
        let time = time.map_or(self.last, Duration::from);
        self.last = time.saturating_add(step.into());
        Ok(Frame { buffer, layout, time })
    }

    /// All streams are there, and none that can be decoded is video.
    fn without_video(&self) -> ReadError {
        if self.missing.is_empty() {
            ReadError::NoVideo
        } else {
            ReadError::NoDecoder(self.missing.join(", "))
        }
    }

    /// An error of GStreamer's as one of ours.
    fn explain(&self, message: &gst::message::Error) -> ReadError {
        let (complete, video) = {
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            (streams.complete, streams.video)
        };
        let only_others_missing = self.others_missing && self.missing.is_empty();
        if !video && (complete || only_others_missing) {
            return self.without_video();
        }
        let error = message.error();
        let text = error.message().trim_end_matches('.').to_owned();
        if !self.missing.is_empty() {
            return ReadError::NoDecoder(self.missing.join(", "));
        }
        if error.matches(gst::CoreError::MissingPlugin) {
            return ReadError::NoDecoder(text);
        }
        match error.kind::<gst::StreamError>() {
            Some(gst::StreamError::CodecNotFound) => return ReadError::NoDecoder(text),
            Some(gst::StreamError::TypeNotFound | gst::StreamError::WrongType) => {
                return ReadError::NotMedia(text);
            }
            _ => {}
        }
        match error.kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NotFound | gst::ResourceError::OpenRead) => ReadError::Open(text),
            _ => ReadError::Broken(text),
        }
    }
}

/// What a "missing-plugin" message names, and whether that is wanted for video.
fn missing_plugin(structure: &gst::StructureRef) -> Option<(String, bool)> {
    if structure.name() != "missing-plugin" {
        return None;
    }
    let format = structure.get::<gst::Caps>("detail").ok();
    let kind = format.as_ref().and_then(|caps| caps.structure(0)).map(|structure| structure.name().as_str());
    let other = kind.is_some_and(|kind| OTHER_STREAMS.iter().any(|other| kind.starts_with(other)));
    Some((structure.get("name").ok()?, !other))
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Going down is always possible.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The URI of an input. What is wrong with a file is said before GStreamer says it worse.
fn uri_of(input: &str) -> Result<String, ReadError> {
    if input == "-" {
        return Ok("fd://0".into());
    }
    let path = Path::new(input);
    // What GStreamer has to say of a scheme that it does not know is clear enough.
    if !path.exists() && input.contains("://") {
        return Ok(input.to_owned());
    }
    let metadata = std::fs::metadata(path).map_err(|error| ReadError::Open(error.to_string()))?;
    if metadata.is_dir() {
        return Err(ReadError::Open("it is a folder".into()));
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Err(ReadError::Empty);
    }
    let absolute = std::path::absolute(path).map_err(|error| ReadError::Open(error.to_string()))?;
    let uri =
        gst::glib::filename_to_uri(absolute, None).map_err(|error| ReadError::Open(error.to_string()))?;
    Ok(uri.into())
}
