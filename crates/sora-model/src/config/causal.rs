//! How a transformer makes video block by block: the `causal` object of `sora.json`, or the safetensors metadata
//! [`METADATA_KEY`] of a single transformer file.

use serde::{Deserialize, Serialize};

use super::{Config, in_range, in_range_f64};
use crate::ConfigError;

/// The key of a safetensors file's metadata whose value is a [`CausalConfig`] as JSON.
pub const METADATA_KEY: &str = "sora.causal";

/// Most latent frames of a block, of a window or of a sink.
const MAX_FRAMES: i64 = 1024;
/// Most steps of a list.
const MAX_STEPS: usize = 1000;
/// Timesteps that a list counts in.
const TIMESTEPS: i64 = 1000;

/// Which positions the frames of a stream have in the rotary embedding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// Those of their place in the cache: positions never leave what training saw, so a stream may be endless.
    #[default]
    Relative,
    /// Those of their number in the stream, as in the public Self-Forcing code; the stream ends with the rotary table.
    Absolute,
}

/// In which number formats a network rounds in between, where its weights are not f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numerics {
    /// As diffusers: modulation, residuals, norms and the time embedding in f32.
    #[default]
    Diffusers,
    /// As the public Self-Forcing code: all of that in the format of the weights, angles in f64.
    SelfForcing,
}

/// How a transformer makes video block by block over a cache of keys and values. Names are those of the public
/// Self-Forcing code (arXiv 2506.08009, `configs/` and `CausalWanModel`); the defaults are those of a model that says
/// nothing, such as sora-tiny.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CausalConfig {
    /// Latent frames that are made at once and see one another.
    pub num_frame_per_block: i64,
    /// Whether the first block has one latent frame all the same.
    pub independent_first_frame: bool,
    /// The timesteps of a block, from noise on, 1000 to 1; empty for steps of the directory's own scheduler.
    pub denoising_step_list: Vec<i64>,
    /// The same for a block that has no past; empty for the list above.
    pub denoising_step_list_first_chunk: Vec<i64>,
    /// Whether a list counts the rows of the shifted table (1000 is its first) instead of naming timesteps.
    pub warp_denoising_step: bool,
    /// Shift of the table's noise levels towards noise; `null` for that of the directory's scheduler.
    pub timestep_shift: Option<f64>,
    /// The timestep under which finished blocks are remembered, 0 to 1000.
    pub context_noise: f64,
    /// Latent frames that attention reaches over, those being made among them; -1 for as many as the model's own
    /// clips have.
    pub local_attn_size: i64,
    /// First latent frames of a stream, which stay in the cache for ever.
    pub sink_size: i64,
    /// Positions of the frames.
    pub rotation: Rotation,
    /// Roundings.
    pub numerics: Numerics,
}

impl Default for CausalConfig {
    fn default() -> Self {
        Self {
            num_frame_per_block: 1,
            independent_first_frame: false,
            denoising_step_list: Vec::new(),
            denoising_step_list_first_chunk: Vec::new(),
            warp_denoising_step: true,
            timestep_shift: None,
            context_noise: 0.0,
            local_attn_size: -1,
            sink_size: 1,
            rotation: Rotation::Relative,
            numerics: Numerics::Diffusers,
        }
    }
}

impl CausalConfig {
    /// Whether the model was taught a list of few steps, and can make nothing but blocks.
    pub fn is_few_step(&self) -> bool {
        !self.denoising_step_list.is_empty()
    }

    /// Latent frames of the block after `blocks` others.
    pub fn block_size(&self, blocks: u64) -> i64 {
        if blocks == 0 && self.independent_first_frame { 1 } else { self.num_frame_per_block }
    }

    /// Latent frames that a block of the largest size finds in the cache, the sink's among them, where the model's own
    /// clips have `clip` of them.
    pub fn context(&self, clip: i64) -> i64 {
        let reach = if self.local_attn_size < 0 { clip } else { self.local_attn_size };
        (reach - self.num_frame_per_block).max(0)
    }
}

