//! `soragen`: one line makes a video.
//!
//! ```text
//! gst-launch-1.0 soragen prompt="a red ball bounces on the grass" \
//!     ! x264enc ! mp4mux ! filesink location=clip.mp4
//! gst-launch-1.0 soragen prompt="a red ball" num-frames=1 ! pngenc ! filesink location=ball.png
//! ```
//!
//! The element loads a Wan-format model directory on a thread of its own (PROGRESS messages
//! `load`, then `generate`), denoises one clip of the negotiated size, and pushes its frames as the
//! decoder finishes them, at most a few ahead of downstream. Size and frame rate are the model's
//! own unless downstream asks for others; asking for a frame rate changes how fast the frames are
//! shown, not which frames there are. A frame rate of 0/1 is stamped at the model's own rate.
//!
//! With `prompt-enhance=local` a small language model of the model directory first makes a short prompt a
//! detailed caption, which keeps all that the prompt says: property `prompt-used`, an ELEMENT message
//! `soragen-prompt`, and the tag `description`. A prompt that it cannot expand is used as it is, with a
//! WARNING that says why.
//!
//! How a clip was made goes out as the stream's [provenance](sora_gst::provenance), which `sorasign` signs: the
//! prompt as a salted hash there, unless `prompt-policy` says otherwise.
//!
//! With `num-frames=0` the clip has no end: it is made block by block over what the model remembers of the blocks
//! before, in flat memory. Changes of `prompt`, `negative-prompt` and `guidance-scale` take effect with the next
//! block that is begun, and blocks that wait are dropped for it. A live source that cannot keep up says so, with
//! figures, and does as `lag-policy` says.
//!
//! With `image` the video begins with a picture, scaled and cropped to its size, and goes on from it as the prompt
//! says, block by block as above, for `num-frames` or without an end.
//!
//! With `video` it goes on from a clip, of any size, rate and format that GStreamer decodes: scaled and cropped as a
//! picture is, its frames left out or repeated to keep its speed at the rate of the output. `video-mode` says what comes
//! out: the clip and then `num-frames` new frames, the new ones alone, or `num-frames` that lead to the clip and then the
//! clip. What comes before is made backwards, by a model that knows only forwards: it suits what may as well run
//! backwards. What the model does not see of the clip's outermost frame fades out over the first new block. A clip that
//! cannot be decoded is one error; of one that breaks off, what there is counts.
//!
//! With `loop` the end leads back to the beginning: the last blocks, up to three and at most half of them, are drawn to
//! the frames that the first one follows. With `video` these are the clip's first frames, which therefore come last. The last of these blocks fades into the very frames.
//!
//! With `prompt-fade` another prompt takes hold gradually: its embeddings are mixed into those of the one before, and
//! the past is kept meanwhile, whatever `prompt-change` says.
//!
//! A stream on the `text` pad gives prompts times, so that subtitles are a storyboard:
//!
//! ```text
//! soragen name=story num-frames=0 ! ... filesrc location=storyboard.srt ! subparse ! story.text
//! ```
//!
//! The prompt of the cue that began last holds until the next one begins; before the first, that of the property.
//! The video ends with the last cue, once the stream of cues has ended. A source that is not live waits for the
//! first cue before it makes anything. Times are exact to a block.
//!
//! After the last frame the element sends EOS. A flush throws the clip away and makes the same clip
//! again from its first frame. Seeking is not possible.

mod caps;
mod convert;
mod cover;
mod cues;
mod extend;
mod frames;
mod image;
mod imp;
mod job;
mod negotiate;
mod record;
mod settings;
mod stats;
mod stream;
mod tags;
mod text_pad;
mod timing;
mod video;
mod wishes;
mod worker;

use gst::glib;
use gst::prelude::*;

glib::wrapper! {
    /// The element; see the [module](self).
    pub struct SoraGen(ObjectSubclass<imp::SoraGen>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

/// Number format of the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraDtype")]
pub enum Dtype {
    /// bf16 with an f32 VAE on CUDA; on a CPU f32 or bf16, as measured.
    #[default]
    #[enum_value(
        name = "bf16 on CUDA, with an f32 VAE; on a CPU f32, or bf16 where that is measured to be clearly faster",
        nick = "auto"
    )]
    Auto,
    /// 32-bit floats.
    #[enum_value(name = "32-bit floats", nick = "f32")]
    F32,
    /// bfloat16.
    #[enum_value(name = "bfloat16", nick = "bf16")]
    Bf16,
    /// IEEE half precision.
    #[enum_value(name = "IEEE half precision", nick = "f16")]
    F16,
    /// 8 bits, E4M3.
    #[enum_value(
        name = "8 bits (E4M3) for the large matrices of the transformer, bfloat16 for the rest of it",
        nick = "fp8"
    )]
    Fp8,
}

