//! The properties.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use sora_model::defaults::NativeSettings;

use crate::choice::{self, ModelChoice, Text, get};
use crate::soragen::PromptPolicy;

/// Nanoseconds.
const DEFAULT_DURATION: u64 = 2_000_000_000;
const DEFAULT_TIMEOUT: u64 = 30_000_000_000;
/// Longest transition: an hour.
const MOST_DURATION: u64 = 3_600_000_000_000;

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    prompt: Text,
    to_prompt: Text,
    prompt_policy: PromptPolicy,
    negative_prompt: Text,
    /// Nanoseconds.
    duration: u64,
    timeout: u64,
    num_inference_steps: u32,
    guidance_scale: f64,
    seed: i64,
    working_size: (u32, u32),
    pub(super) choice: ModelChoice,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: Text::default(),
            to_prompt: Text::default(),
            prompt_policy: PromptPolicy::default(),
            negative_prompt: Text::default(),
            duration: DEFAULT_DURATION,
            timeout: DEFAULT_TIMEOUT,
            num_inference_steps: 0,
            guidance_scale: -1.0,
            seed: -1,
            working_size: (0, 0),
            choice: ModelChoice::default(),
        }
    }
}

/// How the one clip is to become the other, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) prompt: String,
    /// The prompt that it fades into; the same one where none is given.
    pub(super) to_prompt: String,
    pub(super) prompt_policy: sora_record::PromptPolicy,
    pub(super) negative_prompt: String,
    pub(super) duration: Duration,
    /// `None`: for ever.
    pub(super) timeout: Option<Duration>,
    pub(super) num_inference_steps: u32,
    pub(super) guidance_scale: f64,
    pub(super) seed: u64,
    pub(super) working_size: (u32, u32),
}

impl Settings {
    /// Fills what was left to the model and refuses what no model can do.
    pub(super) fn plan(&self, native: &NativeSettings) -> Result<Plan, String> {
        choice::check_guidance_scale(self.guidance_scale)?;
        let prompt = self.prompt.checked("prompt")?;
        let to_prompt = self.to_prompt.checked("to-prompt")?;
        Ok(Plan {
            prompt: prompt.into(),
            to_prompt: if to_prompt.is_empty() { prompt } else { to_prompt }.into(),
            prompt_policy: self.prompt_policy.of_record(),
            negative_prompt: self.negative_prompt.checked("negative-prompt")?.into(),
            duration: Duration::from_nanos(self.duration),
            timeout: (self.timeout > 0).then(|| Duration::from_nanos(self.timeout)),
            num_inference_steps: match self.num_inference_steps {
                0 => native.num_inference_steps,
                given => given,
            },
            guidance_scale: choice::guidance_scale(self.guidance_scale, native),
            seed: choice::seed(self.seed),
            working_size: self.working_size,
        })
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "prompt" => self.prompt = Text::of(value),
            "to-prompt" => self.to_prompt = Text::of(value),
            "prompt-policy" => self.prompt_policy = get(value),
            "negative-prompt" => self.negative_prompt = Text::of(value),
            "duration" => self.duration = get(value),
            "timeout" => self.timeout = get(value),
            "num-inference-steps" => self.num_inference_steps = get(value),
            "guidance-scale" => self.guidance_scale = get(value),
            "seed" => self.seed = get(value),
            "working-width" => self.working_size.0 = get(value),
            "working-height" => self.working_size.1 = get(value),
            other => assert!(self.choice.set(other, value), "{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "prompt" => self.prompt.shown().to_value(),
            "to-prompt" => self.to_prompt.shown().to_value(),
            "prompt-policy" => self.prompt_policy.to_value(),
            "negative-prompt" => self.negative_prompt.shown().to_value(),
            "duration" => self.duration.to_value(),
            "timeout" => self.timeout.to_value(),
            "num-inference-steps" => self.num_inference_steps.to_value(),
            "guidance-scale" => self.guidance_scale.to_value(),
            "seed" => self.seed.to_value(),
            "working-width" => self.working_size.0.to_value(),
            "working-height" => self.working_size.1.to_value(),
            other => return self.choice.value(other),
        })
    }
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let mut list = transition_properties();
        list.extend(choice::properties());
        list.extend(read_only_properties());
        list
    });
    &PROPERTIES
}

