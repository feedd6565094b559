//! `source_encoder/config.json`: what guesses from a source's latents those of the video that is asked for.

use serde::{Deserialize, Serialize};

use super::{Config, in_range};
use crate::ConfigError;

/// The config of `SoraSourceEncoder`, which diffusers does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceEncoderConfig {
    /// Channels of its convolutions, a multiple of [`Self::GROUPS`].
    pub channels: i64,
    /// Residual blocks of two convolutions each.
    pub num_layers: i64,
}

impl SourceEncoderConfig {
    /// Groups of channels that are normalised together.
    pub const GROUPS: i64 = 8;
}

impl Default for SourceEncoderConfig {
    fn default() -> Self {
        Self { channels: 96, num_layers: 6 }
    }
}

impl Config for SourceEncoderConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("channels", self.channels, Self::GROUPS, 4096)?;
        if self.channels % Self::GROUPS != 0 {
            let supported = format!("a multiple of {}", Self::GROUPS);
            return Err(ConfigError::new("channels", self.channels, supported));
        }
        in_range("num_layers", self.num_layers, 1, 64)
    }
}
