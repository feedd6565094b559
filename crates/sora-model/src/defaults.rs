//! What a model makes when nobody says otherwise, and which sizes it can make at all.

use std::path::Path;

use serde::Deserialize;

use crate::config::{CausalConfig, Config, TransformerConfig, VaeConfig, in_range, in_range_f64, read_json};
use crate::{ConfigError, ModelError};

/// The reference refuses sizes that are not a multiple of this, whatever the model.
const REFERENCE_MULTIPLE: u32 = 16;
/// The largest width and height, in pixels.
const MAX_SIDE: u32 = 8192;
/// The longest clip, in frames.
const MAX_FRAMES: u32 = 100_001;

/// The sizes a model was trained for, from `sora.json` in its directory, or from what is known of
/// the published models.
///
/// `sora.json` is ours: an object with any of these fields, and `causal`, a [`CausalConfig`]; Python's loader passes it
/// over.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeSettings {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames of a clip.
    pub num_frames: u32,
    /// Frames per second, numerator and denominator.
    pub frame_rate: (i32, i32),
    /// Denoising steps.
    pub num_inference_steps: u32,
    /// Weight of the prompt against the negative prompt; 1 and below is no guidance.
    pub guidance_scale: f64,
    /// Tokens of a prompt, end marker included; a longer one is cut.
    pub max_sequence_length: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SettingsFile {
    width: Option<i64>,
    height: Option<i64>,
    num_frames: Option<i64>,
    frame_rate: Option<[i64; 2]>,
    num_inference_steps: Option<i64>,
    guidance_scale: Option<f64>,
    max_sequence_length: Option<i64>,
    causal: Option<CausalConfig>,
}

impl NativeSettings {
    /// The defaults of the published models: those of TI2V-5B for its 48 latent channels, those of
    /// Wan 2.1 for every other VAE (`pipeline_wan.py` and the model cards).
    pub fn derived(vae: &VaeConfig) -> Self {
        let (width, height, num_frames, rate) =
            if vae.z_dim == 48 { (1280, 704, 121, 24) } else { (832, 480, 81, 16) };
        Self {
            width,
            height,
            num_frames,
            frame_rate: (rate, 1),
            num_inference_steps: 50,
            guidance_scale: 5.0,
            max_sequence_length: 512,
        }
    }

    /// The derived settings of a model, overridden by `sora.json` in `dir` where there is one, and how the model makes
    /// video block by block.
    ///
    /// # Errors
    /// [`ModelError::Json`] or [`ModelError::Config`] when `sora.json` is wrong or asks for
    /// something that the model cannot make.
    pub fn open(dir: &Path, rules: &SizeRules, vae: &VaeConfig) -> Result<(Self, CausalConfig), ModelError> {
        let derived = Self::derived(vae).within(rules);
        let path = dir.join("sora.json");
        if !path.exists() {
            return Ok((derived, CausalConfig::default()));
        }
        let mut file: SettingsFile = read_json(&path)?;
        let causal = file.causal.take().unwrap_or_default();
        let settings = causal.check().and_then(|()| derived.taught(&causal).overridden(&file, rules));
        match settings {
            Ok(settings) => Ok((settings, causal)),
            Err(problem) => Err(ModelError::Config { path, problem }),
        }
    }

    /// A model that was taught a list of few steps takes those, and no guidance: it was distilled into them.
    #[must_use]
    pub(crate) fn taught(mut self, causal: &CausalConfig) -> Self {
        if causal.is_few_step() {
            // Config::check bounds the list.
            self.num_inference_steps = causal.denoising_step_list.len() as u32;
            self.guidance_scale = 1.0;
        }
        self
    }

    /// A model with a small rotary table cannot make the published sizes; it gets its largest.
    fn within(mut self, rules: &SizeRules) -> Self {
        let (max_width, max_height) = rules.max_size();
        self.width = self.width.min(max_width);
        self.height = self.height.min(max_height);
        (self.width, self.height) = rules.nearest_size(self.width.into(), self.height.into());
        self.num_frames = rules.round_frames(self.num_frames.min(rules.max_num_frames()));
        self
    }

