use sora_model::config::TextEncoderConfig;
use tch::{Device, Tensor};

use super::layers::{
    Direction, FeedForward, Umt5Attention, Umt5LayerNorm, clamp_f16, relative_position_buckets,
};
use crate::error::{DiffusionError, Result};
use crate::nn::Layers;
use crate::weights::{Kept, Weights};

/// The encoder of UMT5.
pub struct Umt5EncoderModel {
    config: TextEncoderConfig,
    /// `[vocab_size, D]`.
    embed_tokens: TokenTable,
    encoder: EncoderStack,
}

impl Umt5EncoderModel {
    /// An encoder of a config that has been checked.
    ///
    /// # Errors
    /// Those of [`Weights::get`], and [`DiffusionError::Unsupported`] for an activation that is not
    /// implemented.
    pub fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            embed_tokens: TokenTable::new(weights, config)?,
            encoder: EncoderStack::new(&weights.pp("encoder"), config)?,
        })
    }

    /// The config it was made from.
    pub fn config(&self) -> &TextEncoderConfig {
        &self.config
    }

    /// Token ids `[B, L]` (i64, each below `vocab_size`) and their mask `[B, L]` (1 for a token, 0 for
    /// padding) → hidden states `[B, L, D]`. What stands at padding is not defined.
    pub fn forward(&self, input_ids: &Tensor, mask: &Tensor) -> Tensor {
        let hidden_states = self.embed_tokens.look_up(input_ids);
        self.encoder.forward(hidden_states, mask, &self.config)
    }
}

/// The table of all tokens. Where layers are streamed it stays where they are kept: a prompt needs a few rows of
/// what, with UMT5-XXL's 256 384 tokens, are two gigabytes in bf16.
enum TokenTable {
    Resident(Tensor),
    Kept(Kept),
}

impl TokenTable {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        if !weights.streams() {
            return embedding_table(weights, config).map(Self::Resident);
        }
        under_either_name(|name| weights.kept(name, &[config.vocab_size, config.d_model])).map(Self::Kept)
    }

    /// Token ids `[B, L]` → `[B, L, D]`.
    fn look_up(&self, input_ids: &Tensor) -> Tensor {
        let rows = |table, ids| Tensor::embedding(table, ids, -1, false, false);
        match self {
            Self::Resident(table) => rows(table, input_ids),
            Self::Kept(table) => table.place(&rows(table.tensor(), &input_ids.to_device(Device::Cpu))),
        }
    }
}

/// The table of all tokens, `[vocab_size, D]`.
pub(super) fn embedding_table(weights: &Weights, config: &TextEncoderConfig) -> Result<Tensor> {
    under_either_name(|name| weights.get(name, &[config.vocab_size, config.d_model]))
}

/// Which of its two names the table has depends on who saved it.
fn under_either_name<T>(get: impl Fn(&str) -> Result<T>) -> Result<T> {
    match get("shared.weight") {
        Err(missing @ DiffusionError::MissingTensor { .. }) => {
            get("encoder.embed_tokens.weight").map_err(|_| missing)
        }
        found => found,
    }
}

/// Where padding is, as attention wants it: `[B, L]` of ones and zeros → `[B, 1, 1, L]`, true at zeros.
pub(super) fn padding(mask: &Tensor) -> Tensor {
    mask.eq(0).unsqueeze(1).unsqueeze(1)
}

/// The encoder without its embedding table.
pub(super) struct EncoderStack {
    blocks: Layers<EncoderBlock>,
    final_layer_norm: Umt5LayerNorm,
}

impl EncoderStack {
    pub(super) fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let blocks = Layers::new(&weights.pp("block"), config.num_layers, |weights| {
            EncoderBlock::new(&weights.pp("layer"), config)
        })?;
        let final_layer_norm = Umt5LayerNorm::new(&weights.pp("final_layer_norm"), config)?;
        Ok(Self { blocks, final_layer_norm })
    }

    /// `[B, L, D]` and the mask `[B, L]` → `[B, L, D]`.
    pub(super) fn forward(
        &self,
        mut hidden_states: Tensor,
        mask: &Tensor,
        config: &TextEncoderConfig,
    ) -> Tensor {
        let (_, len, _) = hidden_states.size3().expect("hidden_states are B L D");
        let device = hidden_states.device();
        let buckets = relative_position_buckets(len, Direction::Both, config).to_device(device);
        let padding = padding(&mask.to_device(device));
        let build = |weights: &Weights| EncoderBlock::new(&weights.pp("layer"), config);
        for i in 0..self.blocks.count() {
            hidden_states =
                self.blocks.with(i, build, |block| block.forward(&hidden_states, &buckets, &padding));
        }
        self.final_layer_norm.forward(&hidden_states)
    }
}

/// Self-attention, then the feed-forward network, each with its norm before it and a residual.
struct EncoderBlock {
    attention_norm: Umt5LayerNorm,
    attention: Umt5Attention,
    feed_forward_norm: Umt5LayerNorm,
    feed_forward: FeedForward,
}

impl EncoderBlock {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let (attention, feed_forward) = (weights.pp(0), weights.pp(1));
        Ok(Self {
            attention_norm: Umt5LayerNorm::new(&attention.pp("layer_norm"), config)?,
            attention: Umt5Attention::new(&attention.pp("SelfAttention"), config)?,
            feed_forward_norm: Umt5LayerNorm::new(&feed_forward.pp("layer_norm"), config)?,
            feed_forward: FeedForward::new(&feed_forward.pp("DenseReluDense"), config)?,
        })
    }

    fn forward(&self, hidden_states: &Tensor, buckets: &Tensor, padding: &Tensor) -> Tensor {
        // 1. Self-attention
        let normed = self.attention_norm.forward(hidden_states);
        let attended = self.attention.forward(&normed, &normed, buckets, padding);
        let hidden_states = clamp_f16(hidden_states + attended);
        // 2. Feed-forward
        let normed = self.feed_forward_norm.forward(&hidden_states);
        clamp_f16(&hidden_states + self.feed_forward.forward(&normed))
    }
}
