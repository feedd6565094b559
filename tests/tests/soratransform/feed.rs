//! A pipeline that is fed frame by frame.

use std::time::{Duration, Instant};

use gst::prelude::*;
use sora_tests::{Model, PATIENCE, Playing, Report, play};

/// Frames as they come in and go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pts: Option<gst::ClockTime>,
    pub(crate) duration: Option<gst::ClockTime>,
    pub(crate) pixels: Vec<u8>,
}

/// `appsrc ! soratransform ! appsink`, all in RGB.
pub(crate) struct Feed {
    pub(crate) playing: Playing,
    source: gst_app::AppSrc,
    pushed: u64,
    /// Lives as long as the pipeline that reads it.
    _model: Option<Model>,
}

pub(crate) const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(125);

pub(crate) fn caps(width: i32, height: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .field("width", width)
        .field("height", height)
        .field("framerate", gst::Fraction::new(8, 1))
        .build()
}

impl Feed {
    /// Starts it.
    pub(crate) fn start(model: &Model, settings: &str) -> Self {
        let line = format!(
            "appsrc name=src format=time ! {} ! appsink name=sink sync=false",
            model.soratransform(settings)
        );
        let playing = play(&line);
        let source = playing.src().downcast::<gst_app::AppSrc>().expect("an appsrc");
        source.set_caps(Some(&caps(48, 32)));
        playing.pipeline.set_state(gst::State::Playing).expect("it starts");
        Self { playing, source, pushed: 0, _model: None }
    }

    /// Starts it with a model of its own.
    pub(crate) fn alone(settings: &str) -> Self {
        let model = Model::new();
        let mut feed = Self::start(&model, settings);
        feed._model = Some(model);
        feed
    }

    pub(crate) fn transform(&self) -> gst::Element {
        self.playing.pipeline.by_name("transform").expect("it is called so")
    }

    /// The format of the frames to come.
    pub(crate) fn set_caps(&self, caps: &gst::Caps) {
        self.source.set_caps(Some(caps));
    }

    /// Pushes frame after frame of these sizes, at their times, each another picture.
    pub(crate) fn push(&mut self, count: u64, width: i32, height: i32) {
        for _ in 0..count {
            let pts = FRAME * self.pushed;
            self.push_at(Some(pts), width, height);
        }
    }

    pub(crate) fn push_at(&mut self, pts: Option<gst::ClockTime>, width: i32, height: i32) {
        let stride = (width * 3 + 3) / 4 * 4;
        let mut buffer = gst::Buffer::from_mut_slice(picture(self.pushed, (stride * height) as usize));
        let fresh = buffer.get_mut().expect("one owner");
        fresh.set_pts(pts);
        fresh.set_duration(FRAME);
        self.source.push_buffer(buffer).expect("it is taken");
        self.pushed += 1;
    }

    /// Waits until so many frames have come out in all.
    pub(crate) fn wait_for_frames(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.playing.frames_so_far() < count {
            assert!(Instant::now() < deadline, "only {} of {count} frames", self.playing.frames_so_far());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// EOS, and what came of it.
    pub(crate) fn finish(mut self) -> Report {
        self.source.end_of_stream().expect("it is taken");
        self.playing.wait_for_end();
        self.playing.stop()
    }
}

pub(crate) fn picture(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| ((i * 7 + index * 31) % 251) as u8).collect()
}

/// What came out.
pub(crate) fn seen(report: &Report) -> Vec<Seen> {
    let of = |sample: &gst::Sample| {
        let buffer = sample.buffer().expect("a sample has a buffer");
        let pixels = buffer.map_readable().expect("readable").to_vec();
        Seen { pts: buffer.pts(), duration: buffer.duration(), pixels }
    };
    report.samples.iter().map(of).collect()
}
