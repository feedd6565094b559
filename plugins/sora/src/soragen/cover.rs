//! Frames of any format and size as RGB24 of the video's size: scaled to cover it, and cropped in the middle.

use gst_video::prelude::*;
use gst_video::{VideoConverter, VideoConverterConfig, VideoFormat, VideoFrameRef, VideoInfo};

pub(super) struct Cover {
    info: VideoInfo,
    rgb: VideoInfo,
    converter: VideoConverter,
}

impl Cover {
    /// From frames with `info` to `width` × `height`.
    pub(super) fn new(info: &VideoInfo, (width, height): (u32, u32)) -> Result<Self, String> {
        // A converter keeps the rate.
        let rgb = VideoInfo::builder(VideoFormat::Rgb, width, height).fps(info.fps()).build();
        let rgb = rgb.map_err(|error| error.to_string())?;
        let (x, y, w, h) = covered(info, (width, height));
        let mut config = VideoConverterConfig::new();
        config.set_src_x(x as i32);
        config.set_src_y(y as i32);
        config.set_src_width(Some(w as i32));
        config.set_src_height(Some(h as i32));
        let converter = VideoConverter::new(info, &rgb, Some(config)).map_err(|error| error.to_string())?;
        Ok(Self { info: info.clone(), rgb, converter })
    }

    /// RGB24 without padding.
    pub(super) fn picture(&self, buffer: &gst::BufferRef) -> Result<Vec<u8>, String> {
        let from = VideoFrameRef::from_buffer_ref_readable(buffer, &self.info)
            .map_err(|_| format!("a buffer of {} bytes is no frame", buffer.size()))?;
        let mut out = gst::Buffer::with_size(self.rgb.size()).map_err(|error| error.to_string())?;
        let owned = out.get_mut().ok_or("a new buffer has one owner")?;
        let mut to =
            VideoFrameRef::from_buffer_ref_writable(owned, &self.rgb).map_err(|error| error.to_string())?;
        self.converter.frame_ref(&from, &mut to);
        let stride = to.plane_stride()[0].unsigned_abs() as usize;
        let data = to.plane_data(0).map_err(|error| error.to_string())?;
        let row = self.rgb.width() as usize * 3;
        let rows = data.chunks(stride).take(self.rgb.height() as usize);
        Ok(rows.flat_map(|line| &line[..row]).copied().collect())
    }
}

/// The largest part of the picture that has the wanted shape, in its middle: x, y, width, height. Pixels need not be
/// square; those of the result are.
fn covered(info: &VideoInfo, (width, height): (u32, u32)) -> (u64, u64, u64, u64) {
    let ratio = |value: i32| u64::from(value.unsigned_abs().max(1));
    let (w, h) = (u64::from(info.width()), u64::from(info.height()));
    // A pixel is `wide`:`high`; the part is `across` pixels for every `down`.
    let (wide, high) = (ratio(info.par().numer()), ratio(info.par().denom()));
    let (across, down) = (u64::from(width) * high, u64::from(height) * wide);
    let (part_w, part_h) =
        if w * down > h * across { ((h * across / down).max(1), h) } else { (w, (w * down / across).max(1)) };
    ((w - part_w) / 2, (h - part_h) / 2, part_w, part_h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_wanted_shape_is_taken() {
        gst::init().expect("GStreamer starts");
        let part = |width, height, par: (i32, i32), size| {
            let par = gst::Fraction::new(par.0, par.1);
            let info = VideoInfo::builder(VideoFormat::I420, width, height).par(par).build().expect("valid");
            covered(&info, size)
        };
        assert_eq!(part(640, 320, (1, 1), (64, 64)), (160, 0, 320, 320));
        assert_eq!(part(320, 640, (1, 1), (128, 64)), (0, 240, 320, 160));
        assert_eq!(part(1, 1, (1, 1), (128, 64)), (0, 0, 1, 1), "at least one pixel");
        // Shown as 1024x576: a square part of its full height is 405 pixels across.
        assert_eq!(part(720, 576, (64, 45), (64, 64)), (157, 0, 405, 576));
    }
}
