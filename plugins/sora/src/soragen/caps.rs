//! Which raw video the element makes: before it knows its model, with a model, for a peer.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use sora_model::defaults::{NativeSettings, SizeRules};

/// Formats by preference: encoders take I420 with no converter between.
const FORMATS: [VideoFormat; 4] = [VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Rgb, VideoFormat::Rgba];

/// What any model might make. Every size is in it: a size that the model cannot make is refused
/// when the model is known, by an error that names the nearest size, not by a link that fails.
pub(super) fn template() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format_list(FORMATS).field("interlace-mode", "progressive").build()
}

/// What a model with these rules makes.
pub(super) fn of_model(rules: &SizeRules) -> gst::Caps {
    let mut caps = template();
    let (step_width, step_height) = rules.size_multiple();
    let (max_width, max_height) = rules.max_size();
    for structure in caps.make_mut().iter_mut() {
        structure.set_value("width", stepped(step_width, max_width));
        structure.set_value("height", stepped(step_height, max_height));
    }
    caps
}

/// The multiples of `step` up to `max`, itself one.
fn stepped(step: u32, max: u32) -> gst::glib::SendValue {
    // SizeRules keeps both within 1 to 8192.
    let (step, max) = (step as i32, max as i32);
    if step == max { step.to_send_value() } else { gst::IntRange::with_step(step, max, step).to_send_value() }
}

/// Chooses what downstream left open: the model's own size and rate, square pixels, and the
/// colorimetry that GStreamer assumes for the size when caps do not say.
pub(super) fn fixate(mut caps: gst::Caps, rules: &SizeRules, native: &NativeSettings) -> gst::Caps {
    caps.truncate();
    let Some(structure) = caps.make_mut().structure_mut(0) else {
        return caps;
    };
    let (width, height) = target_size(structure, rules, native);
    structure.fixate_field_nearest_int("width", width);
    structure.fixate_field_nearest_int("height", height);
    let (numerator, denominator) = native.frame_rate;
    let rate = gst::Fraction::new(numerator, denominator);
    structure.fixate_field_nearest_fraction("framerate", rate);
    let square = gst::Fraction::new(1, 1);
    if structure.has_field("pixel-aspect-ratio") {
        structure.fixate_field_nearest_fraction("pixel-aspect-ratio", square);
    } else {
        structure.set("pixel-aspect-ratio", square);
    }
    structure.fixate_field("format");
    if let Some(info) = default_info(structure) {
        fixate_text(structure, "colorimetry", &info.colorimetry().to_string());
        if info.is_yuv() {
            fixate_text(structure, "chroma-site", &info.chroma_site().to_str());
        }
    }
    caps
}

/// The native size; when downstream fixed one side only, the other in the native proportion.
fn target_size(structure: &gst::StructureRef, rules: &SizeRules, native: &NativeSettings) -> (i32, i32) {
    let (width, height) = (i64::from(native.width), i64::from(native.height));
    let fixed = |side: &str| structure.get::<i32>(side).ok().map(i64::from);
    let (width, height) = match (fixed("width"), fixed("height")) {
        (Some(given), None) => (given, given * height / width),
        (None, Some(given)) => (given * width / height, given),
        _ => (width, height),
    };
    let (width, height) = rules.nearest_size(width, height);
    (width as i32, height as i32)
}

fn default_info(structure: &gst::StructureRef) -> Option<VideoInfo> {
    let format = structure.get::<&str>("format").ok()?.parse().ok()?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    VideoInfo::builder(format, side("width")?, side("height")?).build().ok()
}

fn fixate_text(structure: &mut gst::StructureRef, field: &str, text: &str) {
    if structure.has_field(field) {
        structure.fixate_field_str(field, text);
    } else {
        structure.set(field, text);
    }
}

/// Why these rules and the peer's caps have nothing in common, as a sentence for people.
pub(super) fn refusal(peer: &gst::CapsRef, rules: &SizeRules) -> String {
    let (step_width, step_height) = rules.size_multiple();
    let (max_width, max_height) = rules.max_size();
    let makes = format!(
        "{step_width} to {max_width} pixels wide in steps of {step_width} and {step_height} to \
         {max_height} pixels high in steps of {step_height}"
    );
    let asked = peer.iter().find_map(|structure| {
        let side = |name| structure.get::<i32>(name).ok();
        (side("width").is_some() || side("height").is_some()).then(|| (side("width"), side("height")))
    });
    let Some((width, height)) = asked else {
        return format!("Downstream takes none of the video this element makes ({makes}).");
    };
    let (nearest_width, nearest_height) =
        rules.nearest_size(width.unwrap_or(0).into(), height.unwrap_or(0).into());
    let fits =
        |side: Option<i32>, nearest: u32| side.is_none_or(|side| i64::from(side) == i64::from(nearest));
    if fits(width, nearest_width) && fits(height, nearest_height) {
        return format!("Downstream asks for {peer}, which is not a form this element writes video in.");
    }
    let show = |side: Option<i32>| side.map_or_else(|| "any".into(), |side| side.to_string());
    let nearest = match (width, height) {
        (Some(_), None) => format!("width is {nearest_width}"),
        (None, Some(_)) => format!("height is {nearest_height}"),
        _ => format!("size is {nearest_width}x{nearest_height}"),
    };
    format!(
        "This model cannot make video of width {} and height {}; the nearest {nearest}. It makes \
         {makes}.",
        show(width),
        show(height)
    )
}
