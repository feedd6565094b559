//! `libgstsora.so`: GStreamer elements that generate video with a diffusion transformer.
//!
//! - [`soragen`]: a source that makes a clip from a prompt;
//! - [`soratransform`]: a filter that restyles live video by a prompt;
//! - [`soramerge`]: an element that turns one clip into another.
//!
//! The plugin is not linked to libtorch: `sora-engine-api` opens it when an element first needs it,
//! so a registry scan costs milliseconds and a missing libtorch is an error of the element that
//! says what to install.

use gst::prelude::*;

mod block_times;
mod bridge;
mod choice;
mod fit;
mod loading;
mod messages;
mod model;
mod record;
pub mod soragen;
pub mod soramerge;
pub mod soratransform;
mod upstream;
mod vae;
mod weights;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    // In the documentation it belongs to this plugin, as the others do.
    vae::Vae::static_type();
    soragen::register(plugin)?;
    soratransform::register(plugin)?;
    soramerge::register(plugin)
}

mod plugin {
    #![allow(missing_docs, reason = "the macro makes public items without any")]

    use super::plugin_init;

    gst::plugin_define!(
        sora,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        env!("CARGO_PKG_VERSION"),
        // GStreamer knows licences by its own list of names, which has no "MIT OR Apache-2.0".
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        "sora-gst",
        env!("CARGO_PKG_REPOSITORY"),
        "2026-11-23"
    );
}

pub use plugin::plugin_register_static;