fn transition_properties() -> Vec<glib::ParamSpec> {
    let side = |name: &str, nick: &str| {
        let blurb = format!(
            "{nick} that frames are scaled and padded to for the model, rounded as it asks; 0 = what fits the video's \
             shape"
        );
        glib::ParamSpecUInt::builder(name).nick(nick).blurb(&blurb).maximum(8192).mutable_ready().build()
    };
    vec![
        glib::ParamSpecString::builder("prompt")
            .nick("Prompt")
            .blurb("What is to be seen while the one clip turns into the other")
            .default_value("")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("to-prompt")
            .nick("Prompt in the end")
            .blurb("The prompt that the other one fades into meanwhile; empty = none")
            .default_value("")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-policy", PromptPolicy::SaltedHash)
            .nick("Prompt policy")
            .blurb("What of the prompt a signed manifest may say")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("negative-prompt")
            .nick("Negative prompt")
            .blurb("What is not to be seen meanwhile; only used when guidance-scale is above 1")
            .default_value("")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("duration")
            .nick("Duration")
            .blurb("How long the one clip turns into the other, in nanoseconds, rounded to whole blocks; its last part takes the place of the second clip's first frames; 0 = not at all")
            .maximum(MOST_DURATION)
            .default_value(DEFAULT_DURATION)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("timeout")
            .nick("Timeout")
            .blurb("How long to wait for the first frame of an input when it is its turn, in nanoseconds; a live one only while playing; 0 = for ever")
            .default_value(DEFAULT_TIMEOUT)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("num-inference-steps")
            .nick("Number of inference steps")
            .blurb("Denoising steps of a block that is made freely; 0 = the model's own number")
            .maximum(1000)
            .default_value(0)
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("guidance-scale")
            .nick("Guidance scale")
            .blurb("How strongly the transition follows the prompt; up to 1 = no guidance, twice as fast; -1 = the model's own scale")
            .minimum(-1.0)
            .maximum(1000.0)
            .default_value(-1.0)
            // Not a number is no number GObject can force into a range: the element refuses it.
            .lax_validation()
            .mutable_ready()
            .build(),
        glib::ParamSpecInt64::builder("seed")
            .nick("Seed")
            .blurb("Seed of the noise: same seed and same clips, same video; -1 = a random one, see seed-used")
            .minimum(-1)
            .default_value(-1)
            .mutable_ready()
            .build(),
        side("working-width", "Width"),
        side("working-height", "Height"),
    ]
}

fn read_only_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecInt64::builder("seed-used")
            .nick("Seed used")
            .blurb("Seed of the transition being made or made last; -1 = none yet")
            .minimum(-1)
            .default_value(-1)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames that came in on either pad, were dropped, went out and were made; blocks, the time of the last one, their mean and the longest (without the first one) and the loading time (in nanoseconds)")
            .read_only()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_model::config::VaeConfig;

    #[test]
    fn a_second_prompt_is_the_first_one_unless_it_is_given_and_nonsense_is_refused() {
        let native = NativeSettings::derived(&VaeConfig::default());
        let text = |text: &str| Text::Utf8(text.into());
        let settings = Settings { prompt: text("a ball"), ..Settings::default() };
        assert_eq!(settings.plan(&native).expect("it is fine").to_prompt, "a ball");
        let settings = Settings { to_prompt: text("snow"), ..settings };
        assert_eq!(settings.plan(&native).expect("it is fine").to_prompt, "snow");
        for (settings, part) in [
            (Settings { guidance_scale: f64::NAN, ..Settings::default() }, "guidance-scale"),
            (
                Settings { to_prompt: Text::NotUtf8(vec![0xff]), ..Settings::default() },
                "to-prompt is not UTF-8",
            ),
        ] {
            let error = settings.plan(&native).expect_err("nonsense");
            assert!(error.contains(part), "{error}");
        }
    }
}
