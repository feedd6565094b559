//! `soramerge`: one clip turns into another.
//!
//! ```text
//! gst-launch-1.0 soramerge name=merge ! x264enc ! mp4mux ! filesink location=merged.mp4 \
//!     filesrc location=a.mp4 ! decodebin ! merge.from  filesrc location=b.mp4 ! decodebin ! merge.to
//! ```
//!
//! The frames of `from` pass. At its end the model remembers the last of them, and makes `duration` of video: the first
//! blocks freely, as `prompt` says (fading into `to-prompt` where that is set), the last ones, up to three and at most
//! half of them, drawn to the first frames of `to` with falling noise (SDEdit). The frames of `to` after those pass.
//! What the model does not see of the last frame of `from` fades out over the first block, and the last block fades into
//! the frames of `to`. Without a model that was trained for it, a bridge is no more than this ramp.
//!
//! Two always pads, each with a part of its own. The clips come one after the other, as in `concat`, so the element is
//! no aggregator: those wait for data of all inputs and pair what is due at the same time, while here the second input
//! waits until the first has ended, and a first one that never ends needs no second.
//!
//! The output has the size, the format and the rate of `from`, unless downstream asks for others: frames are scaled as
//! a whole into the middle of a black picture, left out or repeated. Times go on without a hole from the running time of
//! the first frame; a hole of more than a second in an input stays one.
//!
//! What is given need not be whole:
//! - `from` without a frame, because it ends or nothing comes within `timeout`: `to` passes, with a warning;
//! - `to` without a frame: the output ends with `from`, with a warning;
//! - a short `from`: what there is of it is remembered; a short `to`: fewer blocks are drawn;
//! - a change of size or format within an input: the output keeps its own;
//! - a live `to` drops what comes before its turn;
//! - interlaced video, and what downstream cannot take, is an error;
//! - a flush on an input throws away what waits there, and the output goes on. Seeking is not possible.
//!
//! How the stream was made goes out as its [provenance](sora_gst::provenance): the record of a merge, of which both
//! clips are inputs. A mark in the second clip is known, and named, from its first frame on.

mod imp;
mod inputs;
mod output;
mod record;
mod retime;
mod settings;
mod transition;
mod worker;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraMerge(ObjectSubclass<imp::SoraMerge>)
        @extends gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "soramerge", gst::Rank::NONE, SoraMerge::static_type())
}
