//! RGB frames to the raw formats of the element. Plain functions on bytes; no GStreamer here.

use multiversion::multiversion;

/// Frame in RGB24, `[height, width, 3]`, no padding. Width and height are even.
#[derive(Clone, Copy)]
pub(super) struct Rgb<'a> {
    pub(super) pixels: &'a [u8],
    pub(super) width: usize,
    pub(super) height: usize,
}

impl<'a> Rgb<'a> {
    fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        self.pixels.chunks_exact(self.width * 3).take(self.height)
    }
}

/// One plane to write: bytes and bytes per row.
pub(super) struct Plane<'a> {
    pub(super) data: &'a mut [u8],
    pub(super) stride: usize,
}

impl Plane<'_> {
    fn rows(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.data.chunks_mut(self.stride)
    }
}

/// Where a chroma sample lies among the four luma samples it stands for; always between the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChromaSite {
    /// Between the columns (MPEG-1, JPEG).
    Centre,
    /// On the left column (MPEG-2, H.264).
    Left,
}

/// Bits after the point of the coefficients.
const FRACTION: u32 = 8;

/// R'G'B' to Y'CbCr in 8 bits (ITU-R BT.601, BT.709 and relatives).
///
/// With the precision and the roundings of GStreamer's own converter, so that I420 from the element
/// is what RGB from the element and a videoconvert behind it would give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    y: [i32; 3],
    cb: [i32; 3],
    cr: [i32; 3],
    /// Y' of black.
    black: i32,
}

impl Matrix {
    /// From the shares of red and blue in luma; `full_range` uses 0 to 255, else Y' is 16 to 235 and
    /// chroma 16 to 240.
    pub(super) fn new(kr: f64, kb: f64, full_range: bool) -> Self {
        let (luma, chroma, black) =
            if full_range { (1.0, 1.0, 0) } else { (219.0 / 255.0, 224.0 / 255.0, 16) };
        let kg = 1.0 - kr - kb;
        let fixed = |shares: [f64; 3], scale: f64| {
            let one = f64::from(1 << FRACTION);
            shares.map(|share| (share * scale * one).round_ties_even() as i32)
        };
        Self {
            y: fixed([kr, kg, kb], luma),
            cb: fixed([-kr, -kg, 1.0 - kb], chroma * 0.5 / (1.0 - kb)),
            cr: fixed([1.0 - kr, -kg, -kb], chroma * 0.5 / (1.0 - kr)),
            black,
        }
    }
}

/// A row of pixels by channels, and what is made of them.
struct Row {
    red: Vec<i32>,
    green: Vec<i32>,
    blue: Vec<i32>,
}

impl Row {
    fn new(width: usize) -> Self {
        let channel = || vec![0; width];
        Self { red: channel(), green: channel(), blue: channel() }
    }

    fn split(&mut self, pixels: &[u8]) {
        let channels = self.red.iter_mut().zip(&mut self.green).zip(&mut self.blue);
        for (((red, green), blue), pixel) in channels.zip(pixels.chunks_exact(3)) {
            (*red, *green, *blue) = (pixel[0].into(), pixel[1].into(), pixel[2].into());
        }
    }

    /// The sum of the channels by these weights, rounded down, and `offset`.
    fn weigh(&self, weights: &[i32; 3], offset: i32, out: &mut [u8]) {
        weigh([&self.red, &self.green, &self.blue], weights, offset, out);
    }
}

#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn weigh([red, green, blue]: [&[i32]; 3], weights: &[i32; 3], offset: i32, out: &mut [u8]) {
    for (((red, green), blue), out) in red.iter().zip(green).zip(blue).zip(out) {
        let sum = weights[0] * red + weights[1] * green + weights[2] * blue;
        *out = ((sum >> FRACTION) + offset).clamp(0, 255) as u8;
    }
}

/// Copies rows.
pub(super) fn to_rgb(rgb: Rgb<'_>, mut out: Plane<'_>) {
    for (from, to) in rgb.rows().zip(out.rows()) {
        to[..from.len()].copy_from_slice(from);
    }
}

/// Adds an opaque alpha.
pub(super) fn to_rgba(rgb: Rgb<'_>, mut out: Plane<'_>) {
    for (from, to) in rgb.rows().zip(out.rows()) {
        for (pixel, rgba) in from.chunks_exact(3).zip(to.chunks_exact_mut(4)) {
            rgba[..3].copy_from_slice(pixel);
            rgba[3] = 255;
        }
    }
}

/// Planes Y, Cb, Cr; chroma at half width and height.
pub(super) fn to_i420(rgb: Rgb<'_>, matrix: &Matrix, site: ChromaSite, [y, mut cb, mut cr]: [Plane<'_>; 3]) {
    let mut rows = cb.rows().zip(cr.rows());
    to_yuv(rgb, matrix, site, y, |from_cb, from_cr| {
        if let Some((cb, cr)) = rows.next() {
            cb[..from_cb.len()].copy_from_slice(from_cb);
            cr[..from_cr.len()].copy_from_slice(from_cr);
        }
    });
}

