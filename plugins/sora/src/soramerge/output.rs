//! What goes out: one format, one rate, times without a hole.

use gst_video::{VideoConverter, VideoFrameRef, VideoInfo};

use super::retime::{Retime, time_of};
use crate::fit::{Pool, copy_particulars, padded};

/// Caps for the output: those of the first frames, where downstream takes them; else the nearest that it takes. A rate
/// of 0/1 is none: then it is `rate`.
pub(super) fn caps(first: &VideoInfo, rate: gst::Fraction, peer: &gst::CapsRef) -> Result<gst::Caps, String> {
    let mut wanted = first.to_caps().map_err(|error| error.to_string())?;
    let rate = if first.fps().numer() > 0 { first.fps() } else { rate };
    wanted.make_mut().set("framerate", rate);
    if peer.can_intersect(&wanted) {
        return Ok(wanted);
    }
    let raw = gst_video::VideoCapsBuilder::new().format_list(formats()).build();
    let mut caps = peer.intersect_with_mode(&raw, gst::CapsIntersectMode::First);
    if caps.is_empty() {
        return Err(format!("downstream takes {peer}, which is no raw video in system memory"));
    }
    caps.truncate();
    let structure = caps.make_mut().structure_mut(0).expect("truncated to one");
    structure.fixate_field_str("format", first.format().to_str());
    structure.fixate_field_nearest_int("width", first.width() as i32);
    structure.fixate_field_nearest_int("height", first.height() as i32);
    structure.fixate_field_nearest_fraction("framerate", rate);
    if structure.has_field("pixel-aspect-ratio") {
        structure.fixate_field_nearest_fraction("pixel-aspect-ratio", first.par());
    }
    caps.fixate();
    Ok(caps)
}

/// What frames may come in and go out as: nothing is converted to a palette.
pub(super) fn formats() -> impl IntoIterator<Item = gst_video::VideoFormat> {
    use gst_video::VideoFormat::{Encoded, I420, Nv12, Rgb, Rgb8p, Rgba};
    // What encoders and cameras have comes first: sources that can make anything take the first.
    const FIRST: [gst_video::VideoFormat; 4] = [I420, Nv12, Rgb, Rgba];
    let others = gst_video::VideoFormat::iter_raw()
        .filter(|format| !FIRST.contains(format) && ![Encoded, Rgb8p].contains(format));
    FIRST.into_iter().chain(others)
}

/// Frames of one format in that of the output.
struct Adapt {
    info: VideoInfo,
    out: VideoInfo,
    /// `None` where the very buffers pass.
    conversion: Option<(VideoConverter, Pool)>,
}

impl Adapt {
    fn new(
        caps: &gst::Caps,
        info: &VideoInfo,
        out_caps: &gst::Caps,
        out: &VideoInfo,
    ) -> Result<Self, String> {
        let same =
            |a: &VideoInfo| (a.format(), a.width(), a.height(), a.par(), a.colorimetry(), a.chroma_site());
        let conversion = if same(info) == same(out) {
            None
        } else {
            let failed = || format!("video with {caps} cannot be converted to {out_caps}");
            Some((padded(info, out).ok_or_else(failed)?, Pool::new(out_caps, out)?))
        };
        Ok(Self { info: info.clone(), out: out.clone(), conversion })
    }

    fn frame(&mut self, buffer: gst::Buffer) -> Result<gst::Buffer, String> {
        let (info, out) = (&self.info, &self.out);
        let from = VideoFrameRef::from_buffer_ref_readable(&buffer, info).map_err(|_| {
            let (format, width, height) = (info.format(), info.width(), info.height());
            format!("a buffer of {} bytes is no {format} frame of {width}x{height}", buffer.size())
        })?;
        let Some((converter, pool)) = &mut self.conversion else {
            drop(from);
            return Ok(buffer);
        };
        let mut converted = pool.frame()?;
        // A buffer fresh from the pool has one owner.
        let fresh = converted.make_mut();
        {
            let mut to = VideoFrameRef::from_buffer_ref_writable(fresh, out)
                .map_err(|_| "a buffer of the pool cannot be written")?;
            converter.frame_ref(&from, &mut to);
        }
        copy_particulars(&buffer, fresh);
        Ok(converted)
    }
}

/// One input on its way to the output.
pub(super) struct Passing {
    /// The format of the frames that come, once it is known.
    pub(super) format: Option<(gst::Caps, VideoInfo)>,
    adapt: Option<Adapt>,
    retime: Option<Retime>,
    last: Option<gst::Buffer>,
}

/// What becomes of a frame that came in.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// So many frames of the output are left out first.
    pub(super) hole: u64,
    /// It itself, and those before it that are shown again for it.
    pub(super) frames: Vec<gst::Buffer>,
}

impl Passing {
    pub(super) fn new() -> Self {
        Self { format: None, adapt: None, retime: None, last: None }
    }

    /// The frames after this are of this format.
    pub(super) fn set_format(&mut self, caps: gst::Caps, info: VideoInfo) {
        self.format = Some((caps, info));
        self.adapt = None;
    }

