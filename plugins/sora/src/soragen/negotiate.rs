//! What has been negotiated, and a frame written in that form.

use gst_video::prelude::*;
use gst_video::{
    VideoChromaSite, VideoColorRange, VideoFormat, VideoFrameRef, VideoInfo, VideoTransferFunction,
};

use super::convert::{self, ChromaSite, Matrix, Plane, Rgb};

/// A negotiated format with what is needed to write it.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) info: VideoInfo,
    layout: Layout,
}

#[derive(Clone, Debug)]
enum Layout {
    Rgb,
    Rgba,
    I420(Matrix, ChromaSite),
    Nv12(Matrix, ChromaSite),
}

impl Output {
    /// Checks that frames can be written as `caps` say.
    pub(super) fn new(caps: &gst::CapsRef) -> Result<Self, String> {
        let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} is no raw video"))?;
        let transfer = info.colorimetry().transfer();
        // The frames are display-referred and of standard dynamic range.
        if matches!(
            transfer,
            VideoTransferFunction::Smpte2084
                | VideoTransferFunction::AribStdB67
                | VideoTransferFunction::Gamma10
        ) {
            return Err(format!("the transfer function {transfer:?} is not supported"));
        }
        let layout = match info.format() {
            VideoFormat::Rgb => Layout::Rgb,
            VideoFormat::Rgba => Layout::Rgba,
            VideoFormat::I420 => Layout::I420(matrix(&info)?, site(&info)?),
            VideoFormat::Nv12 => Layout::Nv12(matrix(&info)?, site(&info)?),
            other => return Err(format!("the format {other} is not supported")),
        };
        Ok(Self { info, layout })
    }

    /// Writes `pixels`, RGB24 of the negotiated size, into `buffer`, whatever its strides.
    pub(super) fn write(&self, pixels: &[u8], buffer: &mut gst::BufferRef) -> Result<(), String> {
        let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer, &self.info)
            .map_err(|_| "the buffer from downstream cannot be written as the negotiated video")?;
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        let rgb = Rgb { pixels, width, height };
        let mut strides = frame.plane_stride().iter().map(|&stride| stride as usize).collect::<Vec<_>>();
        strides.resize(4, 0);
        let [a, b, c, _] = frame.planes_data_mut();
        let plane = |data, index: usize| Plane { data, stride: strides[index] };
        match &self.layout {
            Layout::Rgb => convert::to_rgb(rgb, plane(a, 0)),
            Layout::Rgba => convert::to_rgba(rgb, plane(a, 0)),
            Layout::I420(matrix, site) => {
                convert::to_i420(rgb, matrix, *site, [plane(a, 0), plane(b, 1), plane(c, 2)]);
            }
            Layout::Nv12(matrix, site) => {
                convert::to_nv12(rgb, matrix, *site, [plane(a, 0), plane(b, 1)]);
            }
        }
        Ok(())
    }
}

fn matrix(info: &VideoInfo) -> Result<Matrix, String> {
    let colorimetry = info.colorimetry();
    let (kr, kb) = colorimetry
        .matrix()
        .kr_kb()
        .map_err(|_| format!("the colorimetry {colorimetry} has no luma matrix"))?;
    Ok(Matrix::new(kr, kb, colorimetry.range() == VideoColorRange::Range0_255))
}

fn site(info: &VideoInfo) -> Result<ChromaSite, String> {
    let site = info.chroma_site();
    if site.contains(VideoChromaSite::V_COSITED) {
        return Err(format!("the chroma site {} is not supported", site.to_str()));
    }
    let left = site.contains(VideoChromaSite::H_COSITED);
    Ok(if left { ChromaSite::Left } else { ChromaSite::Centre })
}

/// Completes the answer to an ALLOCATION query: a video pool, ours if downstream offers none, with
/// VideoMeta where downstream understands it, so that padded rows are possible.
pub(super) fn decide_allocation(query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
    let (caps, _) = query.get_owned();
    let caps = caps.ok_or_else(|| gst::loggable_error!(gst::CAT_RUST, "allocation without caps"))?;
    let info = VideoInfo::from_caps(&caps)
        .map_err(|_| gst::loggable_error!(gst::CAT_RUST, "allocation of {} is not video", caps))?;
    let video_meta = query.find_allocation_meta::<gst_video::VideoMeta>().is_some();
    let offered = query
        .allocation_pools()
        .next()
        .map(|(pool, size, min, max)| (pool.to_owned(), size.max(info.size() as u32), min, max));
    let update = offered.is_some();
    let (pool, size, min, max) = offered.unwrap_or((None, info.size() as u32, 0, 0));
    let own = || gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
    let mut pool = pool.unwrap_or_else(own);
    if !configure(&pool, &caps, (size, min, max), video_meta) {
        pool = own();
        if !configure(&pool, &caps, (size, min, max), video_meta) {
            return Err(gst::loggable_error!(gst::CAT_RUST, "no buffer pool for {}", caps));
        }
    }
    if update {
        query.set_nth_allocation_pool(0, Some(&pool), size, min, max);
    } else {
        query.add_allocation_pool(Some(&pool), size, min, max);
    }
    Ok(())
}

fn configure(
    pool: &gst::BufferPool,
    caps: &gst::Caps,
    (size, min, max): (u32, u32, u32),
    video_meta: bool,
) -> bool {
    let mut config = pool.config();
    config.set_params(Some(caps), size, min, max);
    if video_meta && pool.has_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META) {
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
    }
    pool.set_config(config).is_ok()
}