/// Planes Y and CbCr interleaved; chroma at half width and height.
pub(super) fn to_nv12(rgb: Rgb<'_>, matrix: &Matrix, site: ChromaSite, [y, mut cbcr]: [Plane<'_>; 2]) {
    let mut rows = cbcr.rows();
    to_yuv(rgb, matrix, site, y, |from_cb, from_cr| {
        let pairs = rows.next().into_iter().flat_map(|row| row.chunks_exact_mut(2));
        for (pair, (cb, cr)) in pairs.zip(from_cb.iter().zip(from_cr)) {
            pair.copy_from_slice(&[*cb, *cr]);
        }
    });
}

/// Writes luma, and hands out the rows of Cb and Cr, at half width, of each two rows.
fn to_yuv(
    rgb: Rgb<'_>,
    matrix: &Matrix,
    site: ChromaSite,
    mut y: Plane<'_>,
    mut chroma: impl FnMut(&[u8], &[u8]),
) {
    let mut row = Row::new(rgb.width);
    // Of the upper and the lower row.
    let whole = || [vec![0; rgb.width], vec![0; rgb.width]];
    let (mut cb, mut cr) = (whole(), whole());
    let [mut half_cb, mut half_cr] = [(); 2].map(|()| vec![0; rgb.width / 2]);
    for (number, (from, y)) in rgb.rows().zip(y.rows()).enumerate() {
        row.split(from);
        row.weigh(&matrix.y, matrix.black, &mut y[..rgb.width]);
        row.weigh(&matrix.cb, 128, &mut cb[number % 2]);
        row.weigh(&matrix.cr, 128, &mut cr[number % 2]);
        if number % 2 == 1 {
            halve(&mut cb, site, &mut half_cb);
            halve(&mut cr, site, &mut half_cr);
            chroma(&half_cb, &half_cr);
        }
    }
}

