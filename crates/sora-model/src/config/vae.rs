//! `vae/config.json`: `AutoencoderKLWan`.

use serde::{Deserialize, Serialize};

use super::{Config, in_range};
use crate::ConfigError;

/// The config of `AutoencoderKLWan` (diffusers `models/autoencoders/autoencoder_kl_wan.py`).
///
/// Defaults are upstream's, the VAE of Wan 2.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of the encoder's first level.
    pub base_dim: i64,
    /// Channels of the decoder's last level; `null` means `base_dim`, see
    /// [`VaeConfig::decoder_base_dim`].
    pub decoder_base_dim: Option<i64>,
    /// Latent channels.
    pub z_dim: i64,
    /// Channel multiplier of each level, outermost first.
    pub dim_mult: Vec<i64>,
    /// Residual blocks per level.
    pub num_res_blocks: i64,
    /// Scales with extra attention; must be empty, as in every published model.
    pub attn_scales: Vec<f64>,
    /// Whether a level halves time as well (upstream's spelling); one entry per level but the last.
    pub temperal_downsample: Vec<bool>,
    /// Dropout while training.
    pub dropout: f64,
    /// Mean of each latent channel, subtracted before the transformer.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f64>,
    /// Whether levels have averaging shortcuts (the layout of Wan 2.2).
    pub is_residual: bool,
    /// Pixel channels in, `3 * patch_size²`.
    pub in_channels: i64,
    /// Pixel channels out, `3 * patch_size²`.
    pub out_channels: i64,
    /// Side of the pixel squares that are folded into channels; `null` means 1.
    pub patch_size: Option<i64>,
    /// Frames per latent frame, after the first.
    pub scale_factor_temporal: i64,
    /// Pixels per latent row and column.
    pub scale_factor_spatial: i64,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            dropout: 0.0,
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
                -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652,
                1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
            ],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
            scale_factor_temporal: 4,
            scale_factor_spatial: 8,
        }
    }
}

impl VaeConfig {
    /// Channels of the decoder's last level.
    pub fn decoder_base_dim(&self) -> i64 {
        self.decoder_base_dim.unwrap_or(self.base_dim)
    }

    /// Side of the pixel squares folded into channels, 1 where the config has none.
    pub fn patch_size(&self) -> i64 {
        self.patch_size.unwrap_or(1)
    }

    /// Pixels per latent row and column.
    pub fn spatial_scale_factor(&self) -> i64 {
        self.scale_factor_spatial
    }

    /// Frames per latent frame, after the first, which stands alone.
    pub fn temporal_scale_factor(&self) -> i64 {
        self.scale_factor_temporal
    }
}

impl Config for VaeConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("base_dim", self.base_dim, 1, 4096)?;
        in_range("decoder_base_dim", self.decoder_base_dim(), 1, 4096)?;
        in_range("z_dim", self.z_dim, 1, 1024)?;
        in_range("num_res_blocks", self.num_res_blocks, 1, 64)?;
        let levels = self.dim_mult.len();
        if !(1..=8).contains(&levels) {
            return Err(ConfigError::new("dim_mult", format!("{levels} entries long"), "1 to 8 entries"));
        }
        for &multiplier in &self.dim_mult {
            in_range("dim_mult", multiplier, 1, 64)?;
        }
        if self.temperal_downsample.len() + 1 != levels {
            return Err(ConfigError::new(
                "temperal_downsample",
                format!("{} entries long", self.temperal_downsample.len()),
                format!("{} entries, one fewer than dim_mult", levels - 1),
            ));
        }
        if !self.attn_scales.is_empty() {
            return Err(ConfigError::new("attn_scales", format!("{:?}", self.attn_scales), "[]"));
        }
        in_range("patch_size", self.patch_size(), 1, 16)?;
        let pixel_channels = 3 * self.patch_size() * self.patch_size();
        in_range("in_channels", self.in_channels, pixel_channels, pixel_channels)?;
        in_range("out_channels", self.out_channels, pixel_channels, pixel_channels)?;
        for (key, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() as i64 != self.z_dim {
                return Err(ConfigError::new(
                    key,
                    format!("{} entries long", values.len()),
                    format!("{} entries, one per latent channel (z_dim)", self.z_dim),
                ));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(ConfigError::new(key, value, "finite numbers"));
            }
        }
        if let Some(value) = self.latents_std.iter().find(|value| **value == 0.0) {
            return Err(ConfigError::new("latents_std", value, "numbers other than 0"));
        }
        // Upstream believes the two factors and the levels independently; where they disagree it
        // makes frames of another size than the one asked for.
        let spatial = (1 << (levels - 1)) * self.patch_size();
        in_range("scale_factor_spatial", self.scale_factor_spatial, spatial, spatial)?;
        let halvings = self.temperal_downsample.iter().filter(|on| **on).count();
        let temporal = 1 << halvings;
        in_range("scale_factor_temporal", self.scale_factor_temporal, temporal, temporal)
    }
}
