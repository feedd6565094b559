//! What these tests share: frames of a test clip, and what a detector says of frames.

use std::time::Duration;

use gst_check::Harness;
use gst_video::{VideoFormat, VideoInfo};
use sora_gst::FrameLayout;
use sora_watermark::{Detector, Key, LumaPlane, LumaRange, Options, Payload, SampleFormat, Verdict};

/// Ids of the tests' marks.
pub(crate) const ID: &str = "10112233445566778899aabb";
pub(crate) const OTHER_ID: &str = "10ffeeddccbbaa9988776655";

/// A second, at 25 frames per second.
pub(crate) const SECOND: usize = 25;
pub(crate) const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

pub(crate) fn payload(id: &str) -> Payload {
    id.parse().expect("a payload")
}

pub(crate) fn info(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
    sora_tests::init();
    let info = VideoInfo::builder(format, width, height).fps(gst::Fraction::new(25, 1));
    info.build().expect("valid parameters")
}

/// GRAY8 frame `number` of a clip with edges, texture, flat areas and something that moves.
pub(crate) fn picture(width: usize, height: usize, number: usize) -> Vec<u8> {
    let mut noise = 1u32;
    let mut bytes = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let texture = if y > height / 2 { (noise >> 28) as usize } else { 0 };
            let ball =
                (x + width - 3 * number % width) % width < width / 5 && y > height / 3 && y < height / 2;
            let value = 60 + 100 * x / width + texture + if ball { 50 } else { 0 };
            bytes.push(value as u8);
        }
    }
    bytes
}

/// A buffer of `bytes` that is shown at `time`.
pub(crate) fn buffer(bytes: Vec<u8>, time: Option<gst::ClockTime>) -> gst::Buffer {
    sora_tests::init();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    buffer.get_mut().expect("a new buffer has one owner").set_pts(time);
    buffer
}

/// The GRAY8 clip: `count` frames.
pub(crate) fn clip(width: usize, height: usize, count: usize) -> Vec<gst::Buffer> {
    let time = |number: usize| Some(FRAME * number as u64);
    (0..count).map(|number| buffer(picture(width, height, number), time(number))).collect()
}

pub(crate) fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().expect("a buffer can be read").to_vec()
}

/// The element that `line` describes between test pads, with caps of `info`.
pub(crate) fn harness(line: &str, info: &VideoInfo) -> Harness {
    let mut harness = Harness::new_parse(line);
    harness.set_src_caps(info.to_caps().expect("valid caps"));
    harness
}

/// The first element of the harness, which is a bin where the line has several.
pub(crate) fn element(harness: &Harness) -> gst::Element {
    use gst::prelude::*;
    let element = harness.element().expect("the harness has an element");
    match element.clone().downcast::<gst::Bin>() {
        Ok(bin) => bin.iterate_sorted().into_iter().flatten().last().expect("the bin is not empty"),
        Err(element) => element,
    }
}

/// The clip, marked by the element.
pub(crate) fn marked(line: &str, width: usize, height: usize, count: usize) -> Vec<gst::Buffer> {
    let mut harness = harness(line, &info(VideoFormat::Gray8, width as u32, height as u32));
    let frames = clip(width, height, count).into_iter();
    frames.map(|frame| harness.push_and_pull(frame).expect("the element passes every frame")).collect()
}

/// What a detector says of frames under these keys.
pub(crate) fn detect_under(keys: Vec<Key>, info: &VideoInfo, frames: &[gst::Buffer]) -> Verdict {
    let layout = FrameLayout::new(info).expect("one of our formats");
    let mut detector = Detector::new(keys, Options::default()).expect("valid options");
    let mut luma = Vec::new();
    for frame in frames {
        let plane = layout.map_readable(frame).expect("a whole frame");
        let time = Duration::from(frame.pts().expect("the frames have timestamps"));
        let (width, height, stride) = (layout.width(), layout.height(), plane.stride);
        let format = match layout.samples() {
            sora_gst::Samples::Luma8 => SampleFormat::U8,
            sora_gst::Samples::Luma10Low => SampleFormat::U10Low,
            sora_gst::Samples::Luma10High => SampleFormat::U10High,
            sora_gst::Samples::Rgb { bytes, red, green, blue } => {
                let pixel = sora_watermark::PixelLayout::new(bytes, red, green, blue).expect("a pixel");
                sora_watermark::luma_of_rgb(plane.data(), pixel, width, height, stride, &mut luma)
                    .expect("a whole frame");
                let plane = LumaPlane::new(&luma, SampleFormat::U8, width, height, width, LumaRange::Full);
                detector.push(&plane.expect("a whole frame"), time).expect("time goes on");
                continue;
            }
        };
        let plane = LumaPlane::new(plane.data(), format, width, height, stride, LumaRange::Limited);
        detector.push(&plane.expect("a whole frame"), time).expect("time goes on");
    }
    detector.verdict()
}

pub(crate) fn detect(info: &VideoInfo, frames: &[gst::Buffer]) -> Verdict {
    detect_under(vec![Key::public()], info, frames)
}
