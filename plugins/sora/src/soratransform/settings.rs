//! The properties: what users may ask for, and what of it makes sense.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;
use sora_model::defaults::NativeSettings;

use super::{Method, NoiseMode, QueuePolicy};
use crate::choice::{self, ModelChoice, Text, get};
use crate::soragen::PromptPolicy;

/// Strength that looks best with the embedded model.
pub(super) const DEFAULT_STRENGTH: f64 = 0.75;

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    prompt: Text,
    prompt_policy: PromptPolicy,
    negative_prompt: Text,
    source_prompt: Text,
    method: Method,
    strength: f64,
    noise_mode: NoiseMode,
    motion_adaptive: bool,
    num_inference_steps: u32,
    guidance_scale: f64,
    seed: i64,
    enabled: bool,
    pub(super) queue_policy: QueuePolicy,
    pub(super) working_size: (u32, u32),
    pub(super) choice: ModelChoice,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: Text::default(),
            prompt_policy: PromptPolicy::default(),
            negative_prompt: Text::default(),
            source_prompt: Text::default(),
            method: Method::default(),
            strength: DEFAULT_STRENGTH,
            noise_mode: NoiseMode::default(),
            motion_adaptive: false,
            num_inference_steps: 0,
            guidance_scale: -1.0,
            seed: -1,
            enabled: true,
            queue_policy: QueuePolicy::default(),
            working_size: (0, 0),
            choice: ModelChoice::default(),
        }
    }
}

/// How the next block is restyled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Style {
    pub(super) prompt: String,
    pub(super) negative_prompt: String,
    pub(super) source_prompt: Option<String>,
    /// Whether the model sees the video.
    pub(super) shown: bool,
    /// Above 0.
    pub(super) strength: f64,
    pub(super) fresh_noise: bool,
    pub(super) motion_adaptive: bool,
    pub(super) num_inference_steps: u32,
    pub(super) guidance_scale: f64,
}

impl Settings {
    /// Refuses what no model can do.
    pub(super) fn check(&self) -> Result<(), String> {
        self.prompt.checked("prompt")?;
        self.negative_prompt.checked("negative-prompt")?;
        self.source_prompt.checked("source-prompt")?;
        choice::check_guidance_scale(self.guidance_scale)?;
        if self.strength.is_nan() {
            return Err("strength is not a number; it is 0 to 1".into());
        }
        Ok(())
    }

    /// Refuses what this model cannot do.
    pub(super) fn check_model(&self, name: &str, taught: bool) -> Result<(), String> {
        if self.method == Method::Learned && !taught {
            return Err(format!(
                "method is learned, but {name} was not taught to restyle (it has no source_embedding); use auto, difference or noise"
            ));
        }
        Ok(())
    }

    /// Whether frames go through untouched.
    pub(super) fn passes_through(&self) -> bool {
        // Not a number restyles nothing either.
        !(self.enabled && self.strength > 0.0)
    }

    /// How the next block is restyled; `None` where frames go through untouched. What was set to nonsense while
    /// playing is read as well as it can be. `taught` says whether the model was taught to restyle.
    pub(super) fn style(&self, native: &NativeSettings, taught: bool) -> Option<Style> {
        let method = match self.method {
            Method::Auto | Method::Learned if taught => Method::Learned,
            Method::Auto | Method::Learned => Method::Difference,
            asked => asked,
        };
        (!self.passes_through()).then(|| Style {
            prompt: self.prompt.shown(),
            negative_prompt: self.negative_prompt.shown(),
            shown: method == Method::Learned,
            source_prompt: (method == Method::Difference).then(|| self.source_prompt.shown()),
            strength: self.strength,
            fresh_noise: self.noise_mode == NoiseMode::Fresh,
            motion_adaptive: self.motion_adaptive,
            num_inference_steps: match self.num_inference_steps {
                0 => native.num_inference_steps,
                given => given,
            },
            guidance_scale: choice::guidance_scale(self.guidance_scale, native),
        })
    }

