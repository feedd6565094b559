//! Between the video's size and the size that the model works at: scaled and padded there, cropped and scaled back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst_video::prelude::*;
use gst_video::{VideoConverter, VideoConverterConfig, VideoFormat, VideoFrame, VideoInfo};
use sora_model::defaults::SizeRules;

/// Opaque black.
const BORDER: u32 = 0xff00_0000;

/// A rectangle in the working picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rectangle {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// The largest rectangle of the aspect `width`:`height` in the middle of a picture of `outer`; at least one pixel.
fn inscribed((width, height): (u64, u64), outer: (u32, u32)) -> Rectangle {
    let (outer_width, outer_height) = (u64::from(outer.0), u64::from(outer.1));
    let rounded = |a: u64, b: u64, c: u64| ((a * b + c / 2) / c).max(1);
    // Sides fit into u32: neither exceeds the outer one.
    let (w, h) = if outer_width * height <= outer_height * width {
        (outer_width, rounded(outer_width, height, width).min(outer_height))
    } else {
        (rounded(outer_height, width, height).min(outer_width), outer_height)
    };
    let (w, h) = (w as u32, h as u32);
    Rectangle { x: (outer.0 - w) / 2, y: (outer.1 - h) / 2, width: w, height: h }
}

/// Width and height as they are shown: pixels need not be square.
fn display_aspect(info: &VideoInfo) -> (u64, u64) {
    let par = info.par();
    let side = |pixels: u32, ratio: i32| u64::from(pixels) * u64::from(ratio.unsigned_abs().max(1));
    (side(info.width(), par.numer()), side(info.height(), par.denom()))
}

/// The size to work at: sides that are given are taken, rounded as the model rounds; with none given, that size of
/// at most the native one's area which leaves the least of itself to the padding.
pub(crate) fn working_size(
    info: &VideoInfo,
    (width, height): (u32, u32),
    rules: &SizeRules,
    native: (u32, u32),
) -> (u32, u32) {
    let aspect = display_aspect(info);
    match (width, height) {
        (0, 0) => {
            let (step_width, step_height) = rules.size_multiple();
            let area = u64::from(native.0) * u64::from(native.1);
            let (max_width, max_height) = rules.max_size();
            let mut best = (0, native);
            for width in (step_width..=max_width).step_by(step_width as usize) {
                let most = (area / u64::from(width)).min(u64::from(max_height)) as u32;
                for height in (step_height..=most).step_by(step_height as usize) {
                    let inner = inscribed(aspect, (width, height));
                    let covered = u64::from(inner.width) * u64::from(inner.height);
                    if covered > best.0 {
                        best = (covered, (width, height));
                    }
                }
            }
            best.1
        }
        (width, 0) => rules.nearest_size(width.into(), (u64::from(width) * aspect.1 / aspect.0) as i64),
        (0, height) => rules.nearest_size((u64::from(height) * aspect.0 / aspect.1) as i64, height.into()),
        (width, height) => rules.nearest_size(width.into(), height.into()),
    }
}

/// Converts frames of one format to the working picture, RGB24, and back.
pub(crate) struct Fit {
    info: VideoInfo,
    working: VideoInfo,
    // A converter keeps lines of the frame that it is at: it is one thread's at a time, whatever its type says.
    there: Mutex<VideoConverter>,
    back: Mutex<VideoConverter>,
    pool: Pool,
    /// What converting the last frame back took, in nanoseconds.
    time_back: AtomicU64,
}

/// Where new frames come from.
pub(crate) struct Pool(gst_video::VideoBufferPool);

impl Drop for Pool {
    fn drop(&mut self) {
        // Its buffers go when their last user is done with them.
        let _ = self.0.set_active(false);
    }
}

impl Pool {
    /// For frames with these caps.
    pub(crate) fn new(caps: &gst::Caps, info: &VideoInfo) -> Result<Self, String> {
        let failed = |_| format!("video with {caps} cannot be held in buffers of a pool");
        let pool = gst_video::VideoBufferPool::new();
        let mut config = pool.config();
        let bytes = u32::try_from(info.size()).map_err(|_| format!("video with {caps} is too large"))?;
        config.set_params(Some(caps), bytes, 0, 0);
        pool.set_config(config).map_err(failed)?;
        pool.set_active(true).map_err(failed)?;
        Ok(Self(pool))
    }

