use sora_model::config::{TextDecoderConfig, TextEncoderConfig};
use tch::{Kind, Tensor};

use super::encoder::{EncoderStack, embedding_table, padding};
use super::layers::{
    Direction, FeedForward, Umt5Attention, Umt5LayerNorm, clamp_f16, relative_position_buckets,
};
use crate::error::Result;
use crate::weights::Weights;

/// `UMT5ForConditionalGeneration`: an encoder, and a decoder that attends to its states and scores the next
/// token by the embedding table.
pub struct Umt5ForConditionalGeneration {
    config: TextEncoderConfig,
    /// `[vocab_size, D]`, of encoder, decoder and head alike.
    shared: Tensor,
    encoder: EncoderStack,
    blocks: Vec<DecoderBlock>,
    final_layer_norm: Umt5LayerNorm,
}

impl Umt5ForConditionalGeneration {
    /// A network of configs that have been checked.
    ///
    /// # Errors
    /// Those of [`Weights::get`], and [`crate::DiffusionError::Unsupported`] for an activation that is not
    /// implemented.
    pub fn new(weights: &Weights, config: &TextEncoderConfig, decoder: &TextDecoderConfig) -> Result<Self> {
        let stack = weights.pp("decoder");
        let blocks = (0..decoder.num_layers(config))
            .map(|i| DecoderBlock::new(&stack.pp("block").pp(i).pp("layer"), config))
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            shared: embedding_table(weights, config)?,
            encoder: EncoderStack::new(&weights.pp("encoder"), config)?,
            blocks,
            final_layer_norm: Umt5LayerNorm::new(&stack.pp("final_layer_norm"), config)?,
        })
    }

    /// Token ids `[B, L]` (i64, each below `vocab_size`) and their mask `[B, L]` (1 for a token, 0 for
    /// padding) → hidden states `[B, L, D]`, for [`Umt5ForConditionalGeneration::decode`].
    pub fn encode(&self, input_ids: &Tensor, mask: &Tensor) -> Tensor {
        let hidden_states = Tensor::embedding(&self.shared, input_ids, -1, false, false);
        self.encoder.forward(hidden_states, mask, &self.config)
    }

    /// Ids of what has been written so far `[B, M]`, the start token first, with the encoder's states
    /// `[B, L, D]` and mask `[B, L]` → logits of the token after each `[B, M, vocab_size]`.
    ///
    /// All of it is computed anew at every call: with the few tokens of a prompt, a cache of keys and values
    /// would save less than it costs to keep.
    pub fn decode(&self, decoder_input_ids: &Tensor, encoder_states: &Tensor, mask: &Tensor) -> Tensor {
        let (_, len) = decoder_input_ids.size2().expect("decoder_input_ids are B M");
        let device = self.shared.device();
        let buckets = relative_position_buckets(len, Direction::Back, &self.config).to_device(device);
        let later = Tensor::ones([len, len], (Kind::Bool, device)).triu(1); // M M
        let padding = padding(&mask.to_device(device));
        let mut hidden_states = Tensor::embedding(&self.shared, decoder_input_ids, -1, false, false);
        for block in &self.blocks {
            hidden_states = block.forward(&hidden_states, encoder_states, &buckets, &later, &padding);
        }
        let hidden_states = self.final_layer_norm.forward(&hidden_states);
        // The table is of unit variance as an embedding; as a head it is scaled down.
        let scale = (self.config.d_model as f64).powf(-0.5);
        (hidden_states * scale).linear(&self.shared, None::<&Tensor>)
    }
}

/// Self-attention to what came before, attention to the encoder's states, then the feed-forward network,
/// each with its norm before it and a residual.
struct DecoderBlock {
    attention_norm: Umt5LayerNorm,
    attention: Umt5Attention,
    cross_attention_norm: Umt5LayerNorm,
    cross_attention: Umt5Attention,
    feed_forward_norm: Umt5LayerNorm,
    feed_forward: FeedForward,
}

impl DecoderBlock {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let (attention, cross, feed_forward) = (weights.pp(0), weights.pp(1), weights.pp(2));
        Ok(Self {
            attention_norm: Umt5LayerNorm::new(&attention.pp("layer_norm"), config)?,
            attention: Umt5Attention::new(&attention.pp("SelfAttention"), config)?,
            cross_attention_norm: Umt5LayerNorm::new(&cross.pp("layer_norm"), config)?,
            cross_attention: Umt5Attention::without_bias(&cross.pp("EncDecAttention"), config)?,
            feed_forward_norm: Umt5LayerNorm::new(&feed_forward.pp("layer_norm"), config)?,
            feed_forward: FeedForward::new(&feed_forward.pp("DenseReluDense"), config)?,
        })
    }

    fn forward(
        &self,
        hidden_states: &Tensor,
        encoder_states: &Tensor,
        buckets: &Tensor,
        later: &Tensor,
        padding: &Tensor,
    ) -> Tensor {
        // 1. Self-attention
        let normed = self.attention_norm.forward(hidden_states);
        let attended = self.attention.forward(&normed, &normed, buckets, later);
        let hidden_states = clamp_f16(hidden_states + attended);
        // 2. Attention to the encoder's states
        let normed = self.cross_attention_norm.forward(&hidden_states);
        let attended = self.cross_attention.forward(&normed, encoder_states, buckets, padding);
        let hidden_states = clamp_f16(hidden_states + attended);
        // 3. Feed-forward
        let normed = self.feed_forward_norm.forward(&hidden_states);
        clamp_f16(&hidden_states + self.feed_forward.forward(&normed))
    }
}