    fn overridden(mut self, file: &SettingsFile, rules: &SizeRules) -> Result<Self, ConfigError> {
        self.width = override_with("width", file.width, 1, MAX_SIDE.into(), self.width)?;
        self.height = override_with("height", file.height, 1, MAX_SIDE.into(), self.height)?;
        let size = (i64::from(self.width), i64::from(self.height));
        if rules.round_size(size.0, size.1).ok() != Some((self.width, self.height)) {
            let (width, height) = rules.nearest_size(size.0, size.1);
            return Err(ConfigError::new(
                "width and height",
                format!("{}x{}", self.width, self.height),
                format!("for example {width}x{height}, the nearest that this model can make"),
            ));
        }
        let max = rules.max_num_frames().into();
        self.num_frames = override_with("num_frames", file.num_frames, 1, max, self.num_frames)?;
        let rounded = rules.round_frames(self.num_frames);
        if rounded != self.num_frames {
            return Err(ConfigError::new(
                "num_frames",
                self.num_frames,
                format!("for example {rounded}, the nearest that this model can make"),
            ));
        }
        if let Some([numerator, denominator]) = file.frame_rate {
            in_range("frame_rate", numerator, 1, 1_000_000)?;
            in_range("frame_rate", denominator, 1, 1_000_000)?;
            self.frame_rate = (numerator as i32, denominator as i32);
        }
        let steps = self.num_inference_steps;
        self.num_inference_steps =
            override_with("num_inference_steps", file.num_inference_steps, 1, 1000, steps)?;
        if let Some(scale) = file.guidance_scale {
            in_range_f64("guidance_scale", scale, 0.0, 1000.0)?;
            self.guidance_scale = scale;
        }
        let length = self.max_sequence_length;
        self.max_sequence_length =
            override_with("max_sequence_length", file.max_sequence_length, 1, 4096, length)?;
        Ok(self)
    }
}

/// `value` where there is one, checked; `default` elsewhere. `max` is at most `u32::MAX`.
fn override_with(
    key: &str,
    value: Option<i64>,
    min: i64,
    max: i64,
    default: u32,
) -> Result<u32, ConfigError> {
    let Some(value) = value else {
        return Ok(default);
    };
    in_range(key, value, min, max)?;
    Ok(u32::try_from(value).unwrap_or(default))
}

/// Which sizes and lengths a model can make, and how others are rounded: as diffusers' `WanPipeline`
/// does (`pipelines/wan/pipeline_wan.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRules {
    /// Pixels per token: spatial factor of the VAE times the patch, for width and height.
    token: (u32, u32),
    /// Frames per latent frame.
    temporal: u32,
    /// Tokens along one axis.
    max_tokens: u32,
}

impl SizeRules {
    /// The rules of a model with these configs, which have been checked.
    pub fn new(transformer: &TransformerConfig, vae: &VaeConfig) -> Self {
        // Config::check bounds each of these far below u32::MAX.
        let spatial = vae.spatial_scale_factor() as u32;
        let [_, patch_h, patch_w] = transformer.patch_size.map(|size| size as u32);
        Self {
            token: (spatial * patch_w, spatial * patch_h),
            temporal: vae.temporal_scale_factor() as u32,
            max_tokens: transformer.rope_max_seq_len as u32,
        }
    }

    /// Width and height are a multiple of this: pixels per token, and 16 as the reference demands.
    pub fn size_multiple(&self) -> (u32, u32) {
        let both = |token: u32| token / gcd(token, REFERENCE_MULTIPLE) * REFERENCE_MULTIPLE;
        (both(self.token.0), both(self.token.1))
    }

    /// The smallest width and height.
    pub fn min_size(&self) -> (u32, u32) {
        self.size_multiple()
    }

    /// The largest width and height: 8192, or what the rotary table has positions for.
    pub fn max_size(&self) -> (u32, u32) {
        let (width, height) = self.size_multiple();
        let max = |token: u32, multiple: u32| {
            let pixels = token.saturating_mul(self.max_tokens).min(MAX_SIDE);
            (pixels / multiple * multiple).max(multiple)
        };
        (max(self.token.0, width), max(self.token.1, height))
    }

