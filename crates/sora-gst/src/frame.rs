//! The plane of a raw video buffer that an element reads or writes: luma, or packed RGB.
//!
//! Only that plane is mapped, and only after the buffer was seen to hold all of it: the caps of a
//! stream and the GstVideoMeta of a buffer say how the rows lie, but neither has to be true.

use gst::buffer::{BufferMap, Readable, Writable};
use gst_video::{VideoFormat, VideoInfo};

/// The formats whose frames can be seen this way.
pub const FORMATS: &[VideoFormat] = &[
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Gray8,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::P01010le,
    VideoFormat::I42010le,
    VideoFormat::I42210le,
    VideoFormat::Y44410le,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
];

/// What the samples of the plane are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// Luma, one byte each.
    Luma8,
    /// Luma of 10 bits, in the low bits of two bytes, little-endian.
    Luma10Low,
    /// Luma of 10 bits, in the high bits of two bytes, little-endian.
    Luma10High,
    /// Pixels of `bytes` bytes, with one byte for each colour at these offsets.
    Rgb {
        /// Bytes of a pixel.
        bytes: usize,
        /// Offset of red.
        red: usize,
        /// Offset of green.
        green: usize,
        /// Offset of blue.
        blue: usize,
    },
}

impl Samples {
    /// Bytes from one sample or pixel to the next.
    pub fn bytes(self) -> usize {
        match self {
            Self::Luma8 => 1,
            Self::Luma10Low | Self::Luma10High => 2,
            Self::Rgb { bytes, .. } => bytes,
        }
    }
}

/// Why a buffer is not a frame of the negotiated format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than the caps, or the buffer's own GstVideoMeta, ask for.
    #[error(
        "a buffer of {found} bytes came; {width}x{height} {format} with rows {stride} bytes apart takes {needed}"
    )]
    TooShort {
        /// Bytes of the buffer.
        found: usize,
        /// Bytes up to the end of the plane.
        needed: usize,
        /// Name of the format.
        format: &'static str,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes from row to row.
        stride: usize,
    },
    /// Rows that overlap or run backwards.
    #[error("the rows of a buffer are {stride} bytes apart; {width} pixels of {format} take {row}")]
    Stride {
        /// Bytes from row to row.
        stride: i32,
        /// Bytes of the pixels of a row.
        row: usize,
        /// Name of the format.
        format: &'static str,
        /// Width in pixels.
        width: usize,
    },
    /// The GstVideoMeta of a buffer contradicts the caps.
    #[error("a buffer says that it is {found}; the caps say {expected}")]
    Meta {
        /// Format and size in the meta.
        found: String,
        /// Format and size in the caps.
        expected: String,
    },
    /// The memory could not be mapped.
    #[error("a buffer could not be mapped: {0}")]
    Map(String),
}

/// How the frames of a stream lie in their buffers.
#[derive(Clone, Debug)]
pub struct FrameLayout {
    info: VideoInfo,
    samples: Samples,
}

/// The plane of one frame, mapped.
#[derive(Debug)]
pub struct Plane<M> {
    map: M,
    skip: usize,
    length: usize,
    /// Bytes from row to row, at least a row's pixels.
    pub stride: usize,
}

impl FrameLayout {
    /// The layout that caps describe; `None` where the format is not one of [`FORMATS`].
    pub fn new(info: &VideoInfo) -> Option<Self> {
        if !FORMATS.contains(&info.format()) {
            return None;
        }
        let format = info.format_info();
        let samples = if format.is_rgb() {
            let offset = |component: usize| format.poffset()[component] as usize;
            let bytes = usize::try_from(format.pixel_stride()[0]).ok()?;
            Samples::Rgb { bytes, red: offset(0), green: offset(1), blue: offset(2) }
        } else {
            match (format.depth()[0], format.shift()[0]) {
                (8, 0) => Samples::Luma8,
                (10, 0) => Samples::Luma10Low,
                (10, 6) => Samples::Luma10High,
                _ => return None,
            }
        };
        Some(Self { info: info.clone(), samples })
    }

    /// What the samples are.
    pub fn samples(&self) -> Samples {
        self.samples
    }