    /// A frame to be written.
    pub(crate) fn frame(&self) -> Result<gst::Buffer, String> {
        self.0.acquire_buffer(None).map_err(|error| format!("no buffer for a frame: {error}"))
    }
}

/// Converts frames to another format and size, scaled as a whole into the middle of a black picture. Pixels of either
/// need not be square.
pub(crate) fn padded(from: &VideoInfo, to: &VideoInfo) -> Option<VideoConverter> {
    let inner = inner(from, to);
    let pixels = |value: u32| value as i32;
    let mut config = VideoConverterConfig::new();
    config.set_dest_x(pixels(inner.x));
    config.set_dest_y(pixels(inner.y));
    config.set_dest_width(Some(pixels(inner.width)));
    config.set_dest_height(Some(pixels(inner.height)));
    config.set_fill_border(true);
    config.set_border_argb(BORDER);
    // A converter keeps the rate: that of frames is their own business.
    let mut caps = from.to_caps().ok()?;
    caps.make_mut().set("framerate", to.fps());
    VideoConverter::new(&VideoInfo::from_caps(&caps).ok()?, to, Some(config)).ok()
}

/// Where a picture of one kind lies in one of another.
fn inner(from: &VideoInfo, to: &VideoInfo) -> Rectangle {
    let (width, height) = display_aspect(from);
    let ratio = |value: i32| u64::from(value.unsigned_abs().max(1));
    inscribed((width * ratio(to.par().denom()), height * ratio(to.par().numer())), (to.width(), to.height()))
}

