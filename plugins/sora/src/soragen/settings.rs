//! The properties: what users may ask for, and what of it makes sense.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use sora_engine_api as api;
use sora_model::defaults::{NativeSettings, SizeRules};

use super::{LagPolicy, PromptChange, PromptEnhance, PromptPolicy, Scheduler, VideoMode};
use crate::choice::{self, ModelChoice, Text, get};

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    prompt: Text,
    prompt_enhance: PromptEnhance,
    prompt_policy: PromptPolicy,
    negative_prompt: Text,
    seed: i64,
    num_inference_steps: u32,
    guidance_scale: f64,
    num_frames: i32,
    scheduler: Scheduler,
    image: Option<PathBuf>,
    video: Option<PathBuf>,
    video_mode: VideoMode,
    looped: bool,
    pub(super) is_live: bool,
    pub(super) lag_policy: LagPolicy,
    prompt_change: PromptChange,
    /// Nanoseconds.
    prompt_fade: u64,
    pub(super) choice: ModelChoice,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: Text::default(),
            prompt_enhance: PromptEnhance::default(),
            prompt_policy: PromptPolicy::default(),
            negative_prompt: Text::default(),
            seed: -1,
            num_inference_steps: 0,
            guidance_scale: -1.0,
            num_frames: -1,
            scheduler: Scheduler::default(),
            image: None,
            video: None,
            video_mode: VideoMode::default(),
            looped: false,
            is_live: false,
            lag_policy: LagPolicy::default(),
            prompt_change: PromptChange::default(),
            prompt_fade: 0,
            choice: ModelChoice::default(),
        }
    }
}

/// What a clip begins with and leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Opening {
    /// The picture it begins with.
    pub(super) image: Option<PathBuf>,
    /// The clip it goes on from.
    pub(super) video: Option<(PathBuf, VideoMode)>,
    /// The end leads back to the beginning.
    pub(super) looped: bool,
}

impl Opening {
    /// Whether the clip is made block by block, even if it has an end.
    pub(super) fn is_streamed(&self) -> bool {
        *self != Self::default()
    }

    /// Whether more frames come out than are made.
    pub(super) fn shows_clip(&self) -> bool {
        self.video.as_ref().is_some_and(|(_, mode)| *mode != VideoMode::Continue)
    }
}

/// One clip, checked, but for its size, which is negotiated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) prompt: String,
    pub(super) prompt_enhance: api::PromptEnhance,
    pub(super) negative_prompt: String,
    /// Frames to be made, 0 without an end; those of a clip that it goes on from do not count.
    pub(super) num_frames: u32,
    pub(super) num_inference_steps: u32,
    pub(super) guidance_scale: f64,
    pub(super) scheduler: api::Scheduler,
    pub(super) seed: u64,
    pub(super) opening: Opening,
    /// Says how `num_frames` was rounded, if it was.
    pub(super) rounded: Option<String>,
}

/// What may change from block to block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wishes {
    pub(super) prompt: String,
    pub(super) negative_prompt: String,
    pub(super) guidance_scale: f64,
    /// Whether another prompt leaves the past as it is.
    pub(super) keep_past: bool,
    /// How long another prompt takes to take hold.
    pub(super) fade: Duration,
}

/// What is to be made next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wished {
    /// A block.
    Block(Wishes),
    /// Nothing before the text pad has said something.
    NotYet,
    /// Nothing more: the storyboard is over.
    End,
}

/// The properties that are [`Wishes`].
pub(super) const WISHES: [&str; 3] = ["prompt", "negative-prompt", "guidance-scale"];

