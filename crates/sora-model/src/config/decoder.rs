//! The decoder's half of `config.json` of a `UMT5ForConditionalGeneration`.

use serde::{Deserialize, Serialize};

use super::{Config, TextEncoderConfig, in_range};
use crate::ConfigError;

/// What the decoder adds to [`TextEncoderConfig`], whose sizes it shares
/// (transformers `models/umt5/configuration_umt5.py`). Both are read from the same file; each passes over
/// the keys of the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextDecoderConfig {
    /// Classes that the weights are of.
    pub architectures: Vec<String>,
    /// Decoder blocks; `None`: as many as the encoder has.
    pub num_decoder_layers: Option<i64>,
    /// Whether the head is the embedding table: it must be, as in transformers, which sets it whatever the
    /// file says.
    pub tie_word_embeddings: bool,
    /// The token that generation begins with.
    pub decoder_start_token_id: i64,
    /// The token that ends a text.
    pub eos_token_id: i64,
}

/// The class that can be read.
const CLASS: &str = "UMT5ForConditionalGeneration";

impl Default for TextDecoderConfig {
    fn default() -> Self {
        Self {
            architectures: vec![CLASS.into()],
            num_decoder_layers: None,
            tie_word_embeddings: true,
            decoder_start_token_id: 0,
            eos_token_id: 1,
        }
    }
}

impl TextDecoderConfig {
    /// Decoder blocks beside an encoder of this config.
    pub fn num_layers(&self, encoder: &TextEncoderConfig) -> i64 {
        self.num_decoder_layers.unwrap_or(encoder.num_layers)
    }

    /// Number of weights of the decoder, for the checked sizes of this config.
    pub fn num_parameters(&self, encoder: &TextEncoderConfig) -> u64 {
        let block = TextEncoderConfig { num_layers: 1, vocab_size: 0, ..encoder.clone() }.num_parameters();
        let (model, inner) = (encoder.d_model as u64, encoder.inner_dim() as u64);
        // Beside what a block of the encoder has: attention to the encoder's states, and its norm.
        let block = block - model + 4 * model * inner + model;
        self.num_layers(encoder) as u64 * block + model
    }
}

impl Config for TextDecoderConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if !self.architectures.iter().any(|class| class == CLASS) {
            return Err(ConfigError::new("architectures", format!("{:?}", self.architectures), CLASS));
        }
        if !self.tie_word_embeddings {
            return Err(ConfigError::new("tie_word_embeddings", "false", "true"));
        }
        if let Some(layers) = self.num_decoder_layers {
            in_range("num_decoder_layers", layers, 1, 1000)?;
        }
        in_range("decoder_start_token_id", self.decoder_start_token_id, 0, 1 << 22)?;
        in_range("eos_token_id", self.eos_token_id, 0, 1 << 22)
    }
}