fn locked(converter: &Mutex<VideoConverter>) -> MutexGuard<'_, VideoConverter> {
    // A conversion that panicked leaves nothing that the next one reads.
    converter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fit {
    /// For video with `info` and a working size.
    pub(crate) fn new(caps: &gst::Caps, info: &VideoInfo, size: (u32, u32)) -> Result<Self, String> {
        let failed = |what: &str| format!("video with {caps} cannot be converted {what}");
        let working = VideoInfo::builder(VideoFormat::Rgb, size.0, size.1)
            .fps(info.fps())
            .build()
            .map_err(|_| failed("to RGB of the working size"))?;
        let there = padded(info, &working).ok_or_else(|| failed("to RGB"))?;
        let inner = inner(info, &working);
        let pixels = |value: u32| value as i32;
        let mut config = VideoConverterConfig::new();
        config.set_src_x(pixels(inner.x));
        config.set_src_y(pixels(inner.y));
        config.set_src_width(Some(pixels(inner.width)));
        config.set_src_height(Some(pixels(inner.height)));
        let back = VideoConverter::new(&working, info, Some(config)).map_err(|_| failed("from RGB"))?;
        let pool = Pool::new(caps, info)?;
        let (there, back, time_back) = (Mutex::new(there), Mutex::new(back), AtomicU64::new(0));
        Ok(Self { info: info.clone(), working, there, back, pool, time_back })
    }

    /// The format of the frames.
    pub(crate) fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// What converting the last frame back took; nothing before the first.
    pub(crate) fn time_back(&self) -> Duration {
        Duration::from_nanos(self.time_back.load(Ordering::Relaxed))
    }

    /// Width and height of the working picture.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.working.width(), self.working.height())
    }

    /// Bytes of a working picture.
    pub(crate) fn frame_size(&self) -> usize {
        self.working.width() as usize * self.working.height() as usize * 3
    }

    /// Appends the working picture of a frame, RGB24 without padding.
    pub(crate) fn append(&self, buffer: &gst::BufferRef, pixels: &mut Vec<u8>) -> Result<(), String> {
        let from = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info).map_err(|_| {
            let (format, width, height) = (self.info.format(), self.info.width(), self.info.height());
            format!("a buffer of {} bytes is no {format} frame of {width}x{height}", buffer.size())
        })?;
        let mut picture = gst::Buffer::with_size(self.working.size()).map_err(|_| "no memory for a frame")?;
        {
            let picture = picture.get_mut().expect("a new buffer has one owner");
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(picture, &self.working)
                .map_err(|_| "the working picture cannot be written")?;
            locked(&self.there).frame_ref(&from, &mut to);
        }
        let frame = VideoFrame::from_buffer_readable(picture, &self.working)
            .map_err(|_| "the working picture cannot be read")?;
        let stride = frame.plane_stride()[0].unsigned_abs() as usize;
        let data = frame.plane_data(0).map_err(|error| error.to_string())?;
        let row = self.working.width() as usize * 3;
        for line in data.chunks(stride).take(self.working.height() as usize) {
            pixels.extend_from_slice(&line[..row]);
        }
        Ok(())
    }

    /// A new frame of the video's format and size from a working picture, with what `like` says of its own.
    pub(crate) fn frame(&self, pixels: &[u8], like: &gst::BufferRef) -> Result<gst::Buffer, String> {
        let started = Instant::now();
        let mut picture = gst::Buffer::with_size(self.working.size()).map_err(|_| "no memory for a frame")?;
        {
            let picture = picture.get_mut().expect("a new buffer has one owner");
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(picture, &self.working)
                .map_err(|_| "the working picture cannot be written")?;
            let stride = to.plane_stride()[0].unsigned_abs() as usize;
            let row = self.working.width() as usize * 3;
            let data = to.plane_data_mut(0).map_err(|error| error.to_string())?;
            for (line, from) in data.chunks_mut(stride).zip(pixels.chunks(row)) {
                line[..from.len()].copy_from_slice(from);
            }
        }
        let mut buffer = self.pool.frame()?;
        // A buffer fresh from the pool has one owner.
        let out = buffer.make_mut();
        {
            let from = gst_video::VideoFrameRef::from_buffer_ref_readable(&picture, &self.working)
                .map_err(|_| "the working picture cannot be read")?;
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(out, &self.info)
                .map_err(|_| "a buffer of the pool cannot be written")?;
            locked(&self.back).frame_ref(&from, &mut to);
        }
        copy_particulars(like, out);
        let time = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.time_back.store(time, Ordering::Relaxed);
        Ok(buffer)
    }
}