impl Settings {
    /// Fills what was left to the model and refuses what no model can do. `block_frames` are those of every block of
    /// a stream but the first.
    pub(super) fn plan(
        &self,
        rules: &SizeRules,
        native: &NativeSettings,
        block_frames: u32,
    ) -> Result<Plan, String> {
        let opening = self.opening()?;
        let num_frames = self.num_frames(rules, native, block_frames)?;
        let rounded =
            (self.num_frames >= 0 && i64::from(self.num_frames) != i64::from(num_frames)).then(|| {
                let groups = match self.looped {
                    true => format!("whole groups of {block_frames}"),
                    false => "the first frame and whole groups after it".into(),
                };
                format!(
                    "num-frames is {}; this model makes {num_frames} frames instead, {groups}",
                    self.num_frames
                )
            });
        if (num_frames == 0 || opening.is_streamed()) && self.prompt_enhance != PromptEnhance::Off {
            return Err(
                "prompt-enhance is local, which works neither without an end (num-frames=0) nor with image, \
                        video or loop"
                    .into(),
            );
        }
        choice::check_guidance_scale(self.guidance_scale)?;
        let given = |value: u32, default: u32| if value == 0 { default } else { value };
        Ok(Plan {
            prompt: self.prompt.checked("prompt")?.into(),
            prompt_enhance: match self.prompt_enhance {
                PromptEnhance::Off => api::PromptEnhance::Off,
                PromptEnhance::Local => api::PromptEnhance::Local,
            },
            negative_prompt: self.negative_prompt.checked("negative-prompt")?.into(),
            num_frames,
            num_inference_steps: given(self.num_inference_steps, native.num_inference_steps),
            guidance_scale: choice::guidance_scale(self.guidance_scale, native),
            scheduler: match self.scheduler {
                Scheduler::Auto => api::Scheduler::Model,
                Scheduler::UniPc => api::Scheduler::UniPc,
                Scheduler::FlowMatchEuler => api::Scheduler::FlowMatchEuler,
            },
            seed: choice::seed(self.seed),
            opening,
            rounded,
        })
    }

    /// Refuses what contradicts itself.
    fn opening(&self) -> Result<Opening, String> {
        let backwards = self.video.is_some() && self.video_mode == VideoMode::Prepend;
        if self.image.is_some() && self.video.is_some() {
            return Err("image and video are set; a video begins with one of them".into());
        }
        if self.num_frames == 0 && (self.looped || backwards) {
            let what = if self.looped { "loop is true" } else { "video-mode is prepend" };
            return Err(format!("{what}, which needs a length, and num-frames is 0: without an end"));
        }
        if self.looped && backwards {
            return Err(
                "loop is true and video-mode is prepend; a loop goes forwards (extend or continue)".into()
            );
        }
        let video = self.video.clone().map(|path| (path, self.video_mode));
        Ok(Opening { image: self.image.clone(), video, looped: self.looped })
    }

    /// The length, as the model makes it: blocks may be cut off, but not where the end leads back to the beginning.
    fn num_frames(
        &self,
        rules: &SizeRules,
        native: &NativeSettings,
        block_frames: u32,
    ) -> Result<u32, String> {
        let rounded = |given: u32| rules.round_num_frames(given.into()).map_err(|error| error.to_string());
        let whole = |given: u32| given.div_ceil(block_frames.max(1)) * block_frames;
        match u32::try_from(self.num_frames) {
            Ok(0) => Ok(0),
            Err(_) if self.looped || self.video.is_some() => {
                Ok(whole(native.num_frames.saturating_sub(1).max(1)))
            }
            Err(_) => Ok(native.num_frames),
            Ok(given) if self.looped => rounded(given).map(|_| whole(given)),
            // Any number is possible.
            Ok(given) if self.video.is_some() => rounded(given).map(|_| given),
            Ok(given) => rounded(given),
        }
    }

    /// What the next block of a stream without an end is to be. What was set to nonsense while playing is read as
    /// well as it can be.
    pub(super) fn wishes(&self, native: &NativeSettings) -> Wishes {
        Wishes {
            prompt: self.prompt.shown(),
            negative_prompt: self.negative_prompt.shown(),
            guidance_scale: choice::guidance_scale(self.guidance_scale, native),
            keep_past: self.prompt_change == PromptChange::Keep,
            fade: Duration::from_nanos(self.prompt_fade),
        }
    }

    /// Which model, and whether its frames have to be made in time: without an end, or live.
    pub(super) fn model(&self) -> (ModelChoice, bool) {
        (self.choice.clone(), self.num_frames == 0 || self.is_live)
    }