    pub(super) fn seed(&self) -> u64 {
        choice::seed(self.seed)
    }

    pub(super) fn prompt_policy(&self) -> sora_record::PromptPolicy {
        self.prompt_policy.of_record()
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "prompt" => self.prompt = Text::of(value),
            "prompt-policy" => self.prompt_policy = get(value),
            "negative-prompt" => self.negative_prompt = Text::of(value),
            "source-prompt" => self.source_prompt = Text::of(value),
            "method" => self.method = get(value),
            "strength" => self.strength = get(value),
            "noise-mode" => self.noise_mode = get(value),
            "motion-adaptive" => self.motion_adaptive = get(value),
            "num-inference-steps" => self.num_inference_steps = get(value),
            "guidance-scale" => self.guidance_scale = get(value),
            "seed" => self.seed = get(value),
            "enabled" => self.enabled = get(value),
            "queue-policy" => self.queue_policy = get(value),
            "working-width" => self.working_size.0 = get(value),
            "working-height" => self.working_size.1 = get(value),
            other => assert!(self.choice.set(other, value), "{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "prompt" => self.prompt.shown().to_value(),
            "prompt-policy" => self.prompt_policy.to_value(),
            "negative-prompt" => self.negative_prompt.shown().to_value(),
            "source-prompt" => self.source_prompt.shown().to_value(),
            "method" => self.method.to_value(),
            "strength" => self.strength.to_value(),
            "noise-mode" => self.noise_mode.to_value(),
            "motion-adaptive" => self.motion_adaptive.to_value(),
            "num-inference-steps" => self.num_inference_steps.to_value(),
            "guidance-scale" => self.guidance_scale.to_value(),
            "seed" => self.seed.to_value(),
            "enabled" => self.enabled.to_value(),
            "queue-policy" => self.queue_policy.to_value(),
            "working-width" => self.working_size.0.to_value(),
            "working-height" => self.working_size.1.to_value(),
            other => return self.choice.value(other),
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let mut list = live_properties();
        list.extend(stream_properties());
        list.extend(choice::properties());
        list.extend(read_only_properties());
        list
    });
    &PROPERTIES
}

/// What takes effect with the next block.
fn live_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("prompt")
            .nick("Prompt")
            .blurb("What the video is to look like; takes effect with the next block")
            .default_value("")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("negative-prompt")
            .nick("Negative prompt")
            .blurb("What the video should not look like; only used when guidance-scale is above 1")
            .default_value("")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("source-prompt")
            .nick("Source prompt")
            .blurb("What the video shows as it comes in, for method=difference; empty = anything")
            .default_value("")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("method", Method::Auto)
            .nick("Method")
            .blurb("How a block is restyled")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("strength")
            .nick("Strength")
            .blurb("How much is made anew: 0 = frames pass untouched, 1 = nothing of the video is kept")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(DEFAULT_STRENGTH)
            // Not a number is no number GObject can force into a range: the element refuses it.
            .lax_validation()
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("noise-mode", NoiseMode::Fixed)
            .nick("Noise mode")
            .blurb("Which noise is laid over the blocks before they are restyled")
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("motion-adaptive")
            .nick("Motion adaptive")
            .blurb("Lessen the strength, by an eighth at the most, where there is fast motion")
            .default_value(false)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("num-inference-steps")
            .nick("Number of inference steps")
            .blurb("Denoising steps at strength 1, and proportionally fewer below; 0 = the model's own number")
            .maximum(1000)
            .default_value(0)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("guidance-scale")
            .nick("Guidance scale")
            .blurb("How strongly the video follows the prompt; up to 1 = no guidance, twice as fast; -1 = the model's own scale")
            .minimum(-1.0)
            .maximum(1000.0)
            .default_value(-1.0)
            .lax_validation()
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("enabled")
            .nick("Enabled")
            .blurb("Whether frames are restyled; otherwise they pass untouched and without delay")
            .default_value(true)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("queue-policy", QueuePolicy::Auto)
            .nick("Queue policy")
            .blurb("What happens to a frame when the block before the one being restyled is full")
            .mutable_playing()
            .build(),
    ]
}

