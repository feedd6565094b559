//! `soradetect`: says which marks a stream carries, and passes it on as it is.
//!
//! ```text
//! gst-launch-1.0 -m filesrc location=marked.mp4 ! decodebin ! videoconvert ! soradetect drop=false ! fakesink
//! ```
//!
//! The frames are copied into a bounded queue and analysed on a thread of the element's own, so the
//! stream never waits: when the queue is full, frames are left out of the analysis and counted
//! (`stats`). With `drop=false` the stream waits instead and every frame is analysed, which is right for
//! files.
//!
//! Every `interval` of the stream, and once more at its end before EOS goes on, the verdict for all
//! frames since the start (or the last flush) is posted as an element message. A mark on frames as they were
//! marked is told at the next interval, wherever in its cycle the stream was joined; one that was moved, or that moving
//! pictures hide, when the four seconds that are searched at a time are over. The message:
//!
//! | field of `sora-watermark` | |
//! |---|---|
//! | `found` (boolean) | a mark was accepted; nothing follows from none being found |
//! | `final` (boolean) | the stream has ended |
//! | `id`, `key-id` (string) | of the surest mark, where there is one |
//! | `z`, `log10-p` (double) | its statistic, and the bound on the probability, as a logarithm, that a stream without a mark under these keys is called marked |
//! | `start`, `end` (uint64) | stream time of the first and the last moment with the mark, in nanoseconds |
//! | `conflict` (boolean) | two ids under one key |
//! | `marks` (array of structures) | all accepted marks, the surest first: `id`, `key-id`, `z`, `log10-p`, `start`, `end`, `flipped`, `quarter-turns` (clockwise, after mirroring), `scale-x`, `scale-y`, `rotation`, `speed` |
//! | `expected` (boolean), `expected-log10-p` (double) | how `expect-id` fared, where it is set |
//! | `frames`, `dropped` (uint64) | frames analysed and frames left out |
//!
//! When the verdict's marks change, the same structure goes downstream as a sticky, serialized custom
//! event, in front of the next frame. Frames with a side below 64 pixels pass and are not analysed.

mod imp;
mod report;
mod settings;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraDetect(ObjectSubclass<imp::SoraDetect>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// How far a detector looks for a mark whose frames were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraDetectSearch")]
pub enum Search {
    /// Frames as they were marked, mirrored or turned by quarters.
    #[enum_value(name = "Frames as they were marked, mirrored or turned by quarters", nick = "untouched")]
    Untouched,
    /// Also scaled and cropped.
    #[enum_value(name = "Also scaled and cropped", nick = "scaled")]
    Scaled,
    /// Also stretched, rotated a little, slower or faster.
    #[default]
    #[enum_value(
        name = "Also stretched, rotated up to 6 degrees, scaled and turned, at another speed",
        nick = "full"
    )]
    Full,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // In the documentation the enum belongs to this plugin, not to the program that made it first.
    Search::static_type();
    gst::Element::register(Some(plugin), "soradetect", gst::Rank::NONE, SoraDetect::static_type())
}