    pub(super) fn prompt_policy(&self) -> sora_record::PromptPolicy {
        self.prompt_policy.of_record()
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "prompt" => self.prompt = Text::of(value),
            "prompt-enhance" => self.prompt_enhance = get(value),
            "prompt-policy" => self.prompt_policy = get(value),
            "negative-prompt" => self.negative_prompt = Text::of(value),
            "seed" => self.seed = get(value),
            "num-inference-steps" => self.num_inference_steps = get(value),
            "guidance-scale" => self.guidance_scale = get(value),
            "num-frames" => self.num_frames = get(value),
            "scheduler" => self.scheduler = get(value),
            "image" => self.image = choice::path(value),
            "video" => self.video = choice::path(value),
            "video-mode" => self.video_mode = get(value),
            "loop" => self.looped = get(value),
            "is-live" => self.is_live = get(value),
            "lag-policy" => self.lag_policy = get(value),
            "prompt-change" => self.prompt_change = get(value),
            "prompt-fade" => self.prompt_fade = get(value),
            other => assert!(self.choice.set(other, value), "{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "prompt" => self.prompt.shown().to_value(),
            "prompt-enhance" => self.prompt_enhance.to_value(),
            "prompt-policy" => self.prompt_policy.to_value(),
            "negative-prompt" => self.negative_prompt.shown().to_value(),
            "seed" => self.seed.to_value(),
            "num-inference-steps" => self.num_inference_steps.to_value(),
            "guidance-scale" => self.guidance_scale.to_value(),
            "num-frames" => self.num_frames.to_value(),
            "scheduler" => self.scheduler.to_value(),
            "image" => choice::shown(self.image.as_ref()),
            "video" => choice::shown(self.video.as_ref()),
            "video-mode" => self.video_mode.to_value(),
            "loop" => self.looped.to_value(),
            "is-live" => self.is_live.to_value(),
            "lag-policy" => self.lag_policy.to_value(),
            "prompt-change" => self.prompt_change.to_value(),
            "prompt-fade" => self.prompt_fade.to_value(),
            other => return self.choice.value(other),
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let mut list = clip_properties();
        list.extend(opening_properties());
        list.extend(choice::properties());
        list.extend(read_only_properties());
        list
    });
    &PROPERTIES
}

/// What the clip shows and how it is made: from the next clip on.
fn clip_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("prompt")
            .nick("Prompt")
            .blurb("What the video shows; empty for whatever comes to the model's mind; without an end (num-frames=0) a change takes effect with the next block, else with the next clip")
            .default_value("")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-enhance", PromptEnhance::Off)
            .nick("Prompt enhancement")
            .blurb("What is done to a short prompt before the model sees it; see prompt-used")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-policy", PromptPolicy::SaltedHash)
            .nick("Prompt policy")
            .blurb("What a signed manifest may say of the prompt; with text, it is the title of the stream too")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("negative-prompt")
            .nick("Negative prompt")
            .blurb("What the video should not show; only used when guidance-scale is above 1; changes take effect as those of prompt")
            .default_value("")
            .mutable_playing()
            .build(),
        glib::ParamSpecInt64::builder("seed")
            .nick("Seed")
            .blurb("Seed of the initial noise: same seed, same video; -1 = a random one, see seed-used")
            .minimum(-1)
            .default_value(-1)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("num-inference-steps")
            .nick("Number of inference steps")
            .blurb("Denoising steps: more take longer and look better; 0 = the model's own number")
            .maximum(1000)
            .default_value(0)
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("guidance-scale")
            .nick("Guidance scale")
            .blurb("How strongly the video follows the prompt; up to 1 = no guidance, twice as fast; -1 = the model's own scale; changes take effect as those of prompt")
            .minimum(-1.0)
            .maximum(1000.0)
            .default_value(-1.0)
            // Not a number is no number GObject can force into a range: the element refuses it.
            .lax_validation()
            .mutable_playing()
            .build(),
        glib::ParamSpecInt::builder("num-frames")
            .nick("Number of frames")
            .blurb("Length of the clip in frames, rounded to what the model makes (1, 5, 9, ...; with loop 4, 8, ...); with video the number of new frames, any; 1 = an image; 0 = without an end, block by block; -1 = the model's own length")
            .minimum(-1)
            .default_value(-1)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("scheduler", Scheduler::Auto)
            .nick("Scheduler")
            .blurb("The sampler of the denoising loop")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("is-live")
            .nick("Is live")
            .blurb("Act as a live source: frames leave at their time on the pipeline's clock, only while playing")
            .default_value(false)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-change", PromptChange::Cut)
            .nick("Prompt change")
            .blurb("What becomes of the past when the prompt changes without an end (num-frames=0)")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("prompt-fade")
            .nick("Prompt fade")
            .blurb("How long another prompt takes to take hold, in nanoseconds of video; the past is kept meanwhile, and what lies between the prompts is mixed from both; 0 = at once, as prompt-change says")
            .default_value(0)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("lag-policy", LagPolicy::SlowDown)
            .nick("Lag policy")
            .blurb("What a live source does with frames that are not ready at their time")
            .mutable_playing()
            .build(),
    ]
}