    /// The most frames: 100,001, or what the rotary table has positions for.
    pub fn max_num_frames(&self) -> u32 {
        let frames = (self.max_tokens - 1).saturating_mul(self.temporal).saturating_add(1);
        self.round_frames(frames.min(MAX_FRAMES))
    }

    /// The size that is made for the size asked for: refused when it is not a multiple of 16, then
    /// rounded down to whole tokens.
    ///
    /// # Errors
    /// [`ModelError::Setting`] naming the bound and the nearest size that can be made.
    pub fn round_size(&self, width: i64, height: i64) -> Result<(u32, u32), ModelError> {
        let (max_width, max_height) = self.max_size();
        let nearest = self.nearest_size(width, height);
        let side = |setting, value: i64, token: u32, max: u32| {
            let multiple = i64::from(REFERENCE_MULTIPLE);
            let token = i64::from(token);
            let rounded = value.div_euclid(token) * token;
            if value % multiple == 0 && (token..=i64::from(max)).contains(&rounded) {
                // In range of u32 by the line above.
                return Ok(rounded as u32);
            }
            let (step_width, step_height) = self.size_multiple();
            Err(ModelError::Setting {
                setting,
                value: value.to_string(),
                bound: format!(
                    "this model makes {step_width} to {max_width} by {step_height} to \
                     {max_height} pixels in steps of {step_width} and {step_height}, the nearest \
                     is {}x{}",
                    nearest.0, nearest.1
                ),
            })
        };
        Ok((
            side("width", width, self.token.0, max_width)?,
            side("height", height, self.token.1, max_height)?,
        ))
    }

    /// The size nearest to `width` x `height` that is made as it is asked for.
    pub fn nearest_size(&self, width: i64, height: i64) -> (u32, u32) {
        let (step_width, step_height) = self.size_multiple();
        let (max_width, max_height) = self.max_size();
        let nearest = |value: i64, step: u32, max: u32| {
            let value = value.clamp(step.into(), max.into()) as u32;
            ((value + step / 2) / step * step).clamp(step, max)
        };
        (nearest(width, step_width, max_width), nearest(height, step_height, max_height))
    }

    /// The number of frames that is made for the number asked for: `n / t * t + 1` where `n - 1` is
    /// no multiple of the temporal factor `t`, as the reference rounds (4 becomes 5, 6 becomes 5).
    /// (With a factor of 1 the reference would make one frame too many; here every number stays.)
    ///
    /// # Errors
    /// [`ModelError::Setting`] for none, fewer, or more than the model can make.
    pub fn round_num_frames(&self, num_frames: i64) -> Result<u32, ModelError> {
        let max = self.max_num_frames();
        if !(1..=i64::from(max)).contains(&num_frames) {
            return Err(ModelError::Setting {
                setting: "num-frames",
                value: num_frames.to_string(),
                bound: format!("this model makes 1 to {max} frames"),
            });
        }
        // In range of u32 by the check above.
        Ok(self.round_frames(num_frames as u32))
    }

    /// Latent frames of a clip of `num_frames`.
    pub fn num_latent_frames(&self, num_frames: u32) -> u32 {
        num_frames.saturating_sub(1) / self.temporal + 1
    }

    fn round_frames(&self, num_frames: u32) -> u32 {
        if num_frames % self.temporal == 1 % self.temporal {
            return num_frames.max(1);
        }
        num_frames / self.temporal * self.temporal + 1
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patch: i64, spatial: i64, rope: i64) -> SizeRules {
        let transformer = TransformerConfig {
            patch_size: [1, patch, patch],
            rope_max_seq_len: rope,
            ..TransformerConfig::default()
        };
        let vae = VaeConfig { scale_factor_spatial: spatial, ..VaeConfig::default() };
        SizeRules::new(&transformer, &vae)
    }