    /// Whether a frame has come.
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Takes a frame in; what comes of it is of the output's format, and not stamped yet.
    pub(super) fn arrived(
        &mut self,
        buffer: gst::Buffer,
        time: Option<gst::ClockTime>,
        (out_caps, out): (&gst::Caps, &VideoInfo),
    ) -> Result<Arrived, String> {
        let (caps, info) = self.format.as_ref().ok_or("A frame came before its format was known.")?;
        let adapt = match &mut self.adapt {
            Some(adapt) => adapt,
            none => none.insert(Adapt::new(caps, info, out_caps, out)?),
        };
        let retime = self.retime.get_or_insert_with(|| Retime::new(out.fps()));
        let due = retime.frame(time, buffer.duration());
        let mut frames: Vec<_> = self.last.iter().cycle().take(due.repeats as usize).cloned().collect();
        if due.shown || self.last.is_none() {
            let frame = adapt.frame(buffer)?;
            frames.push(frame.clone());
            self.last = Some(frame);
        }
        Ok(Arrived { hole: due.hole, frames })
    }

    /// The last frame for as long as it lasts.
    pub(super) fn finish(&mut self) -> Vec<gst::Buffer> {
        let repeats = self.retime.as_mut().map_or(0, Retime::finish);
        self.last.iter().cycle().take(repeats as usize).cloned().collect()
    }
}

/// Numbers frames and stamps them.
pub(super) struct Line {
    rate: gst::Fraction,
    /// Running time of the first frame.
    base: gst::ClockTime,
    next: u64,
    discont: bool,
}

impl Line {
    pub(super) fn new(rate: gst::Fraction, base: gst::ClockTime) -> Self {
        Self { rate, base, next: 0, discont: true }
    }

    /// Leaves a hole of so many frames.
    pub(super) fn skip(&mut self, frames: u64) {
        self.next += frames;
        self.discont |= frames > 0;
    }

    /// A frame in its place.
    pub(super) fn stamped(&mut self, mut buffer: gst::Buffer) -> gst::Buffer {
        let (start, end) = (time_of(self.next, self.rate), time_of(self.next + 1, self.rate));
        let fresh = buffer.make_mut();
        fresh.set_pts(self.base + start);
        fresh.set_dts(None);
        fresh.set_duration(end - start);
        fresh.set_offset(self.next);
        fresh.set_offset_end(self.next + 1);
        fresh.unset_flags(gst::BufferFlags::DISCONT);
        if std::mem::take(&mut self.discont) {
            fresh.set_flags(gst::BufferFlags::DISCONT);
        }
        self.next += 1;
        buffer
    }

    /// When the frames so far end.
    pub(super) fn end(&self) -> gst::ClockTime {
        self.base + time_of(self.next, self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoFormat;

    fn first() -> VideoInfo {
        gst::init().expect("GStreamer starts");
        let builder = VideoInfo::builder(VideoFormat::I420, 320, 180);
        builder.fps(gst::Fraction::new(25, 1)).build().expect("valid")
    }

    fn chosen(peer: &str) -> Result<VideoInfo, String> {
        let info = first();
        let peer: gst::Caps = peer.parse().expect("caps");
        caps(&info, gst::Fraction::new(8, 1), &peer).map(|caps| VideoInfo::from_caps(&caps).expect("video"))
    }

    #[test]
    fn the_output_is_as_the_first_clip_unless_downstream_asks_for_something_else() {
        let of = |info: &VideoInfo| (info.format(), info.width(), info.height(), info.fps());
        let rate = |n| gst::Fraction::new(n, 1);
        for (peer, expected) in [
            ("video/x-raw", (VideoFormat::I420, 320, 180, rate(25))),
            ("video/x-raw,width=640,framerate=30/1", (VideoFormat::I420, 640, 180, rate(30))),
            ("video/x-raw,format={RGB,NV12}", (VideoFormat::Rgb, 320, 180, rate(25))),
            ("image/png;video/x-raw,width=[1,100]", (VideoFormat::I420, 100, 180, rate(25))),
        ] {
            assert_eq!(of(&chosen(peer).expect("possible")), expected, "{peer}");
        }
        let error = chosen("image/png").expect_err("no raw video");
        assert!(error.contains("image/png"), "{error}");
    }

    #[test]
    fn frames_are_numbered_from_the_first_ones_time_on() {
        let seconds = gst::ClockTime::from_seconds;
        let info = first();
        let caps = info.to_caps().expect("caps");
        let out = VideoInfo::builder(VideoFormat::Rgb, 160, 160).fps(gst::Fraction::new(2, 1));
        let out = out.build().expect("valid");
        let out_caps = out.to_caps().expect("caps");
        let mut passing = Passing::new();
        passing.set_format(caps, info.clone());
        let mut line = Line::new(out.fps(), seconds(5));
        let mut pts = Vec::new();
        for time in [5, 6, 9] {
            let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
            buffer.make_mut().set_duration(seconds(1));
            let arrived = passing.arrived(buffer, Some(seconds(time)), (&out_caps, &out)).expect("a frame");
            line.skip(arrived.hole);
            for frame in arrived.frames {
                assert_eq!(frame.size(), out.size());
                pts.push(line.stamped(frame).pts().expect("stamped").mseconds());
            }
        }
        pts.extend(passing.finish().into_iter().map(|f| line.stamped(f).pts().expect("stamped").mseconds()));
        // Twice as many frames as come in; a hole of two seconds stays one.
        assert_eq!(pts, [5000, 5500, 6000, 9000, 9500]);
        assert_eq!(line.end(), seconds(10));
    }
}
