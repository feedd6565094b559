//! The clip that a video goes on from: any file that GStreamer decodes, frame by frame, at the video's size and rate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSink;
use gst_video::{VideoFormat, VideoInfo};

use super::cover::Cover;
use super::image;

/// Longest time without a frame.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who waits is asked whether it is still wanted.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// Frames that are decoded ahead.
const AHEAD: u32 = 4;

/// Checks that a file may be a clip, as far as its beginning tells.
pub(super) fn check(path: &Path) -> Result<(), gst::ErrorMessage> {
    let head = image::head(path).map_err(|error| {
        gst::error_msg!(
            gst::ResourceError::OpenRead,
            ("video {} cannot be read: {error}", path.display()),
            ["looked at before loading the model"]
        )
    })?;
    let refuse = |text: &str| {
        gst::error_msg!(
            gst::StreamError::WrongType,
            ("video {} {text}", path.display()),
            ["looked at before loading the model"]
        )
    };
    if head.is_empty() {
        return Err(refuse("is empty"));
    }
    match image::size(&head) {
        // A picture is a clip of one frame.
        Ok((_, width, height)) => image::check_size(width, height).map_err(|text| refuse(&text)),
        Err(_) => Ok(()),
    }
}

/// Why a file is refused, where a function on another thread has found out.
type Refused = Arc<Mutex<Option<String>>>;

/// A clip that is being decoded.
pub(super) struct ClipFile {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: AppSink,
    size: (u32, u32),
    cover: Option<(gst::Caps, Cover)>,
    refused: Refused,
}

impl Drop for ClipFile {
    fn drop(&mut self) {
        // Down is always possible.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn refuse(refused: &Refused, text: String) {
    refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// Refuses frames, and encoded frames, whose caps say that they are too large.
fn check_caps(caps: &gst::CapsRef) -> Result<(), String> {
    let Some(structure) = caps.structure(0) else { return Ok(()) };
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    match (side("width"), side("height")) {
        (Some(width), Some(height)) => image::check_size(width, height),
        _ => Ok(()),
    }
}

impl ClipFile {
    /// Begins to decode. Frames have this size, and come at this rate: some are left out or come twice.
    pub(super) fn open(path: &Path, size: (u32, u32), rate: gst::Fraction) -> Result<Self, String> {
        let failed = |what: String| format!("video {} cannot be decoded: {what}", path.display());
        let pipeline = gst::Pipeline::new();
        let make = image::maker(pipeline.clone(), failed);
        let (source, decoder) = (make("filesrc")?, make("decodebin")?);
        let (convert, deinterlace, turn) = (make("videoconvert")?, make("deinterlace")?, make("videoflip")?);
        let (retime, sink) = (make("videorate")?, make("appsink")?);
        source.set_property("location", path);
        deinterlace.set_property_from_str("mode", "auto");
        // As the file says that it is to be held.
        turn.set_property_from_str("video-direction", "auto");
        retime.set_property("skip-to-first", true);
        let sink = sink.downcast::<AppSink>().map_err(|_| failed("there is no appsink".into()))?;
        sink.set_sync(false);
        sink.set_max_buffers(AHEAD);
        let formats = [VideoFormat::I420, VideoFormat::Rgb];
        sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(formats).framerate(rate).build()));
        source.link(&decoder).map_err(|error| failed(error.to_string()))?;
        gst::Element::link_many([&convert, &deinterlace, &turn, &retime, sink.upcast_ref()])
            .map_err(|error| failed(error.to_string()))?;
        let refused = Refused::default();
        watch(&decoder, &convert, &refused);
        // A failure is on the bus.
        let _ = pipeline.set_state(gst::State::Playing);
        Ok(Self { path: path.into(), pipeline, sink, size, cover: None, refused })
    }

    /// The next frame, RGB24 without padding; `None` at the end, and when it is not wanted any more.
    pub(super) fn next(&mut self, is_wanted: impl Fn() -> bool) -> Result<Option<Vec<u8>>, String> {
        let failed =
            |path: &Path, what: String| format!("video {} cannot be decoded: {what}", path.display());
        let refused = |refused: &Refused| refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let deadline = Instant::now() + PATIENCE;
        while is_wanted() {
            if let Some(sample) = self.sink.try_pull_sample(POLL) {
                return self.picture(&sample).map(Some).map_err(|what| failed(&self.path, what));
            }
            let error = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            // What was refused fails for that reason in the end; the reason is better.
            if let Some(text) = refused(&self.refused) {
                return Err(format!("video {} {text}", self.path.display()));
            }
            if let Some(gst::MessageView::Error(error)) = error.as_ref().map(|message| message.view()) {
                return Err(failed(&self.path, error.error().message().to_owned()));
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Err(failed(&self.path, format!("no frame came within {PATIENCE:?}")));
            }
        }
        Ok(None)
    }

    fn picture(&mut self, sample: &gst::Sample) -> Result<Vec<u8>, String> {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else {
            return Err("a frame has no format".into());
        };
        if self.cover.as_ref().is_none_or(|(known, _)| *known != caps) {
            check_caps(&caps)?;
            let info = VideoInfo::from_caps(&caps).map_err(|_| format!("{caps} is no raw video"))?;
            self.cover = Some((caps, Cover::new(&info, self.size)?));
        }
        let (_, cover) = self.cover.as_ref().expect("made above");
        cover.picture(buffer)
    }
}

/// Links the first video that the decoder finds; looks at sizes before anything is decoded.
fn watch(decoder: &gst::Element, to: &gst::Element, refused: &Refused) {
    let of_size = Arc::clone(refused);
    decoder.connect("autoplug-continue", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let checked = caps.map_or(Ok(()), |caps| check_caps(&caps));
        let goes_on = checked.is_ok();
        if let Err(text) = checked {
            refuse(&of_size, text);
        }
        Some(goes_on.to_value())
    });
    let input = to.static_pad("sink").map(|pad| pad.downgrade()).unwrap_or_default();
    let target = input.clone();
    decoder.connect_pad_added(move |_, pad| {
        let raw = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = raw.structure(0).is_some_and(|structure| structure.name() == "video/x-raw");
        let free = target.upgrade().filter(|sink| !sink.is_linked());
        if let (true, Some(sink)) = (is_video, free) {
            // What cannot be linked is missed when all pads are known.
            let _ = pad.link(&sink);
        }
    });
    let of_end = Arc::clone(refused);
    decoder.connect_no_more_pads(move |_| {
        if input.upgrade().is_some_and(|sink| !sink.is_linked()) {
            refuse(&of_end, "has no video in it".into());
        }
    });
}