    #[test]
    fn sizes_round_as_the_reference_rounds_them() {
        let wan21 = rules(2, 8, 1024);
        assert_eq!(wan21.size_multiple(), (16, 16));
        assert_eq!(wan21.round_size(832, 480).unwrap(), (832, 480));
        assert_eq!(wan21.round_size(16, 16).unwrap(), (16, 16));
        let wan22 = rules(2, 16, 1024);
        assert_eq!(wan22.size_multiple(), (32, 32));
        // A multiple of 16 but not of 32 is rounded down, with upstream's warning.
        assert_eq!(wan22.round_size(1280, 720).unwrap(), (1280, 704));
        assert_eq!(wan22.round_size(48, 48).unwrap(), (32, 32));
        // Sixteen alone is no whole token.
        assert!(wan22.round_size(16, 32).is_err());
        // With tokens of 8 pixels the reference still demands 16.
        assert_eq!(rules(1, 8, 1024).size_multiple(), (16, 16));
        assert!(rules(1, 8, 1024).round_size(24, 16).is_err());
    }

    #[test]
    fn a_size_that_cannot_be_made_is_refused_with_the_nearest() {
        let rules = rules(2, 8, 1024);
        for (width, height, setting, nearest) in [
            (1, 480, "width is 1;", "16x480"),
            (17, 480, "width is 17;", "16x480"),
            (100_000, 480, "width is 100000;", "8192x480"),
            (-16, 480, "width is -16;", "16x480"),
            (0, 480, "width is 0;", "16x480"),
            (832, 481, "height is 481;", "832x480"),
            (832, 489, "height is 489;", "832x496"),
            (i64::MAX, i64::MIN, "width", "8192x16"),
        ] {
            let message = rules.round_size(width, height).unwrap_err().to_string();
            assert!(message.contains(setting), "{message}");
            assert!(message.contains(nearest), "{message}");
        }
    }

    #[test]
    fn frames_round_as_the_reference_rounds_them() {
        let rules = rules(2, 8, 1024);
        for (asked, made) in [(1, 1), (2, 1), (3, 1), (4, 5), (5, 5), (6, 5), (7, 5), (8, 9), (81, 81)] {
            assert_eq!(rules.round_num_frames(asked).unwrap(), made, "{asked}");
        }
        assert_eq!(rules.max_num_frames(), 4093);
        assert_eq!(rules.round_num_frames(4093).unwrap(), 4093);
        for asked in [0, -1, 4094, 1_000_000, i64::MAX, i64::MIN] {
            let message = rules.round_num_frames(asked).unwrap_err().to_string();
            assert!(message.contains("1 to 4093 frames"), "{message}");
        }
    }

    #[test]
    fn the_rotary_table_bounds_the_sizes() {
        let rules = rules(2, 8, 32);
        assert_eq!(rules.max_size(), (512, 512));
        assert_eq!(rules.max_num_frames(), 125);
        let native = NativeSettings::derived(&VaeConfig::default()).within(&rules);
        assert_eq!((native.width, native.height, native.num_frames), (512, 480, 81));
    }

    #[test]
    fn native_settings_are_those_of_the_published_models() {
        let wan21 = NativeSettings::derived(&VaeConfig::default());
        assert_eq!((wan21.width, wan21.height, wan21.num_frames, wan21.frame_rate), (832, 480, 81, (16, 1)));
        let wan22 = NativeSettings::derived(&VaeConfig { z_dim: 48, ..VaeConfig::default() });
        assert_eq!(
            (wan22.width, wan22.height, wan22.num_frames, wan22.frame_rate),
            (1280, 704, 121, (24, 1))
        );
        let rules = rules(2, 8, 1024);
        assert_eq!(wan21.clone().within(&rules), wan21);
        assert_eq!((wan21.num_inference_steps, wan21.guidance_scale), (50, 5.0));
    }

    #[test]
    fn a_vae_without_temporal_compression_makes_any_number_of_frames() {
        let vae = VaeConfig { scale_factor_temporal: 1, ..VaeConfig::default() };
        let rules = SizeRules::new(&TransformerConfig::default(), &vae);
        for frames in [1, 2, 3, 1024] {
            assert_eq!(rules.round_num_frames(frames).unwrap(), frames as u32);
            assert_eq!(rules.num_latent_frames(frames as u32), frames as u32);
        }
    }
}