/// What the clip begins with and leads to.
fn opening_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("image")
            .nick("Image")
            .blurb("Path of a picture, PNG or JPEG, that the video begins with; unset = none")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("video")
            .nick("Video")
            .blurb("Path of a clip, of any kind that GStreamer decodes, that the video goes on from; unset = none")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("video-mode", VideoMode::Extend)
            .nick("Video mode")
            .blurb("What comes out where the video goes on from a clip")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("loop")
            .nick("Loop")
            .blurb("Whether the end leads back to the beginning, so that the video can be shown over and over")
            .default_value(false)
            .mutable_ready()
            .build(),
    ]
}

fn read_only_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("prompt-used")
            .nick("Prompt used")
            .blurb("The prompt that the model saw for the clip being made or made last, after prompt-enhance; empty = none yet")
            .default_value("")
            .read_only()
            .build(),
        glib::ParamSpecInt64::builder("seed-used")
            .nick("Seed used")
            .blurb("Seed of the clip being made or made last; -1 = none yet")
            .minimum(-1)
            .default_value(-1)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Model, settings, counts and times (in nanoseconds) of the clip being made or made last")
            .read_only()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_model::config::{TransformerConfig, VaeConfig};

    fn plan(settings: &Settings) -> Result<Plan, String> {
        let vae = VaeConfig::default();
        let rules = SizeRules::new(&TransformerConfig::default(), &vae);
        settings.plan(&rules, &NativeSettings::derived(&vae), 4)
    }

    #[test]
    fn what_is_not_set_is_the_models_own() {
        let plan = plan(&Settings::default()).expect("the defaults are fine");
        assert_eq!((plan.num_frames, plan.num_inference_steps), (81, 50));
        assert_eq!(plan.guidance_scale, 5.0);
        assert_eq!(plan.rounded, None);
    }

    #[test]
    fn num_frames_is_rounded_and_says_so() {
        let plan = plan(&Settings { num_frames: 2, ..Settings::default() }).expect("it is rounded");
        assert_eq!(plan.num_frames, 1);
        let said = plan.rounded.expect("it was rounded");
        assert!(said.contains("num-frames is 2") && said.contains("1 frames"), "{said}");
    }

    #[test]
    fn new_frames_may_be_any_number_and_those_of_a_loop_are_whole_groups() {
        let frames = |settings: Settings| plan(&settings).expect("a length").num_frames;
        let video = Some("clip.mp4".into());
        assert_eq!(frames(Settings { num_frames: 7, video: video.clone(), ..Settings::default() }), 7);
        assert_eq!(frames(Settings { video, ..Settings::default() }), 80);
        assert_eq!(frames(Settings { num_frames: 7, looped: true, ..Settings::default() }), 8);
        assert_eq!(frames(Settings { looped: true, ..Settings::default() }), 80);
    }

    #[test]
    fn nought_frames_are_without_an_end() {
        let plan = plan(&Settings { num_frames: 0, ..Settings::default() }).expect("it is a length");
        assert_eq!((plan.num_frames, plan.rounded), (0, None));
    }

    #[test]
    fn what_no_model_can_do_is_refused_with_the_bound() {
        for (settings, part) in [
            (Settings { num_frames: 1_000_000, ..Settings::default() }, "1 to 4093 frames"),
            (Settings { guidance_scale: f64::NAN, ..Settings::default() }, "guidance-scale"),
            (Settings { prompt: Text::NotUtf8(vec![b'a', 0xff]), ..Settings::default() }, "UTF-8"),
            (Settings { looped: true, num_frames: 0, ..Settings::default() }, "num-frames is 0"),
            (
                Settings { image: Some("a".into()), video: Some("b".into()), ..Settings::default() },
                "one of them",
            ),
            (
                Settings {
                    video: Some("a".into()),
                    video_mode: VideoMode::Prepend,
                    num_frames: 0,
                    ..Settings::default()
                },
                "video-mode is prepend",
            ),
        ] {
            let error = plan(&settings).expect_err("it cannot be done");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_given_seed_is_kept_and_random_ones_differ() {
        let seed = |seed| plan(&Settings { seed, ..Settings::default() }).expect("any seed is fine").seed;
        assert_eq!(seed(0), 0);
        assert_eq!(seed(i64::MAX), i64::MAX as u64);
        let random: std::collections::HashSet<u64> = (0..20).map(|_| seed(-1)).collect();
        assert!(random.len() > 15, "{random:?}");
    }
}
