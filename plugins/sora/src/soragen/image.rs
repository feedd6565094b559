//! The picture that a video begins with: PNG or JPEG, looked at before it is believed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use gst::prelude::*;
use gst_video::VideoInfo;

use super::cover::Cover;

/// Largest side and area of a picture that is decoded, in pixels.
const MOST_SIDE: u32 = 16_384;
const MOST_AREA: u64 = 100_000_000;
/// Bytes of a file that are looked at for its size; in a JPEG a profile and a preview come before it.
const HEAD: u64 = 1 << 20;
/// Longest time for decoding.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// What a file says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
}

/// Checks that a file is a picture that can be decoded, as far as its beginning tells.
pub(super) fn check(path: &Path) -> Result<(), gst::ErrorMessage> {
    let refuse =
        |text: String| gst::error_msg!(gst::StreamError::WrongType, ("{text}"), ["{}", path.display()]);
    let head = head(path).map_err(|error| {
        gst::error_msg!(
            gst::ResourceError::OpenRead,
            ("image {} cannot be read: {error}", path.display()),
            ["looked at before loading the model"]
        )
    })?;
    let (_, width, height) =
        size(&head).map_err(|text| refuse(format!("image {} {text}", path.display())))?;
    check_size(width, height).map_err(|text| refuse(format!("image {} {text}", path.display())))
}

/// Refuses what would take more memory than a picture is worth.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), String> {
    let area = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width > MOST_SIDE || height > MOST_SIDE || area > MOST_AREA {
        return Err(format!(
            "is {width}x{height}; it may be 1 to {MOST_SIDE} pixels wide and high, and {MOST_AREA} in all"
        ));
    }
    Ok(())
}

/// The beginning of a file; a pipe or a device would keep its reader waiting.
pub(super) fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// Kind and size by the file's own header.
pub(super) fn size(head: &[u8]) -> Result<(Kind, u32, u32), String> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        let side = |at: usize| head.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        return match (head.get(12..16), side(16), side(20)) {
            (Some(b"IHDR"), Some(width), Some(height)) => Ok((Kind::Png, width, height)),
            _ => Err("is a PNG file without its header".into()),
        };
    }
    if head.starts_with(b"\xff\xd8\xff") {
        let JpegFrame { width, height, components } =
            jpeg_frame(head).ok_or("is a JPEG file without its size")?;
        // GStreamer decodes these two, and calls four an internal error.
        if ![1, 3].contains(&components) {
            return Err(format!(
                "is a JPEG of {components} colour components (CMYK has 4); it must have 1 or 3, grey or RGB"
            ));
        }
        return Ok((Kind::Jpeg, width, height));
    }
    Err(match head {
        [] => "is empty".into(),
        [b'G', b'I', b'F', b'8', ..] => {
            "is a GIF, which may be animated; it must be one picture, PNG or JPEG".into()
        }
        [b'R', b'I', b'F', b'F', ..] | [0, 0, 0, _, b'f', b't', b'y', b'p', ..] => {
            "is of another format; it must be PNG or JPEG".into()
        }
        _ => "is no picture; it must be PNG or JPEG".into(),
    })
}

/// What a JPEG file says of its picture.
struct JpegFrame {
    width: u32,
    height: u32,
    components: u8,
}

/// From the first frame header (ITU-T T.81 B.2.2).
fn jpeg_frame(head: &[u8]) -> Option<JpegFrame> {
    let mut at = 2;
    loop {
        let segment = head.get(at..)?;
        let [0xff, marker, rest @ ..] = segment else { return None };
        match marker {
            0xff => at += 1,
            // Start of a frame; C4, C8 and CC are other things.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(marker) => {
                let [a, b, c, d, components] = *rest.get(3..)?.first_chunk()?;
                let side = |high, low| u16::from_be_bytes([high, low]).into();
                return Some(JpegFrame { width: side(c, d), height: side(a, b), components });
            }
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
        }
    }
}

/// Makes elements in a pipeline; `failed` words what went wrong.
pub(super) fn maker(
    pipeline: gst::Pipeline,
    failed: impl Fn(String) -> String,
) -> impl Fn(&str) -> Result<gst::Element, String> {
    move |name| {
        let element = gst::ElementFactory::make(name).build();
        let element = element.map_err(|_| failed(format!("GStreamer has no {name} here")))?;
        pipeline.add(&element).map_err(|error| failed(error.to_string()))?;
        Ok(element)
    }
}