impl Config for CausalConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("causal.num_frame_per_block", self.num_frame_per_block, 1, MAX_FRAMES)?;
        check_list("causal.denoising_step_list", &self.denoising_step_list)?;
        let first = &self.denoising_step_list_first_chunk;
        check_list("causal.denoising_step_list_first_chunk", first)?;
        if !first.is_empty() && !self.is_few_step() {
            return Err(ConfigError::new(
                "causal.denoising_step_list",
                "empty",
                "a list, as for the first chunk",
            ));
        }
        if let Some(shift) = self.timestep_shift {
            in_range_f64("causal.timestep_shift", shift, 1e-3, 1e3)?;
        }
        in_range_f64("causal.context_noise", self.context_noise, 0.0, TIMESTEPS as f64)?;
        in_range("causal.sink_size", self.sink_size, 0, MAX_FRAMES)?;
        if self.local_attn_size == -1 {
            return Ok(());
        }
        let least = self.num_frame_per_block + self.sink_size;
        if !(least..=MAX_FRAMES).contains(&self.local_attn_size) {
            return Err(ConfigError::new(
                "causal.local_attn_size",
                self.local_attn_size,
                format!("-1, or {least} (a block and the sink) to {MAX_FRAMES}"),
            ));
        }
        Ok(())
    }
}

fn check_list(key: &str, list: &[i64]) -> Result<(), ConfigError> {
    if list.len() <= MAX_STEPS
        && list.iter().all(|step| (1..=TIMESTEPS).contains(step))
        && list.is_sorted_by(|a, b| a > b)
    {
        return Ok(());
    }
    let shown = format!("{:?}", &list[..list.len().min(16)]);
    Err(ConfigError::new(key, shown, "timesteps from 1000 to 1, falling"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_a_model_of_single_frames() {
        let config = CausalConfig::from_json("{}").unwrap();
        assert_eq!(config, CausalConfig::default());
        assert!(!config.is_few_step());
        assert_eq!((config.block_size(0), config.context(5)), (1, 4));
    }

    #[test]
    fn blocks_and_context_are_those_of_the_config() {
        let text = r#"{"num_frame_per_block": 3, "independent_first_frame": true, "local_attn_size": 12,
            "sink_size": 3, "rotation": "absolute", "numerics": "self-forcing"}"#;
        let config = CausalConfig::from_json(text).unwrap();
        assert_eq!((config.block_size(0), config.block_size(1), config.context(21)), (1, 3, 9));
        assert_eq!(config.rotation, Rotation::Absolute);
        assert_eq!(config.numerics, Numerics::SelfForcing);
    }

    #[test]
    fn what_no_model_has_is_refused_with_the_key() {
        for (text, key) in [
            (r#"{"num_frame_per_block": 0}"#, "num_frame_per_block"),
            (r#"{"num_frame_per_block": 9999999999}"#, "num_frame_per_block"),
            (r#"{"denoising_step_list": [1000, 0]}"#, "denoising_step_list"),
            (r#"{"denoising_step_list": [500, 1000]}"#, "denoising_step_list"),
            (r#"{"denoising_step_list": [500, 500]}"#, "denoising_step_list"),
            (r#"{"denoising_step_list_first_chunk": [1000]}"#, "denoising_step_list"),
            (r#"{"denoising_step_list": [500], "denoising_step_list_first_chunk": [0]}"#, "first_chunk"),
            (r#"{"timestep_shift": -1}"#, "timestep_shift"),
            (r#"{"context_noise": 1001}"#, "context_noise"),
            (r#"{"local_attn_size": 0}"#, "local_attn_size"),
            (r#"{"local_attn_size": 5, "num_frame_per_block": 3, "sink_size": 3}"#, "local_attn_size"),
            (r#"{"sink_size": -1}"#, "sink_size"),
            (r#"{"rotation": "sideways"}"#, "rotation"),
            (r#"{"numerics": 4}"#, "numerics"),
        ] {
            let message = CausalConfig::from_json(text).unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