/// The sampler of the denoising loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraScheduler")]
pub enum Scheduler {
    /// The one that the model directory names.
    #[default]
    #[enum_value(name = "The one that the model directory names", nick = "auto")]
    Auto,
    /// Second-order multistep predictor-corrector.
    #[enum_value(name = "UniPCMultistepScheduler", nick = "unipc")]
    UniPc,
    /// First-order steps along the flow.
    #[enum_value(name = "FlowMatchEulerDiscreteScheduler", nick = "flow-match-euler")]
    FlowMatchEuler,
}

/// What is done to a prompt before the model sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraPromptEnhance")]
pub enum PromptEnhance {
    /// Nothing.
    #[default]
    #[enum_value(name = "The prompt is used as it is", nick = "off")]
    Off,
    /// The model directory's own `prompt_enhancer` expands it.
    #[enum_value(name = "The model's own prompt enhancer adds what the prompt leaves open", nick = "local")]
    Local,
}

/// What of the prompt a manifest may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraPromptPolicy")]
pub enum PromptPolicy {
    /// A salted hash.
    #[default]
    #[enum_value(name = "A salted hash: its author can prove it later", nick = "salted-hash")]
    SaltedHash,
    /// Nothing.
    #[enum_value(name = "Nothing", nick = "omit")]
    Omit,
    /// The text.
    #[enum_value(name = "The text, readable by everybody", nick = "text")]
    Text,
}

/// What comes out where a video goes on from a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraVideoMode")]
pub enum VideoMode {
    /// The clip, then new frames.
    #[default]
    #[enum_value(name = "The clip, then num-frames new frames that follow it", nick = "extend")]
    Extend,
    /// New frames alone.
    #[enum_value(name = "Only the num-frames new frames that follow the clip", nick = "continue")]
    Continue,
    /// New frames, then the clip.
    #[enum_value(
        name = "num-frames new frames that lead to the clip, made backwards, then the clip",
        nick = "prepend"
    )]
    Prepend,
}

/// What becomes of the past when the prompt changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraPromptChange")]
pub enum PromptChange {
    /// It is forgotten.
    #[default]
    #[enum_value(name = "It is forgotten: the next block shows the new prompt", nick = "cut")]
    Cut,
    /// It is seen again under the new prompt.
    #[enum_value(
        name = "It is seen again under the new prompt: the scene goes on, and may resist",
        nick = "keep"
    )]
    Keep,
}

/// What a live source does with frames that are not ready at their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstSoraLagPolicy")]
pub enum LagPolicy {
    /// Shows every frame.
    #[default]
    #[enum_value(name = "Every frame is shown, and time moves on with them", nick = "slow-down")]
    SlowDown,
    /// Drops late frames.
    #[enum_value(name = "Late frames are dropped while newer ones wait", nick = "drop")]
    Drop,
    /// Shows the last frame again.
    #[enum_value(name = "The last frame is shown again: the frame rate is kept", nick = "repeat-last")]
    RepeatLast,
}

impl PromptPolicy {
    /// The policy as a record has it.
    pub(crate) fn of_record(self) -> sora_record::PromptPolicy {
        match self {
            Self::SaltedHash => sora_record::PromptPolicy::SaltedHash,
            Self::Omit => sora_record::PromptPolicy::Omit,
            Self::Text => sora_record::PromptPolicy::Text,
        }
    }
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // In the documentation the enums belong to this plugin, not to the program that made them first.
    Dtype::static_type();
    Scheduler::static_type();
    PromptEnhance::static_type();
    PromptPolicy::static_type();
    LagPolicy::static_type();
    PromptChange::static_type();
    VideoMode::static_type();
    // Rank none: nothing that picks sources by itself should start a diffusion model.
    gst::Element::register(Some(plugin), "soragen", gst::Rank::NONE, SoraGen::static_type())
}
