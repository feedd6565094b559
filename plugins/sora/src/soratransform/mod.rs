//! `soratransform`: live video, restyled by a prompt.
//!
//! ```text
//! gst-launch-1.0 v4l2src ! videoconvert ! soratransform prompt="pencil sketch" ! videoconvert ! autovideosink
//! ```
//!
//! Frames are gathered into blocks: one frame at the beginning, then as many as the model's VAE makes one latent
//! frame of. A block is encoded, restyled by `method` and `strength` over what the model remembers of the blocks
//! before it, and decoded; each frame keeps its time, flags and metas. The video keeps its size, format and rate: it is
//! scaled and padded to the model's working size and back.
//!
//! The element adds the time of all but one of a block's frames and that of the computation, answers LATENCY
//! queries with it, and posts a LATENCY message when it changes. `prompt`, `strength` and their like take effect
//! with the next block. With `enabled=false` or `strength=0` the very buffers pass.
//!
//! At EOS, and before a gap, a new segment or other caps, a block that is not whole is filled up and restyled, so no
//! frame is lost. A hole of more than a second (of more than four frames, where those are longer) in the timestamps
//! begins anew, as a flush does.
//!
//! How the stream was made goes out as its [provenance](sora_gst::provenance): the generation record of an edited
//! composite. A watermark in the video that comes in does not survive and is named as an input.

mod frames;
mod imp;
mod latency;
mod line;
mod outlet;
mod pads;
mod record;
mod restyle;
mod settings;
mod stats;
mod worker;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraTransform(ObjectSubclass<imp::SoraTransform>)
        @extends gst::Element, gst::Object;
}

/// How a block is restyled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraRestyleMethod")]
pub enum Method {
    /// By whether the model has a source embedding.
    #[default]
    #[enum_value(name = "learned where the model was taught to restyle, else difference", nick = "auto")]
    Auto,
    /// Pairs of videos of one scene have taught the model what becomes of which.
    #[enum_value(
        name = "The model sees the video while it makes the new one: shapes are kept; only for models that were taught to restyle",
        nick = "learned"
    )]
    Learned,
    /// FlowEdit, arXiv 2412.08629.
    #[enum_value(
        name = "What the prompt asks for beyond source-prompt is added step by step: shapes are kept; two passes per step",
        nick = "difference"
    )]
    Difference,
    /// SDEdit, arXiv 2108.01073.
    #[enum_value(name = "Noise is laid over the video and taken off by the prompt", nick = "noise")]
    Noise,
}

/// Which noise is laid over the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraNoiseMode")]
pub enum NoiseMode {
    /// The same for every block.
    #[default]
    #[enum_value(name = "The same for every block: still things stay still", nick = "fixed")]
    Fixed,
    /// Another for every block.
    #[enum_value(name = "Another for every block", nick = "fresh")]
    Fresh,
}

/// What happens to a frame when a block waits already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraQueuePolicy")]
pub enum QueuePolicy {
    /// By whether upstream is live.
    #[default]
    #[enum_value(name = "Drop where upstream is live, else wait", nick = "auto")]
    Auto,
    /// The source waits.
    #[enum_value(name = "The source waits until there is room: no frame is lost", nick = "wait")]
    Wait,
    /// The frame that waits longest goes.
    #[enum_value(
        name = "The frame that has waited longest is dropped: latency stays bounded",
        nick = "drop-oldest"
    )]
    DropOldest,
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Method::static_type();
    NoiseMode::static_type();
    QueuePolicy::static_type();
    gst::Element::register(Some(plugin), "soratransform", gst::Rank::NONE, SoraTransform::static_type())
}
