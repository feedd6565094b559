//! `sorawatermark`: marks raw video invisibly.
//!
//! ```text
//! gst-launch-1.0 videotestsrc num-buffers=120 ! sorawatermark ! x264enc ! mp4mux ! filesink location=marked.mp4
//! ```
//!
//! Every frame is marked on its own, the first one too, and leaves at once: the element adds no
//! latency. The pattern follows the frames' running time since the first frame, so variable rates and
//! dropped frames are fine, and a flush starts it anew. Put the element last before the encoder: what
//! scales or draws behind it weakens the mark.
//!
//! **The id.** Each run of the element, from READY to READY, writes one id: the property `id`, else
//! the `watermark-id` that the stream's [provenance](sora_gst::provenance) proposes, else a random one.
//! The property then reads as the id in use; it is also published as a GstContext and in the
//! stream's tags (`extended-comment` `sora-watermark-id=`). A new size keeps the id and the time.
//!
//! **A fingerprint** of the marked frames, two tiny pictures per second, goes to whoever asks for the stream's
//! provenance: `sorasign` keeps it with the manifest, so that a mark that somebody copied onto another clip shows.
//!
//! **The key** is that of `key`, of `$SORA_WATERMARK_KEY`, or the public key, whose marks everybody can
//! find and everybody can forge.
//!
//! **What is not marked.** Interlaced frames, frames with a side below 64 pixels (or above 16384, or
//! longer than 16:1): by `on-unsupported` an error, or passed on with a warning. A stream that a
//! `sorawatermark` upstream (or one downstream that came first) marks under the same key is passed on
//! with a warning. A mark that the pixels already carry is looked for only where `check-existing` says so, beside the stream,
//! since a live frame cannot wait for the answer (what is not live waits until the search has taken it, not for its answer):
//! with `off`, and until an answer is there, the stream is marked again, and a detector will report two ids.

mod existing;
mod imp;
mod settings;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraWatermark(ObjectSubclass<imp::SoraWatermark>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

/// How strong the mark is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraWatermarkStrength")]
pub enum Strength {
    /// About 3 dB weaker than standard.
    #[enum_value(name = "About 3 dB weaker than standard", nick = "subtle")]
    Subtle,
    /// What the published figures are measured with.
    #[default]
    #[enum_value(name = "What the published figures are measured with", nick = "standard")]
    Standard,
    /// About 3 dB stronger than standard, for heavy compression.
    #[enum_value(name = "About 3 dB stronger than standard, for heavy compression", nick = "robust")]
    Robust,
}

/// What becomes of a stream that cannot be marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraWatermarkOnUnsupported")]
pub enum OnUnsupported {
    /// An error.
    #[default]
    #[enum_value(name = "Post an error", nick = "error")]
    Error,
    /// It passes as it is, with a warning.
    #[enum_value(name = "Pass the frames on as they are, with a warning", nick = "pass")]
    Pass,
}

/// Whether the frames that come are searched for a mark under the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraWatermarkCheckExisting")]
pub enum CheckExisting {
    /// No.
    #[default]
    #[enum_value(name = "Do not look", nick = "off")]
    Off,
    /// The first five seconds are; a find is a warning.
    #[enum_value(name = "Look at the first 5 s beside the stream; warn and go on marking", nick = "warn")]
    Warn,
    /// The first five seconds are; a find is a warning and ends the marking.
    #[enum_value(name = "Look at the first 5 s beside the stream; warn and stop marking", nick = "stop")]
    Stop,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // In the documentation the enums belong to this plugin, not to the program that made them first.
    Strength::static_type();
    OnUnsupported::static_type();
    CheckExisting::static_type();
    gst::Element::register(Some(plugin), "sorawatermark", gst::Rank::NONE, SoraWatermark::static_type())
}
