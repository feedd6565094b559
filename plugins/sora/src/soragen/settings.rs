//! The properties: what users may ask for, and what of it makes sense.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use gst::glib;
use gst::glib::translate::ToGlibPtr;
use gst::prelude::*;
use sora_engine_api as api;
use sora_model::defaults::{NativeSettings, SizeRules};

use super::{Dtype, PromptEnhance, PromptPolicy, Scheduler};

/// Values of the writable properties, as given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    prompt: Text,
    prompt_enhance: PromptEnhance,
    prompt_policy: PromptPolicy,
    negative_prompt: Text,
    pub(super) model_path: Option<PathBuf>,
    pub(super) transformer_file: Option<PathBuf>,
    seed: i64,
    num_inference_steps: u32,
    guidance_scale: f64,
    num_frames: u32,
    scheduler: Scheduler,
    device: String,
    dtype: Dtype,
    pub(super) is_live: bool,
}

/// A string property, which C code may fill with any bytes.
#[derive(Clone, Debug)]
enum Text {
    Utf8(String),
    NotUtf8(Vec<u8>),
}

impl Text {
    fn checked(&self, property: &str) -> Result<&str, String> {
        match self {
            Self::Utf8(text) => Ok(text),
            Self::NotUtf8(bytes) => {
                Err(format!("{property} is not UTF-8 text: \"{}\"", String::from_utf8_lossy(bytes)))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Utf8(text) => text.clone(),
            Self::NotUtf8(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: Text::Utf8(String::new()),
            prompt_enhance: PromptEnhance::default(),
            prompt_policy: PromptPolicy::default(),
            negative_prompt: Text::Utf8(String::new()),
            model_path: None,
            transformer_file: None,
            seed: -1,
            num_inference_steps: 0,
            guidance_scale: -1.0,
            num_frames: 0,
            scheduler: Scheduler::default(),
            device: "auto".into(),
            dtype: Dtype::default(),
            is_live: false,
        }
    }
}

/// One clip, checked, but for its size, which is negotiated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) prompt: String,
    pub(super) prompt_enhance: api::PromptEnhance,
    pub(super) negative_prompt: String,
    pub(super) num_frames: u32,
    pub(super) num_inference_steps: u32,
    pub(super) guidance_scale: f64,
    pub(super) scheduler: api::Scheduler,
    pub(super) seed: u64,
    /// Says how `num_frames` was rounded, if it was.
    pub(super) rounded: Option<String>,
}

impl Settings {
    /// Fills what was left to the model and refuses what no model can do.
    pub(super) fn plan(&self, rules: &SizeRules, native: &NativeSettings) -> Result<Plan, String> {
        let num_frames = match self.num_frames {
            0 => native.num_frames,
            given => rules.round_num_frames(given.into()).map_err(|error| error.to_string())?,
        };
        let rounded = (self.num_frames != 0 && self.num_frames != num_frames).then(|| {
            format!(
                "num-frames is {}; this model makes {num_frames} frames instead, the first frame \
                 and whole groups after it",
                self.num_frames
            )
        });
        if self.guidance_scale.is_nan() {
            return Err("guidance-scale is not a number; it is 0 to 1000, or -1 for the model's own".into());
        }
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
            guidance_scale: if self.guidance_scale < 0.0 {
                native.guidance_scale
            } else {
                self.guidance_scale
            },
            scheduler: match self.scheduler {
                Scheduler::Auto => api::Scheduler::Model,
                Scheduler::UniPc => api::Scheduler::UniPc,
                Scheduler::FlowMatchEuler => api::Scheduler::FlowMatchEuler,
            },
            seed: u64::try_from(self.seed).unwrap_or_else(|_| random_seed()),
            rounded,
        })
    }

    /// The device, or what is wrong with its name.
    pub(super) fn device(&self) -> Result<api::Device, String> {
        match self.device.as_str() {
            "auto" | "" => Ok(api::Device::Auto),
            "cpu" => Ok(api::Device::Cpu),
            "cuda" => Ok(api::Device::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(api::Device::Cuda)
                .ok_or_else(|| {
                    format!("device is \"{other}\"; it is auto, cpu, cuda or cuda:N; read when leaving NULL")
                }),
        }
    }

    pub(super) fn prompt_policy(&self) -> sora_record::PromptPolicy {
        match self.prompt_policy {
            PromptPolicy::SaltedHash => sora_record::PromptPolicy::SaltedHash,
            PromptPolicy::Omit => sora_record::PromptPolicy::Omit,
            PromptPolicy::Text => sora_record::PromptPolicy::Text,
        }
    }

    pub(super) fn dtype(&self) -> api::Dtype {
        match self.dtype {
            Dtype::Auto => api::Dtype::Auto,
            Dtype::F32 => api::Dtype::F32,
            Dtype::Bf16 => api::Dtype::Bf16,
            Dtype::F16 => api::Dtype::F16,
        }
    }

    /// Sets the property called `name`. The value has its type: GObject has checked.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        fn get<'v, T>(value: &'v glib::Value) -> T
        where
            T: glib::value::FromValue<'v>,
            T::Checker: glib::value::ValueTypeChecker<Error: std::fmt::Debug>,
        {
            value.get().expect("GObject checks the type")
        }
        match name {
            "prompt" => self.prompt = text(value),
            "prompt-enhance" => self.prompt_enhance = get(value),
            "prompt-policy" => self.prompt_policy = get(value),
            "negative-prompt" => self.negative_prompt = text(value),
            "model-path" => self.model_path = path(value),
            "transformer-file" => self.transformer_file = path(value),
            "seed" => self.seed = get(value),
            "num-inference-steps" => self.num_inference_steps = get(value),
            "guidance-scale" => self.guidance_scale = get(value),
            "num-frames" => self.num_frames = get(value),
            "scheduler" => self.scheduler = get(value),
            "device" => self.device = text(value).shown(),
            "dtype" => self.dtype = get(value),
            "is-live" => self.is_live = get(value),
            other => unreachable!("{other} is not in the list of properties"),
        }
    }

    /// The property called `name`; `None` for those that are not settings.
    pub(super) fn value(&self, name: &str) -> Option<glib::Value> {
        let shown =
            |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned()).to_value();
        Some(match name {
            "prompt" => self.prompt.shown().to_value(),
            "prompt-enhance" => self.prompt_enhance.to_value(),
            "prompt-policy" => self.prompt_policy.to_value(),
            "negative-prompt" => self.negative_prompt.shown().to_value(),
            "model-path" => shown(&self.model_path),
            "transformer-file" => shown(&self.transformer_file),
            "seed" => self.seed.to_value(),
            "num-inference-steps" => self.num_inference_steps.to_value(),
            "guidance-scale" => self.guidance_scale.to_value(),
            "num-frames" => self.num_frames.to_value(),
            "scheduler" => self.scheduler.to_value(),
            "device" => self.device.to_value(),
            "dtype" => self.dtype.to_value(),
            "is-live" => self.is_live.to_value(),
            _ => return None,
        })
    }
}

