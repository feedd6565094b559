//! `sorasign`: signs an MP4 while it is written.
//!
//! ```text
//! gst-launch-1.0 soragen prompt="a red ball" ! sorawatermark ! x264enc ! mp4mux ! sorasign \
//!     ! filesink location=clip.mp4
//! ```
//!
//! A plain element behind the muxer: MP4 bytes in, the same MP4 with a C2PA manifest out. What the manifest
//! says comes from the stream's [provenance](sora_gst::provenance): the generation record of `soragen` and the
//! id of `sorawatermark`, whatever encoder and muxer lie between; the properties `record` and `watermark-id`
//! outweigh it. Of footage that our elements did not make it says nothing about AI.
//!
//! **Modes.** With `mode=patch` the clip passes through: space for the manifest is kept behind `ftyp`, the media
//! data is hashed on its way, and at EOS the manifest is written into the space; what is behind the element must
//! be able to seek (filesink can), and the file must be a progressive one. With `mode=spool` the clip is
//! collected in a temporary file, signed, verified and then sent: for any sink, and for fragmented files that are
//! to have one manifest for the whole. With `mode=live` a fragmented stream is signed fragment by fragment (C2PA 2.4
//! §19.4): a fragment leaves when it is whole, nothing is written twice, any sink will do. With `mode=sidecar` the
//! clip passes unchanged and the manifest goes into the file that `sidecar-location` names.
//! `mode=auto` decides when it sees the first bytes:
//!
//! | file        | downstream can seek in bytes | it cannot |
//! |-------------|------------------------------|-----------|
//! | progressive | patch                        | spool     |
//! | fragmented  | spool                        | live      |
//!
//! **Keys.** `certificates` and `key` name PEM files, else `$SORA_SIGN_CHAIN` and `$SORA_SIGN_KEY` do. With
//! neither, an ephemeral development certificate signs, with a warning: that proves integrity, not origin.
//! Keys and certificates are checked when the element leaves NULL.
//!
//! **The store.** With `store=FILE` the manifest is kept in a manifest store (SQLite) too, under the watermark's id and with
//! the fingerprint that `sorawatermark` took of the marked frames, before it is written into the clip: where a platform takes
//! it out of the clip, `soraverify --store FILE` finds it again. Where it cannot be kept, the clip stays unsigned.
//! The fingerprint is tiny grey pictures, 16 cells on the short side, two per second: whoever reads the store sees roughly what
//! the clip shows. Without a `sorawatermark` in the same pipeline there is none, and a manifest without one is not
//! taken for that of a clip that is found later.
//!
//! **Failures.** Until the clip is whole there is no manifest in it: a run that is interrupted, or whose signing
//! fails, leaves a file that does not look signed, and an error says so. What was written into a file is read again
//! before EOS goes on (`verify`); if it is not valid, the manifest is taken out again. A live stream that is
//! interrupted is signed as far as it came.

mod imp;
mod keeper;
mod live;
mod output;
mod settings;
mod sidecar;
mod spool;
mod work;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraSign(ObjectSubclass<imp::SoraSign>)
        @extends gst::Element, gst::Object;
}

/// How the manifest gets into the clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraSignMode")]
pub enum Mode {
    /// What suits the file and the sink.
    #[default]
    #[enum_value(name = "What suits the file and the sink: patch, spool or live", nick = "auto")]
    Auto,
    /// Pass the clip through, write the manifest at the end.
    #[enum_value(name = "Pass the clip through and write the manifest into it at the end", nick = "patch")]
    Patch,
    /// Collect the clip, then send it signed.
    #[enum_value(name = "Collect the clip in a temporary file, sign it, then send it", nick = "spool")]
    Spool,
    /// Sign each fragment of a fragmented stream.
    #[enum_value(name = "Sign a fragmented stream fragment by fragment", nick = "live")]
    Live,
    /// Pass the clip through, write the manifest into another file.
    #[enum_value(
        name = "Pass the clip through unchanged and write the manifest into a file beside it",
        nick = "sidecar"
    )]
    Sidecar,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // In the documentation the enum belongs to this plugin, not to the program that made it first.
    Mode::static_type();
    gst::Element::register(Some(plugin), "sorasign", gst::Rank::NONE, SoraSign::static_type())
}