    /// What the caps say.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.info.width() as usize
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.info.height() as usize
    }

    /// Bytes of the pixels of a row.
    pub fn row_bytes(&self) -> usize {
        self.width() * self.samples.bytes()
    }

    /// Luma takes all code values; where the caps do not say, that of YUV does not.
    pub fn is_full_range(&self) -> bool {
        self.info.format_info().is_rgb()
            || self.info.colorimetry().range() == gst_video::VideoColorRange::Range0_255
    }

    /// The plane for reading.
    ///
    /// # Errors
    /// When the buffer does not hold it.
    pub fn map_readable<'b>(
        &self,
        buffer: &'b gst::BufferRef,
    ) -> Result<Plane<BufferMap<'b, Readable>>, FrameError> {
        let place = self.find(buffer)?;
        let map =
            buffer.map_range_readable(place.memories).map_err(|error| FrameError::Map(error.to_string()))?;
        Ok(Plane { map, skip: place.skip, length: place.length, stride: place.stride })
    }

    /// The plane for writing. Memory that others use too is copied first, by GStreamer's rules.
    ///
    /// # Errors
    /// When the buffer does not hold it.
    pub fn map_writable<'b>(
        &self,
        buffer: &'b mut gst::BufferRef,
    ) -> Result<Plane<BufferMap<'b, Writable>>, FrameError> {
        let place = self.find(buffer)?;
        let map =
            buffer.map_range_writable(place.memories).map_err(|error| FrameError::Map(error.to_string()))?;
        Ok(Plane { map, skip: place.skip, length: place.length, stride: place.stride })
    }

    fn find(&self, buffer: &gst::BufferRef) -> Result<Place, FrameError> {
        let (mut offset, mut stride) = (self.info.offset()[0], self.info.stride()[0]);
        if let Some(meta) = buffer.meta::<gst_video::VideoMeta>() {
            if meta.format() != self.info.format()
                || (meta.width() as usize) < self.width()
                || (meta.height() as usize) < self.height()
            {
                let named = |format: VideoFormat, width, height| format!("{width}x{height} {format}");
                return Err(FrameError::Meta {
                    found: named(meta.format(), meta.width(), meta.height()),
                    expected: named(self.info.format(), self.info.width(), self.info.height()),
                });
            }
            (offset, stride) = (meta.offset()[0], meta.stride()[0]);
        }
        let (format, width, row) = (self.info.format().to_str().as_str(), self.width(), self.row_bytes());
        let wide = usize::try_from(stride).ok().filter(|stride| *stride >= row);
        let stride = wide.ok_or(FrameError::Stride { stride, row, format, width })?;
        // The last row need not be padded.
        let length = stride.saturating_mul(self.height() - 1).saturating_add(row);
        let needed = offset.saturating_add(length);
        let too_short = FrameError::TooShort {
            found: buffer.size(),
            needed,
            format,
            width,
            height: self.height(),
            stride,
        };
        if needed > buffer.size() {
            return Err(too_short);
        }
        let (memories, skip) = buffer.find_memory(offset..needed).ok_or(too_short)?;
        Ok(Place { memories, skip, length, stride })
    }
}

/// Where the plane lies in a buffer.
struct Place {
    memories: std::ops::Range<usize>,
    skip: usize,
    length: usize,
    stride: usize,
}

impl<M: std::ops::Deref<Target = [u8]>> Plane<M> {
    /// The bytes from the first row's first pixel to the last row's last.
    pub fn data(&self) -> &[u8] {
        &self.map[self.skip..self.skip + self.length]
    }
}

impl<M: std::ops::DerefMut<Target = [u8]>> Plane<M> {
    /// The bytes from the first row's first pixel to the last row's last.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.skip..self.skip + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(format: VideoFormat, width: u32, height: u32) -> FrameLayout {
        gst::init().expect("GStreamer starts");
        let info = VideoInfo::builder(format, width, height).build().expect("valid parameters");
        FrameLayout::new(&info).expect("one of the formats")
    }

    #[test]
    fn every_format_is_luma_or_rgb() {
        for format in FORMATS {
            let layout = layout(*format, 33, 17);
            let rgb = matches!(layout.samples(), Samples::Rgb { .. });
            assert_eq!(rgb, layout.info().format_info().is_rgb(), "{format}");
            let buffer = gst::Buffer::with_size(layout.info().size()).expect("memory");
            let plane = layout.map_readable(&buffer).expect("a whole frame");
            assert_eq!(plane.data().len(), plane.stride * 16 + layout.row_bytes(), "{format}");
        }
        assert_eq!(
            layout(VideoFormat::Argb, 8, 8).samples(),
            Samples::Rgb { bytes: 4, red: 1, green: 2, blue: 3 }
        );
        assert_eq!(layout(VideoFormat::P01010le, 8, 8).samples(), Samples::Luma10High);
        assert_eq!(layout(VideoFormat::I42010le, 8, 8).samples(), Samples::Luma10Low);
        let other = VideoInfo::builder(VideoFormat::Yuy2, 8, 8).build().expect("valid parameters");
        assert!(FrameLayout::new(&other).is_none());
    }

    #[test]
    fn a_buffer_that_is_too_short_is_refused_with_both_sizes() {
        let layout = layout(VideoFormat::Gray8, 64, 32);
        let buffer = gst::Buffer::with_size(64 * 32 - 1).expect("memory");
        let error = layout.map_readable(&buffer).expect_err("a byte is missing").to_string();
        assert!(error.contains("2047 bytes") && error.contains("takes 2048"), "{error}");
    }

    #[test]
    fn a_meta_that_promises_more_than_there_is_is_refused() {
        let layout = layout(VideoFormat::Gray8, 64, 32);
        let with_meta = |offset: usize, stride: i32, width: u32| {
            let mut buffer = gst::Buffer::with_size(64 * 32).expect("memory");
            gst_video::VideoMeta::add_full(
                buffer.get_mut().expect("one owner"),
                gst_video::VideoFrameFlags::empty(),
                VideoFormat::Gray8,
                width,
                32,
                &[offset],
                &[stride],
            )
            .expect("a meta");
            layout.map_readable(&buffer).map(|plane| plane.data().len()).map_err(|error| error.to_string())
        };
        assert_eq!(with_meta(0, 64, 64), Ok(2048));
        for (offset, stride, width, part) in [
            (1, 64, 64, "takes 2049"),
            (0, 65, 64, "65 bytes apart"),
            (0, 63, 64, "take 64"),
            (0, -64, 64, "-64 bytes apart"),
            (0, 64, 63, "63x32"),
        ] {
            let error = with_meta(offset, stride, width).expect_err("a lie");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_plane_may_lie_in_several_memories() {
        let layout = layout(VideoFormat::Gray8, 4, 4);
        let mut buffer = gst::Buffer::new();
        let half = |first: u8| gst::Memory::from_slice((first..first + 8).collect::<Vec<_>>());
        let owned = buffer.get_mut().expect("one owner");
        owned.append_memory(half(0));
        owned.append_memory(half(8));
        let plane = layout.map_readable(&buffer).expect("a whole frame");
        assert_eq!(plane.data(), (0..16).collect::<Vec<u8>>());
    }
}