/// Decodes a picture to RGB24 of a size: turned as its camera was held, scaled to cover it, and cropped in the middle.
pub(super) fn load(path: &PathBuf, (width, height): (u32, u32)) -> Result<Vec<u8>, String> {
    check(path).map_err(|error| error.to_string())?;
    let (kind, ..) = size(&head(path).map_err(|error| error.to_string())?)?;
    // Cameras store what they see and say in Exif how they were held, which the parser makes a tag of. It is of a set of
    // plugins (bad) that a decoder does without.
    let parser = gst::ElementFactory::find("jpegparse").map(|_| "jpegparse");
    let between: Vec<&str> = match kind {
        Kind::Png => vec!["pngdec"],
        Kind::Jpeg => parser.into_iter().chain(["jpegdec", "videoconvert", "videoflip"]).collect(),
    };
    let failed = |what: String| format!("image {} cannot be decoded: {what}", path.display());
    let pipeline = gst::Pipeline::new();
    let make = maker(pipeline.clone(), failed);
    let (source, sink) = (make("filesrc")?, make("fakesink")?);
    source.set_property("location", path);
    sink.set_property("enable-last-sample", true);
    let between = between.into_iter().map(&make).collect::<Result<Vec<_>, _>>()?;
    if let (Kind::Jpeg, Some(turn)) = (kind, between.last()) {
        turn.set_property_from_str("video-direction", "auto");
    }
    gst::Element::link_many(std::iter::once(&source).chain(&between).chain([&sink]))
        .map_err(|error| failed(error.to_string()))?;
    let decoded = preroll(&pipeline, &sink);
    // Down is always possible; the pipeline is of no more use.
    let _ = pipeline.set_state(gst::State::Null);
    let sample = decoded.map_err(failed)?;
    covering(&sample, (width, height)).map_err(failed)
}

/// The first picture that arrives.
fn preroll(pipeline: &gst::Pipeline, sink: &gst::Element) -> Result<gst::Sample, String> {
    let bus = pipeline.bus().ok_or("there is no bus")?;
    // A failure is on the bus.
    let _ = pipeline.set_state(gst::State::Paused);
    let kinds = [gst::MessageType::AsyncDone, gst::MessageType::Error, gst::MessageType::Eos];
    match bus.timed_pop_filtered(PATIENCE, &kinds) {
        None => return Err(format!("it takes longer than {PATIENCE}")),
        Some(message) => {
            if let gst::MessageView::Error(error) = message.view() {
                return Err(error.error().message().to_owned());
            }
        }
    }
    sink.property::<Option<gst::Sample>>("last-sample").ok_or_else(|| "there is no picture in it".into())
}

fn covering(sample: &gst::Sample, (width, height): (u32, u32)) -> Result<Vec<u8>, String> {
    let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else {
        return Err("there is no picture in it".into());
    };
    let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} is no raw video"))?;
    Cover::new(&info, (width, height))?.picture(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photograph_is_turned_as_its_camera_was_held() {
        gst::init().expect("GStreamer");
        const SIDE: usize = 64;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let photograph = |orientation: &str| {
            let file = folder.path().join(orientation);
            let line = format!(
                "videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,width={SIDE},height={SIDE} ! jpegenc quality=100 \
                 ! taginject tags=\"image-orientation={orientation}\" ! jifmux ! filesink location=\"{}\"",
                file.display()
            );
            let pipeline = gst::parse::launch(&line).expect("a pipeline");
            pipeline.set_state(gst::State::Playing).expect("it plays");
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            let end = pipeline.bus().expect("a bus").timed_pop_filtered(PATIENCE, &kinds).expect("an end");
            assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
            pipeline.set_state(gst::State::Null).expect("down");
            load(&file, (SIDE as u32, SIDE as u32)).expect("a picture")
        };
        let stored = photograph("rotate-0");
        // Turned by a quarter clockwise, the lower left corner comes to be the upper left one.
        let turned: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|i| stored[((SIDE - 1 - i % SIDE) * SIDE + i / SIDE) * 3..][..3].to_vec())
            .collect();
        let apart = |a: &[u8], b: &[u8]| {
            a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() / a.len() as u64
        };
        let seen = photograph("rotate-90");
        // Chroma is at half size: it differs a little along edges.
        assert!(apart(&seen, &turned) < 8, "{}", apart(&seen, &turned));
        assert!(apart(&seen, &stored) > 30, "{}", apart(&seen, &stored));
    }

    #[test]
    fn headers_tell_kind_and_size() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend(50_000u32.to_be_bytes());
        png.extend(49_999u32.to_be_bytes());
        assert_eq!(size(&png), Ok((Kind::Png, 50_000, 49_999)));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x00\x30\x00\x40\x03";
        assert_eq!(size(jpeg), Ok((Kind::Jpeg, 64, 48)));
        let cmyk = [&jpeg[..jpeg.len() - 1], b"\x04"].concat();
        let error = size(&cmyk).expect_err("four components");
        assert!(error.contains("4 colour components") && error.contains("1 or 3"), "{error}");
        for (head, part) in [
            (b"GIF89a".as_slice(), "GIF"),
            (b"hello", "no picture"),
            (b"", "empty"),
            (b"\x89PNG\r\n\x1a\n\0", "without its header"),
            (b"\xff\xd8\xff\xe0\xff\xff", "without its size"),
            (b"RIFF\0\0\0\0WEBP", "another format"),
        ] {
            let error = size(head).expect_err("no picture");
            assert!(error.contains(part), "{error}");
        }
    }
}