/// Flags, times, offsets and metas; not those metas that describe the memory, which is another.
pub(crate) fn copy_particulars(from: &gst::BufferRef, to: &mut gst::BufferRef) {
    let flags = gst::BufferFlags::TAG_MEMORY | gst::BufferFlags::CORRUPTED;
    to.set_flags(from.flags() - flags);
    to.set_pts(from.pts());
    to.set_dts(from.dts());
    to.set_duration(from.duration());
    to.set_offset(from.offset());
    to.set_offset_end(from.offset_end());
    for meta in from.iter_meta::<gst::Meta>() {
        if !meta.has_tag::<gst::meta::tags::Memory>() {
            // A meta that cannot be copied stays behind.
            let _ = meta.transform(to, &gst::meta::MetaTransformCopy::new(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_model::config::{TransformerConfig, VaeConfig};

    /// Steps of 32 pixels, as sora-tiny has them.
    fn rules() -> SizeRules {
        let transformer = TransformerConfig { patch_size: [1, 4, 4], ..TransformerConfig::default() };
        SizeRules::new(&transformer, &VaeConfig::default())
    }

    fn info(width: u32, height: u32, par: (i32, i32)) -> VideoInfo {
        gst::init().expect("GStreamer starts");
        let par = gst::Fraction::new(par.0, par.1);
        VideoInfo::builder(VideoFormat::I420, width, height).par(par).build().expect("valid")
    }

    #[test]
    fn the_working_size_follows_the_shape_of_the_video() {
        let size = |width, height, par| working_size(&info(width, height, par), (0, 0), &rules(), (128, 128));
        assert_eq!(size(640, 640, (1, 1)), (128, 128));
        assert_eq!(size(1280, 720, (1, 1)), (160, 96));
        assert_eq!(size(7680, 4320, (1, 1)), (160, 96));
        assert_eq!(size(480, 800, (1, 1)), (96, 160));
        assert_eq!(size(720, 576, (64, 45)), (160, 96), "wide pixels make a wide picture");
        assert_eq!(size(1, 1, (1, 1)), (128, 128));
    }

    #[test]
    fn a_working_size_that_is_given_is_rounded_to_the_models_steps() {
        let size = |given| working_size(&info(640, 480, (1, 1)), given, &rules(), (128, 128));
        assert_eq!(size((256, 256)), (256, 256));
        assert_eq!(size((100, 70)), (96, 64));
        assert_eq!(size((256, 0)), (256, 192));
        assert_eq!(size((0, 96)), (128, 96));
    }

    #[test]
    fn pictures_are_padded_not_distorted() {
        let inner = |aspect, outer| {
            let Rectangle { x, y, width, height } = inscribed(aspect, outer);
            (x, y, width, height)
        };
        assert_eq!(inner((4, 3), (128, 128)), (0, 16, 128, 96));
        assert_eq!(inner((3, 4), (128, 128)), (16, 0, 96, 128));
        assert_eq!(inner((1, 1), (128, 128)), (0, 0, 128, 128));
        assert_eq!(inner((100_000, 1), (128, 128)), (0, 63, 128, 1), "at least one pixel");
    }

    #[test]
    fn there_and_back_keeps_the_picture() {
        let info = info(64, 48, (1, 1));
        let caps = info.to_caps().expect("caps");
        let fit = Fit::new(&caps, &info, (128, 128)).expect("a conversion");
        let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
        {
            let buffer = buffer.get_mut().expect("one owner");
            buffer.set_pts(gst::ClockTime::from_seconds(7));
            let mut map = buffer.map_writable().expect("writable");
            // A ramp in luma, grey.
            for (i, byte) in map.iter_mut().enumerate() {
                *byte = if i < 64 * 48 { 40 + (i % 64) as u8 * 2 } else { 128 };
            }
        }
        let mut pixels = Vec::new();
        fit.append(&buffer, &mut pixels).expect("a whole frame");
        assert_eq!(pixels.len(), fit.frame_size());
        assert_eq!(pixels[..3], [0, 0, 0], "the padding is black");
        let back = fit.frame(&pixels, &buffer).expect("a frame");
        assert_eq!(back.pts(), buffer.pts());
        let (a, b) = (buffer.map_readable().expect("a map"), back.map_readable().expect("a map"));
        let worst = a.iter().zip(b.iter()).take(64 * 48).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.expect("pixels") <= 6, "{worst:?}");
        let short = gst::Buffer::with_size(7).expect("memory");
        let error = fit.append(&short, &mut pixels).expect_err("too short");
        assert!(error.contains("7 bytes is no I420 frame of 64x48"), "{error}");
    }

    #[test]
    fn threads_that_convert_at_the_same_time_get_what_one_gets_alone() {
        let info = info(320, 240, (1, 1));
        let caps = info.to_caps().expect("caps");
        let fit = Fit::new(&caps, &info, (128, 96)).expect("a conversion");
        let frame = |shade: u8| {
            let bytes = (0..info.size()).map(|i| (i % 251) as u8 ^ shade).collect::<Vec<_>>();
            gst::Buffer::from_slice(bytes)
        };
        let there_and_back = |buffer: &gst::Buffer| {
            let mut pixels = Vec::new();
            fit.append(buffer, &mut pixels).expect("a whole frame");
            let back = fit.frame(&pixels, buffer).expect("a frame");
            let back = back.map_readable().expect("a map").to_vec();
            (pixels, back)
        };
        let frames = [frame(0), frame(85)];
        let alone = frames.each_ref().map(there_and_back);
        std::thread::scope(|scope| {
            for (buffer, alone) in frames.iter().zip(&alone) {
                scope.spawn(move || (0..200).for_each(|_| assert!(there_and_back(buffer) == *alone)));
            }
        });
    }
}
