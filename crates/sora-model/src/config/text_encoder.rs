//! `text_encoder/config.json`: `UMT5EncoderModel`.

use serde::{Deserialize, Serialize};

use super::{Config, in_range, in_range_f64};
use crate::ConfigError;

/// The config of `UMT5EncoderModel` (transformers `models/umt5/configuration_umt5.py`).
///
/// Only the keys that the encoder uses; the decoder's are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextEncoderConfig {
    /// Rows of the embedding table.
    pub vocab_size: i64,
    /// Channels of the hidden states.
    pub d_model: i64,
    /// Channels of one attention head.
    pub d_kv: i64,
    /// Hidden channels of the feed-forward network.
    pub d_ff: i64,
    /// Encoder blocks.
    pub num_layers: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Buckets of the relative position bias, half for each direction.
    pub relative_attention_num_buckets: i64,
    /// Distance from which on all positions share the last bucket.
    pub relative_attention_max_distance: i64,
    /// Dropout while training.
    pub dropout_rate: f64,
    /// The epsilon of every norm.
    pub layer_norm_epsilon: f64,
    /// `gated-gelu`, or `[gated-]ACTIVATION`; see [`TextEncoderConfig::feed_forward`].
    pub feed_forward_proj: String,
}

/// An activation function, by its upstream name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `relu`.
    Relu,
    /// `gelu`: the exact form with the error function.
    Gelu,
    /// `gelu_new`: the form with the hyperbolic tangent.
    GeluTanh,
    /// `silu`.
    Silu,
}

impl Default for TextEncoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 250_112,
            d_model: 512,
            d_kv: 64,
            d_ff: 1024,
            num_layers: 8,
            num_heads: 6,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            dropout_rate: 0.1,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "gated-gelu".into(),
        }
    }
}

impl TextEncoderConfig {
    /// Channels of all heads together.
    pub fn inner_dim(&self) -> i64 {
        self.num_heads * self.d_kv
    }

    /// Whether the feed-forward network is gated (`wi_0`, `wi_1`) and which activation it has.
    ///
    /// # Errors
    /// [`ConfigError`] for a `feed_forward_proj` that is not implemented.
    pub fn feed_forward(&self) -> Result<(bool, Activation), ConfigError> {
        let name = self.feed_forward_proj.as_str();
        // The one special name: "gelu" means the tanh form when, and only when, it is gated.
        if name == "gated-gelu" {
            return Ok((true, Activation::GeluTanh));
        }
        let (gated, activation) = match name.strip_prefix("gated-") {
            Some(activation) => (true, activation),
            None => (false, name),
        };
        let activation = match activation {
            "relu" => Activation::Relu,
            "gelu" => Activation::Gelu,
            "gelu_new" => Activation::GeluTanh,
            "silu" | "swish" => Activation::Silu,
            _ => {
                return Err(ConfigError::new(
                    "feed_forward_proj",
                    name,
                    "relu, gelu, gelu_new, silu, each also with gated- before it",
                ));
            }
        };
        Ok((gated, activation))
    }

    /// Number of weights, for the checked sizes of this config.
    pub fn num_parameters(&self) -> u64 {
        let (model, inner) = (self.d_model as u64, self.inner_dim() as u64);
        let inputs = match self.feed_forward() {
            Ok((true, _)) => 2,
            _ => 1,
        };
        let feed_forward = (inputs + 1) * model * self.d_ff as u64;
        let bias = (self.relative_attention_num_buckets * self.num_heads) as u64;
        let block = 4 * model * inner + bias + feed_forward + 2 * model;
        self.vocab_size as u64 * model + self.num_layers as u64 * block + model
    }
}

impl Config for TextEncoderConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("vocab_size", self.vocab_size, 2, 1 << 22)?;
        in_range("d_model", self.d_model, 1, 65_536)?;
        in_range("d_kv", self.d_kv, 1, 4096)?;
        in_range("d_ff", self.d_ff, 1, 1 << 20)?;
        in_range("num_layers", self.num_layers, 1, 1000)?;
        in_range("num_heads", self.num_heads, 1, 1024)?;
        in_range("num_heads * d_kv", self.inner_dim(), 1, 65_536)?;
        // Half of the buckets for each direction, half of those exact: at least four.
        in_range("relative_attention_num_buckets", self.relative_attention_num_buckets, 4, 4096)?;
        // The logarithmic part is empty or negative below this.
        in_range(
            "relative_attention_max_distance",
            self.relative_attention_max_distance,
            self.relative_attention_num_buckets / 4 + 1,
            1 << 20,
        )?;
        in_range_f64("dropout_rate", self.dropout_rate, 0.0, 1.0)?;
        in_range_f64("layer_norm_epsilon", self.layer_norm_epsilon, 0.0, 1.0)?;
        self.feed_forward().map(|_| ())
    }
}
