//! `sorasign`: signs an MP4 with C2PA while it is written.
//!
//! ```text
//! gst-launch-1.0 soragen prompt="…" ! sorawatermark ! x264enc ! mp4mux ! sorasign ! filesink location=clip.mp4
//! ```
//!
//! Put it between the muxer and the sink; whatever changes the file behind it breaks the signature.
//!
//! **What the manifest says** comes from the stream's [provenance](sora_gst::provenance), also through a
//! muxer: the generation record of the element that made the clip, and the watermark's id. The properties
//! `record` and `watermark-id` say the same where there is no such element. Of footage whose record nobody
//! knows the manifest says nothing about AI.
//!
//! **Who signs** is set by `key` and `cert-chain`, or `sign-command`, or the environment
//! (`SORA_SIGN_KEY`, `SORA_SIGN_CHAIN`, `SORA_SIGN_COMMAND`, `SORA_SIGN_PASSPHRASE`). With none of them an ephemeral
//! development certificate signs: that proves integrity since signing, not origin, and the element warns.
//!
//! **How** is set by `mode`:
//!
//! - `patch` writes as the muxer does, hashes what passes, and goes back at the end to fill in the manifest.
//!   It needs a sink that can seek and a progressive file; memory does not grow with the clip.
//! - `spool` collects the clip in a temporary file and sends the signed one at the end.
//! - `sidecar` passes the clip on as it is and writes the manifest to `sidecar-location` at the end.
//! - `auto` is `patch` where that is possible and `spool` elsewhere.
//!
//! **At the end** the manifest is put into the store that `store` names, then the file is completed and, where
//! the sink says that it is a file here, read again and verified; what does not verify is an error. A run that
//! ends without EOS leaves a file that is not whole and does not look signed.

mod imp;
mod output;
mod settings;
mod upstream;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraSign(ObjectSubclass<imp::SoraSign>) @extends gst::Element, gst::Object;
}

/// How the manifest comes to the clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraSignMode")]
pub enum Mode {
    /// Patch where that is possible, spool elsewhere.
    #[default]
    #[enum_value(name = "Patch where that is possible, spool elsewhere", nick = "auto")]
    Auto,
    /// Fill the manifest in at the end.
    #[enum_value(name = "Write at once, fill the manifest in at the end", nick = "patch")]
    Patch,
    /// Collect the clip, send it signed.
    #[enum_value(name = "Collect the clip in a temporary file, send it at the end", nick = "spool")]
    Spool,
    /// Leave the clip alone.
    #[enum_value(name = "Pass the clip on as it is, write the manifest to sidecar-location", nick = "sidecar")]
    Sidecar,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // In the documentation the enum belongs to this plugin, not to the program that made it first.
    Mode::static_type();
    gst::Element::register(Some(plugin), "sorasign", gst::Rank::NONE, SoraSign::static_type())
}