/// Chroma samples of 2 by 2 blocks: filtered down, then across. The upper row is used up.
#[multiversion(targets("x86_64+avx2", "aarch64+neon"))]
fn halve([upper, lower]: &mut [Vec<u8>; 2], site: ChromaSite, out: &mut [u8]) {
    for (upper, lower) in upper.iter_mut().zip(lower.iter()) {
        *upper = ((u16::from(*upper) + u16::from(*lower) + 1) >> 1) as u8;
    }
    let (pairs, _) = upper.as_chunks::<2>();
    match site {
        ChromaSite::Centre => {
            for ([left, right], out) in pairs.iter().zip(out) {
                *out = ((u16::from(*left) + u16::from(*right) + 1) >> 1) as u8;
            }
        }
        ChromaSite::Left => {
            let weighed = |before: u8, [here, after]: [u8; 2]| {
                ((u16::from(before) + 2 * u16::from(here) + u16::from(after) + 2) >> 2) as u8
            };
            // 1-2-1, the outermost columns once more at the left edge and left out at the right.
            let Some((last, inner)) = out.split_last_mut() else { return };
            let ([first, ..], [.., end]) = (pairs, pairs) else { return };
            for (([_, before], pair), out) in pairs.iter().zip(&pairs[1..]).zip(inner.iter_mut().skip(1)) {
                *out = weighed(*before, *pair);
            }
            let before = pairs.len().checked_sub(2).map_or(first[0], |at| pairs[at][1]);
            *last = weighed(before, [end[0]; 2]);
            if let [out, ..] = inner {
                *out = weighed(first[0], *first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::prelude::*;
    use gst_video::{VideoChromaSite, VideoColorRange, VideoConverter, VideoFormat, VideoFrame, VideoInfo};

    /// A picture with every kind of edge: ramps, saturated colours, noise.
    fn picture(width: usize, height: usize) -> Vec<u8> {
        let mut noise = 1u32;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pixel = match (x * 4 / width, y * 3 / height) {
                    (0, _) => [(x * 13) as u8, (y * 7) as u8, 128],
                    (1, 0) => [255, 0, 0],
                    (1, 1) => [0, 255, 0],
                    (1, _) => [0, 0, 255],
                    (2, 0) => [255; 3],
                    (2, _) => [0; 3],
                    _ => [(noise >> 24) as u8, (noise >> 16) as u8, (noise >> 8) as u8],
                };
                pixels.extend(pixel);
            }
        }
        pixels
    }

    /// What GStreamer's own converter makes of `pixels`.
    fn converted(pixels: &[u8], rgb: &VideoInfo, info: &VideoInfo) -> Vec<u8> {
        let mut buffer = gst::Buffer::with_size(rgb.size()).expect("memory");
        {
            let buffer = buffer.get_mut().expect("not shared");
            let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, rgb).expect("fits");
            let stride = frame.plane_stride()[0] as usize;
            for (to, from) in frame
                .plane_data_mut(0)
                .expect("has a plane")
                .chunks_mut(stride)
                .zip(pixels.chunks(rgb.width() as usize * 3))
            {
                to[..from.len()].copy_from_slice(from);
            }
        }
        let from = VideoFrame::from_buffer_readable(buffer, rgb).expect("fits");
        let out = gst::Buffer::with_size(info.size()).expect("memory");
        let mut to = VideoFrame::from_buffer_writable(out, info).expect("fits");
        VideoConverter::new(rgb, info, None).expect("a conversion").frame(&from, &mut to);
        let buffer = to.into_buffer();
        let map = buffer.map_readable().expect("readable");
        map.to_vec()
    }

    fn planes<'a>(data: &'a mut [u8], info: &VideoInfo) -> Vec<Plane<'a>> {
        let mut rest = data;
        let mut planes = Vec::new();
        let ends = info.offset()[1..].iter().copied().chain([info.size()]);
        for (start, (end, stride)) in info.offset().iter().zip(ends.zip(info.stride())) {
            let (plane, after) = rest.split_at_mut(end - start);
            planes.push(Plane { data: plane, stride: *stride as usize });
            rest = after;
        }
        planes
    }

    fn ours(pixels: &[u8], info: &VideoInfo) -> Vec<u8> {
        let (kr, kb) = info.colorimetry().matrix().kr_kb().expect("a YUV matrix");
        let full = info.colorimetry().range() == VideoColorRange::Range0_255;
        let matrix = Matrix::new(kr, kb, full);
        let left = info.chroma_site().contains(VideoChromaSite::H_COSITED);
        let site = if left { ChromaSite::Left } else { ChromaSite::Centre };
        let rgb = Rgb { pixels, width: info.width() as usize, height: info.height() as usize };
        let mut data = vec![0; info.size()];
        let planes = planes(&mut data, info);
        match info.format() {
            VideoFormat::I420 => {
                to_i420(rgb, &matrix, site, planes.try_into().unwrap_or_else(|_| panic!("3 planes")));
            }
            _ => to_nv12(rgb, &matrix, site, planes.try_into().unwrap_or_else(|_| panic!("2 planes"))),
        }
        data
    }

    #[test]
    fn yuv_is_what_videoconvert_makes_of_the_same_rgb() {
        gst::init().expect("GStreamer starts");
        // Below and above the height where GStreamer changes its default colorimetry.
        for (width, height) in [(64, 48), (16, 16), (144, 592), (80, 736)] {
            for format in [VideoFormat::I420, VideoFormat::Nv12] {
                for colorimetry in [None, Some("bt601"), Some("bt709"), Some("1:3:5:1")] {
                    let colorimetry =
                        colorimetry.map(|name| name.parse::<gst_video::VideoColorimetry>().expect("known"));
                    let builder = VideoInfo::builder(format, width, height);
                    let info = match &colorimetry {
                        Some(colorimetry) => builder.colorimetry(colorimetry).build(),
                        None => builder.build(),
                    };
                    let info = info.expect("a valid format");
                    let rgb = VideoInfo::builder(VideoFormat::Rgb, width, height).build();
                    let pixels = picture(width as usize, height as usize);
                    let expected = converted(&pixels, &rgb.expect("valid"), &info);
                    let worst = ours(&pixels, &info)
                        .iter()
                        .zip(&expected)
                        .map(|(ours, theirs)| ours.abs_diff(*theirs))
                        .max();
                    assert_eq!(worst, Some(0), "{format:?} {width}x{height} {colorimetry:?}");
                }
            }
        }
    }

    #[test]
    fn white_black_and_primaries_are_within_one_of_the_standards() {
        let bt601 = Matrix::new(0.299, 0.114, false);
        let bt709 = Matrix::new(0.2126, 0.0722, false);
        for (matrix, colour, expected) in [
            (&bt601, [255, 255, 255], [235, 128, 128]),
            (&bt601, [0, 0, 0], [16, 128, 128]),
            (&bt601, [255, 0, 0], [81, 90, 240]),
            (&bt709, [255, 0, 0], [63, 102, 240]),
            (&bt709, [0, 0, 255], [32, 240, 118]),
        ] {
            let mut row = Row::new(1);
            row.split(&colour);
            let weights = [(matrix.y, matrix.black), (matrix.cb, 128), (matrix.cr, 128)];
            let ours = weights.map(|(weights, offset)| {
                let mut out = [0];
                row.weigh(&weights, offset, &mut out);
                i32::from(out[0])
            });
            for (ours, expected) in ours.iter().zip(expected) {
                assert!((ours - expected).abs() <= 1, "{colour:?}: {ours} for {expected}");
            }
        }
    }

    #[test]
    fn rows_longer_than_the_picture_are_left_alone_behind_it() {
        let rgb = Rgb { pixels: &[7; 2 * 2 * 3], width: 2, height: 2 };
        let mut data = [1; 2 * 12];
        to_rgba(rgb, Plane { data: &mut data, stride: 12 });
        assert_eq!(data[..12], [7, 7, 7, 255, 7, 7, 7, 255, 1, 1, 1, 1]);
        let mut data = [1; 2 * 8];
        to_rgb(rgb, Plane { data: &mut data, stride: 8 });
        assert_eq!(data, [7, 7, 7, 7, 7, 7, 1, 1, 7, 7, 7, 7, 7, 7, 1, 1]);
    }
}
