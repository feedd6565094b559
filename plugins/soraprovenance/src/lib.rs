//! `libgstsoraprovenance.so`: GStreamer elements that mark video invisibly, find such marks, and sign clips.
//!
//! - [`sorawatermark`]: marks raw video.
//! - [`soradetect`]: says on the bus, and to the elements behind it, which marks a stream carries.
//! - [`sorasign`]: signs an MP4 behind the muxer.
//!
//! Nothing here needs libtorch or the engine.

mod analysis;
mod keys;
mod planes;
pub mod soradetect;
pub mod sorasign;
pub mod sorawatermark;
mod time;

/// A sink and a source pad for every format that can be seen as luma.
fn pad_templates() -> Vec<gst::PadTemplate> {
    let caps =
        gst_video::VideoCapsBuilder::new().format_list(sora_gst::frame::FORMATS.iter().copied()).build();
    let always = gst::PadPresence::Always;
    // The parameters of valid templates.
    [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
        .map(|(name, direction)| {
            gst::PadTemplate::new(name, direction, always, &caps).expect("a valid template")
        })
        .into()
}

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    sorawatermark::register(plugin)?;
    soradetect::register(plugin)?;
    sorasign::register(plugin)
}

mod plugin {
    #![allow(missing_docs, reason = "the macro makes public items without any")]

    use super::plugin_init;

    gst::plugin_define!(
        soraprovenance,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        env!("CARGO_PKG_VERSION"),
        // GStreamer knows licences by its own list of names, which has no "MIT OR Apache-2.0".
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        "sora-gst",
        env!("CARGO_PKG_REPOSITORY"),
        "2026-11-25"
    );
}

pub use plugin::plugin_register_static;
