//! `transformer/config.json`: `WanTransformer3DModel`.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Config, in_range, in_range_f64};
use crate::ConfigError;

/// The config of `WanTransformer3DModel` (diffusers `models/transformers/transformer_wan.py`).
///
/// Defaults are upstream's, the sizes of Wan 2.1 14B text-to-video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// Latent frames, rows and columns that make one token: T, H, W.
    pub patch_size: [i64; 3],
    /// Attention heads.
    pub num_attention_heads: i64,
    /// Channels of one head; even, because rotary embeddings turn pairs.
    pub attention_head_dim: i64,
    /// Latent channels in.
    pub in_channels: i64,
    /// Latent channels out; `null` and 0 in the file mean `in_channels`, see
    /// [`TransformerConfig::out_channels`].
    #[serde(deserialize_with = "null_is_zero")]
    pub out_channels: i64,
    /// Channels of the text embeddings.
    pub text_dim: i64,
    /// Channels of the sinusoidal timestep embedding.
    pub freq_dim: i64,
    /// Hidden channels of the feed-forward network.
    pub ffn_dim: i64,
    /// Transformer blocks.
    pub num_layers: i64,
    /// Whether cross-attention has a layer norm with weights before it (`norm2`).
    pub cross_attn_norm: bool,
    /// How queries and keys are normalised; only `rms_norm_across_heads`.
    pub qk_norm: Option<String>,
    /// The epsilon of every norm.
    pub eps: f64,
    /// Channels of image embeddings (image-to-video models); not implemented.
    pub image_dim: Option<i64>,
    /// Channels of the added key/value projections (image-to-video models); not implemented.
    pub added_kv_proj_dim: Option<i64>,
    /// Positions in the rotary table, the bound of frames, rows and columns in tokens.
    pub rope_max_seq_len: i64,
    /// Length of the learned position embedding of image tokens; not implemented.
    pub pos_embed_seq_len: Option<i64>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: 16,
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            qk_norm: Some("rms_norm_across_heads".into()),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
        }
    }
}

fn null_is_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.unwrap_or(0))
}

impl TransformerConfig {
    /// Channels of the hidden states: heads times channels per head.
    pub fn inner_dim(&self) -> i64 {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Latent channels out; upstream takes `in_channels` where the key is `null` or 0.
    pub fn out_channels(&self) -> i64 {
        if self.out_channels == 0 { self.in_channels } else { self.out_channels }
    }

    /// How the channels of a head are split between the rotations of T, H and W.
    ///
    /// H and W get `2 * (head_dim / 6)` each and T the rest.
    pub fn rope_split(&self) -> [i64; 3] {
        let spatial = 2 * (self.attention_head_dim / 6);
        [self.attention_head_dim - 2 * spatial, spatial, spatial]
    }

    /// Number of weights, for the checked sizes of this config.
    pub fn num_parameters(&self) -> u64 {
        let dim = self.inner_dim() as u64;
        let ffn = self.ffn_dim as u64;
        let patch = self.patch_size.iter().product::<i64>() as u64;
        let text = self.text_dim as u64;
        let linear = |inputs: u64, outputs: u64| inputs * outputs + outputs;
        let attention = 4 * linear(dim, dim) + 2 * dim;
        let norm2 = if self.cross_attn_norm { 2 * dim } else { 0 };
        let block = 2 * attention + norm2 + linear(dim, ffn) + linear(ffn, dim) + 6 * dim;
        let condition = linear(self.freq_dim as u64, dim)
            + linear(dim, dim)
            + linear(dim, 6 * dim)
            + linear(text, dim)
            + linear(dim, dim);
        linear(self.in_channels as u64 * patch, dim)
            + condition
            + self.num_layers as u64 * block
            + 2 * dim
            + linear(dim, self.out_channels() as u64 * patch)
    }
}

impl Config for TransformerConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let [patch_t, patch_h, patch_w] = self.patch_size;
        if patch_t != 1 || !(1..=16).contains(&patch_h) || !(1..=16).contains(&patch_w) {
            return Err(ConfigError::new(
                "patch_size",
                format!("{:?}", self.patch_size),
                "[1, 1 to 16, 1 to 16]",
            ));
        }
        in_range("num_attention_heads", self.num_attention_heads, 1, 1024)?;
        in_range("attention_head_dim", self.attention_head_dim, 6, 1024)?;
        if self.attention_head_dim % 2 != 0 {
            return Err(ConfigError::new(
                "attention_head_dim",
                self.attention_head_dim,
                "even numbers, because rotary embeddings turn pairs of channels",
            ));
        }
        in_range("num_attention_heads * attention_head_dim", self.inner_dim(), 1, 65_536)?;
        in_range("in_channels", self.in_channels, 1, 1024)?;
        in_range("out_channels", self.out_channels(), 1, 1024)?;
        in_range("text_dim", self.text_dim, 1, 65_536)?;
        in_range("freq_dim", self.freq_dim, 2, 65_536)?;
        if self.freq_dim % 2 != 0 {
            return Err(ConfigError::new("freq_dim", self.freq_dim, "even numbers"));
        }
        in_range("ffn_dim", self.ffn_dim, 1, 1 << 20)?;
        in_range("num_layers", self.num_layers, 1, 1000)?;
        if self.qk_norm.as_deref() != Some("rms_norm_across_heads") {
            return Err(ConfigError::new(
                "qk_norm",
                self.qk_norm.as_deref().unwrap_or("null"),
                "rms_norm_across_heads",
            ));
        }
        in_range_f64("eps", self.eps, 0.0, 1.0)?;
        for (key, value) in [
            ("image_dim", self.image_dim),
            ("added_kv_proj_dim", self.added_kv_proj_dim),
            ("pos_embed_seq_len", self.pos_embed_seq_len),
        ] {
            if let Some(value) = value {
                return Err(ConfigError::new(
                    key,
                    value,
                    "null (image-to-video transformers are not implemented)",
                ));
            }
        }
        in_range("rope_max_seq_len", self.rope_max_seq_len, 1, 65_536)
    }
}