/// What takes effect when the element starts, or with the next caps.
fn stream_properties() -> Vec<glib::ParamSpec> {
    let side = |name: &str, nick: &str, blurb: &str| {
        glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).maximum(8192).mutable_ready().build()
    };
    vec![
        glib::ParamSpecEnum::builder_with_default("prompt-policy", PromptPolicy::SaltedHash)
            .nick("Prompt policy")
            .blurb("What of the prompt a signed manifest may say")
            .mutable_ready()
            .build(),
        glib::ParamSpecInt64::builder("seed")
            .nick("Seed")
            .blurb(
                "Seed of the noise: same seed and same frames, same video; -1 = a random one, see seed-used",
            )
            .minimum(-1)
            .default_value(-1)
            .mutable_ready()
            .build(),
        side(
            "working-width",
            "Working width",
            "Width that frames are scaled and padded to for the model, rounded as it asks; 0 = what fits the video's shape",
        ),
        side(
            "working-height",
            "Working height",
            "Height that frames are scaled and padded to for the model, rounded as it asks; 0 = what fits the video's shape",
        ),
    ]
}

fn read_only_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecInt64::builder("seed-used")
            .nick("Seed used")
            .blurb("Seed of the stream being restyled or restyled last; -1 = none yet")
            .minimum(-1)
            .default_value(-1)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames in, out, restyled and dropped, frames that wait, blocks, block time, stated and measured latency (in nanoseconds), frames a second that can be restyled")
            .read_only()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_model::config::VaeConfig;

    fn native() -> NativeSettings {
        NativeSettings::derived(&VaeConfig::default())
    }

    #[test]
    fn frames_pass_where_nothing_is_to_be_done() {
        let style = |settings: Settings| settings.style(&native(), true);
        assert!(style(Settings::default()).is_some());
        assert!(style(Settings { enabled: false, ..Settings::default() }).is_none());
        assert!(style(Settings { strength: 0.0, ..Settings::default() }).is_none());
        assert!(style(Settings { strength: f64::NAN, ..Settings::default() }).is_none());
    }

    #[test]
    fn what_is_not_set_is_the_models_own() {
        let style = Settings::default().style(&native(), false).expect("it restyles");
        assert_eq!((style.num_inference_steps, style.guidance_scale), (50, 5.0));
    }

    #[test]
    fn models_that_were_taught_to_restyle_see_the_video() {
        let with = |method| Settings { method, ..Settings::default() };
        for (method, taught, shown, contrasted) in [
            (Method::Auto, true, true, false),
            (Method::Auto, false, false, true),
            (Method::Learned, true, true, false),
            (Method::Difference, true, false, true),
            (Method::Noise, true, false, false),
        ] {
            let style = with(method).style(&native(), taught).expect("it restyles");
            assert_eq!((style.shown, style.source_prompt.is_some()), (shown, contrasted), "{method:?}");
        }
        with(Method::Learned).check_model("m", true).expect("it was taught");
        with(Method::Auto).check_model("m", false).expect("there is another way");
        let error = with(Method::Learned).check_model("m", false).expect_err("it was not taught");
        assert!(error.contains("method is learned") && error.contains(" m "), "{error}");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (settings, part) in [
            (Settings { strength: f64::NAN, ..Settings::default() }, "strength"),
            (Settings { guidance_scale: f64::NAN, ..Settings::default() }, "guidance-scale"),
            (Settings { prompt: Text::NotUtf8(vec![0xff]), ..Settings::default() }, "UTF-8"),
        ] {
            let error = settings.check().expect_err("nonsense");
            assert!(error.contains(part), "{error}");
        }
        Settings::default().check().expect("the defaults are fine");
    }
}
