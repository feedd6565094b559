//! The config files of a diffusers directory, one struct per upstream class.
//!
//! Field names are the keys of the JSON files; a key that is absent takes the default of the
//! upstream class; a key that is unknown is logged and passed over, as upstream does; a value of
//! the wrong type is an error naming the file and the key. Each struct has a `check` that refuses
//! what is not implemented and sizes that no real model has, before anything is allocated.

mod causal;
mod decoder;
mod index;
mod lexicon;
mod read;
mod scheduler;
mod source_encoder;
mod text_encoder;
mod tiny_vae;
mod transformer;
mod vae;

pub use causal::{CausalConfig, METADATA_KEY as CAUSAL_METADATA_KEY, Numerics, Rotation};
pub use decoder::TextDecoderConfig;
pub use index::ModelIndex;
pub use lexicon::LexiconConfig;
pub use read::Config;
pub(crate) use read::read_json;
pub use scheduler::{SchedulerClass, SchedulerConfig};
pub use source_encoder::SourceEncoderConfig;
pub use text_encoder::{Activation, TextEncoderConfig};
pub use tiny_vae::TinyVaeConfig;
pub use transformer::TransformerConfig;
pub use vae::VaeConfig;

use crate::ConfigError;

/// Refuses an integer outside `min..=max`.
pub(crate) fn in_range(key: &str, value: i64, min: i64, max: i64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, value, format!("{min} to {max}")))
}

/// Refuses a number that is not finite or outside `min..=max`.
pub(crate) fn in_range_f64(key: &str, value: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, value, format!("{min} to {max}")))
}

/// Refuses a switch that turns on something which is not implemented.
pub(crate) fn must_be_off(key: &str, value: bool) -> Result<(), ConfigError> {
    if value {
        return Err(ConfigError::new(key, "true", "false"));
    }
    Ok(())
}