/// Four billion seeds are enough to choose from, and short enough to type again.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Every RandomState has keys of its own, from the system's random numbers.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    random & u64::from(u32::MAX)
}

/// The bytes of a string value. `Value::get` would panic where they are not UTF-8.
fn bytes(value: &glib::Value) -> Option<&[u8]> {
    // SAFETY: the value holds a string, whose bytes live as long as it does.
    unsafe {
        let text = glib::gobject_ffi::g_value_get_string(value.to_glib_none().0);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
    }
}

fn text(value: &glib::Value) -> Text {
    let bytes = bytes(value).unwrap_or_default();
    String::from_utf8(bytes.into()).map_or_else(|error| Text::NotUtf8(error.into_bytes()), Text::Utf8)
}

fn path(value: &glib::Value) -> Option<PathBuf> {
    bytes(value).filter(|bytes| !bytes.is_empty()).map(|bytes| OsStr::from_bytes(bytes).into())
}

/// The list of properties.
pub(super) fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let mut list = clip_properties();
        list.extend(model_properties());
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
            .blurb("What the video shows; empty for whatever comes to the model's mind")
            .default_value("")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-enhance", PromptEnhance::Off)
            .nick("Prompt enhancement")
            .blurb("What is done to a short prompt before the model sees it; see prompt-used")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("prompt-policy", PromptPolicy::SaltedHash)
            .nick("Prompt policy")
            .blurb("What of the prompt a signed manifest may say; the stream's tags hold the prompt's text whatever this says")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("negative-prompt")
            .nick("Negative prompt")
            .blurb("What the video should not show; only used when guidance-scale is above 1")
            .default_value("")
            .mutable_ready()
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
            .blurb("How strongly the video follows the prompt; up to 1 = no guidance, twice as fast; -1 = the model's own scale")
            .minimum(-1.0)
            .maximum(1000.0)
            .default_value(-1.0)
            // Not a number is no number GObject can force into a range: the element refuses it.
            .lax_validation()
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("num-frames")
            .nick("Number of frames")
            .blurb("Length of the clip in frames, rounded to what the model makes (1, 5, 9, ...); 1 = an image; 0 = the model's own length")
            .maximum(i32::MAX as u32)
            .default_value(0)
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
    ]
}

/// Which model computes where: read when the element leaves NULL.
fn model_properties() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("model-path")
            .nick("Model path")
            .blurb("Model directory in diffusers format; unset = $SORA_MODEL_PATH, else the embedded model; read when leaving NULL")
            .build(),
        glib::ParamSpecString::builder("transformer-file")
            .nick("Transformer file")
            .blurb("Safetensors file with transformer weights to use instead of the model directory's, with diffusers or original Wan names; read when leaving NULL")
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N")
            .default_value("auto")
            .build(),
        glib::ParamSpecEnum::builder_with_default("dtype", Dtype::Auto)
            .nick("Data type")
            .blurb("Number format of the computation; read when leaving NULL")
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
        settings.plan(&rules, &NativeSettings::derived(&vae))
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
    fn what_no_model_can_do_is_refused_with_the_bound() {
        for (settings, part) in [
            (Settings { num_frames: 1_000_000, ..Settings::default() }, "1 to 4093 frames"),
            (Settings { guidance_scale: f64::NAN, ..Settings::default() }, "guidance-scale"),
            (Settings { prompt: Text::NotUtf8(vec![b'a', 0xff]), ..Settings::default() }, "UTF-8"),
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

    #[test]
    fn devices_have_names() {
        let device = |name: &str| Settings { device: name.into(), ..Settings::default() }.device();
        assert_eq!(device("auto"), Ok(api::Device::Auto));
        assert_eq!(device("cuda"), Ok(api::Device::Cuda(0)));
        assert_eq!(device("cuda:9"), Ok(api::Device::Cuda(9)));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:70000"] {
            assert!(device(wrong).expect_err("no such device").contains(wrong));
        }
    }
}
