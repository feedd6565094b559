//! `UMT5EncoderModel`, the text encoder; follows transformers `models/umt5/modeling_umt5.py`.
//!
//! T5 (Raffel et al., arXiv 1910.10683) as in UMT5 (Chung et al., arXiv 2304.09151): norms before each
//! layer without mean and bias, attention without the usual `1/√d`, and a learned bias by relative
//! position in every layer, not in the first alone. No dropout, in training neither.
//!
//! Legend: B batch, L tokens, D `d_model`, H heads, K `d_kv`.

use sora_model::config::{Activation, TextEncoderConfig};
use tch::{Device, Kind, Tensor};

use crate::error::{DiffusionError, Result};
use crate::nn::Linear;
use crate::weights::Weights;

/// Modules that stay in f32 when the rest is f16, whose range they would leave (the reference's
/// `_keep_in_fp32_modules`, which it heeds for f16 alone).
pub const KEEP_IN_F32_FOR_F16: &[&str] = &["wo"];

/// Keys that exporters leave beside the encoder's own: the same embedding table a second time.
pub const TOLERATED_KEYS: &[&str] = &["encoder.embed_tokens.weight"];

/// The encoder of UMT5.
pub struct Umt5EncoderModel {
    config: TextEncoderConfig,
    /// `[vocab_size, D]`.
    embed_tokens: Tensor,
    blocks: Vec<Umt5Block>,
    final_layer_norm: Umt5LayerNorm,
}

impl Umt5EncoderModel {
    /// An encoder of a config that has been checked.
    ///
    /// # Errors
    /// Those of [`Weights::get`], and [`DiffusionError::Unsupported`] for an activation that is not
    /// implemented.
    pub fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let shape = [config.vocab_size, config.d_model];
        let embed_tokens = match weights.get("shared.weight", &shape) {
            // Which of its two names the table has depends on who saved it.
            Err(missing @ DiffusionError::MissingTensor { .. }) => {
                weights.get("encoder.embed_tokens.weight", &shape).map_err(|_| missing)?
            }
            found => found?,
        };
        let encoder = weights.pp("encoder");
        let blocks = (0..config.num_layers)
            .map(|i| Umt5Block::new(&encoder.pp("block").pp(i).pp("layer"), config))
            .collect::<Result<_>>()?;
        let final_layer_norm = Umt5LayerNorm::new(&encoder.pp("final_layer_norm"), config)?;
        Ok(Self { config: config.clone(), embed_tokens, blocks, final_layer_norm })
    }

    /// The config it was made from.
    pub fn config(&self) -> &TextEncoderConfig {
        &self.config
    }

    /// Token ids `[B, L]` (i64, each below `vocab_size`) and their mask `[B, L]` (1 for a token, 0 for
    /// padding) → hidden states `[B, L, D]`. What stands at padding is not defined.
    pub fn forward(&self, input_ids: &Tensor, mask: &Tensor) -> Tensor {
        let (_, len) = input_ids.size2().expect("input_ids are B L");
        let device = self.embed_tokens.device();
        let buckets = relative_position_buckets(len, &self.config).to_device(device);
        let padding = mask.to_device(device).eq(0).unsqueeze(1).unsqueeze(1); // B 1 1 L
        let mut hidden_states = Tensor::embedding(&self.embed_tokens, input_ids, -1, false, false);
        for block in &self.blocks {
            hidden_states = block.forward(&hidden_states, &buckets, &padding);
        }
        self.final_layer_norm.forward(&hidden_states)
    }
}

/// Which row of `relative_attention_bias` a pair of positions takes: `[L queries, L keys]`, i64.
///
/// Half of the buckets are for keys after the query. Of each half, one half is for one distance each,
/// the other for distances that grow logarithmically up to `max_distance`, which all larger share.
fn relative_position_buckets(len: i64, config: &TextEncoderConfig) -> Tensor {
    let buckets = config.relative_attention_num_buckets / 2;
    let exact = buckets / 2;
    let position = Tensor::arange(len, (Kind::Int64, Device::Cpu));
    let relative = position.unsqueeze(0) - position.unsqueeze(1); // L queries, L keys: key - query
    let after = relative.gt(0).to_kind(Kind::Int64) * buckets;
    let distance = relative.abs();
    // In f32 with torch's own logarithm: distances that fall on the edge of a bucket are decided by
    // the last bit.
    let log_range = (config.relative_attention_max_distance as f64 / exact as f64).ln();
    let log_ratio = (distance.to_kind(Kind::Float) / exact as f64).log() / log_range;
    let far = (log_ratio * (buckets - exact) as f64).to_kind(Kind::Int64) + exact;
    let far = far.clamp_max(buckets - 1);
    after + distance.where_self(&distance.lt(exact), &far)
}

/// Self-attention, then the feed-forward network, each with its norm before it and a residual.
struct Umt5Block {
    attention_norm: Umt5LayerNorm,
    attention: Umt5Attention,
    feed_forward_norm: Umt5LayerNorm,
    feed_forward: FeedForward,
}

impl Umt5Block {
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
        let hidden_states = clamp_f16(hidden_states + self.attention.forward(&normed, buckets, padding));
        // 2. Feed-forward
        let normed = self.feed_forward_norm.forward(&hidden_states);
        clamp_f16(&hidden_states + self.feed_forward.forward(&normed))
    }
}

/// Keeps f16 finite; other formats have the range.
fn clamp_f16(hidden_states: Tensor) -> Tensor {
    const MAX: f64 = 65504.0;
    if hidden_states.kind() != Kind::Half {
        return hidden_states;
    }
    let infinite = hidden_states.isinf().any().to_kind(Kind::Float);
    let limit: Tensor = (MAX - infinite * 1000.0).to_kind(Kind::Half);
    hidden_states.clamp_tensor(Some(limit.neg()), Some(limit))
}

/// Attention over all tokens with a bias by relative position and no scaling.
struct Umt5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// `[buckets, H]`.
    relative_attention_bias: Tensor,
    num_heads: i64,
}

impl Umt5Attention {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let (dim, inner) = (config.d_model, config.inner_dim());
        let bias_shape = [config.relative_attention_num_buckets, config.num_heads];
        Ok(Self {
            q: Linear::without_bias(&weights.pp("q"), dim, inner)?,
            k: Linear::without_bias(&weights.pp("k"), dim, inner)?,
            v: Linear::without_bias(&weights.pp("v"), dim, inner)?,
            o: Linear::without_bias(&weights.pp("o"), inner, dim)?,
            relative_attention_bias: weights.pp("relative_attention_bias").get("weight", &bias_shape)?,
            num_heads: config.num_heads,
        })
    }

    /// `[B, L, D]` → `[B, L, D]`.
    fn forward(&self, hidden_states: &Tensor, buckets: &Tensor, padding: &Tensor) -> Tensor {
        let (batch, len, _) = hidden_states.size3().expect("hidden_states are B L D");
        // B L (H K) → B H L K
        let heads = |x: Tensor| x.view([batch, len, self.num_heads, -1]).transpose(1, 2);
        let q = heads(self.q.forward(hidden_states));
        let k = heads(self.k.forward(hidden_states));
        let v = heads(self.v.forward(hidden_states));
        let bias = Tensor::embedding(&self.relative_attention_bias, buckets, -1, false, false)
            .permute([2, 0, 1]) // L L H → H L L
            .unsqueeze(0);
        let scores = q.matmul(&k.transpose(2, 3)) + bias; // B H L L
        // The softmax is in f32 whatever the format; scores are not scaled and can be large.
        let scores = scores.to_kind(Kind::Float).masked_fill(padding, f64::from(f32::MIN));
        let attention = scores.softmax(-1, Kind::Float).to_kind(v.kind());
        let attended = attention.matmul(&v).transpose(1, 2).reshape([batch, len, -1]); // B L (H K)
        self.o.forward(&attended)
    }
}

/// `wo(act(wi_0(x)) · wi_1(x))`, or `wo(act(wi(x)))` where it is not gated.
struct FeedForward {
    wi: Linear,
    gated: Option<Linear>,
    wo: Linear,
    activation: Activation,
}

impl FeedForward {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let (gated, activation) =
            config.feed_forward().map_err(|problem| DiffusionError::Unsupported(problem.to_string()))?;
        let (dim, hidden) = (config.d_model, config.d_ff);
        let linear = |name, inputs, outputs| Linear::without_bias(&weights.pp(name), inputs, outputs);
        Ok(Self {
            wi: linear(if gated { "wi_0" } else { "wi" }, dim, hidden)?,
            gated: if gated { Some(linear("wi_1", dim, hidden)?) } else { None },
            wo: linear("wo", hidden, dim)?,
            activation,
        })
    }

    /// `[B, L, D]` → `[B, L, D]`.
    fn forward(&self, hidden_states: &Tensor) -> Tensor {
        let wi = self.wi.forward(hidden_states);
        let activated = match self.activation {
            Activation::Relu => wi.relu(),
            Activation::Gelu => wi.gelu("none"),
            Activation::GeluTanh => wi.gelu("tanh"),
            Activation::Silu => wi.silu(),
        };
        let hidden = match &self.gated {
            Some(wi_1) => activated * wi_1.forward(hidden_states),
            None => activated,
        };
        self.wo.forward(&hidden.to_kind(self.wo.kind()))
    }
}

/// Root mean square norm; the mean square is taken in f32, and the product is rounded to the weight's
/// format before the weight comes in.
struct Umt5LayerNorm {
    /// `[D]`.
    weight: Tensor,
    eps: f64,
}

impl Umt5LayerNorm {
    fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let weight = weights.get("weight", &[config.d_model])?;
        Ok(Self { weight, eps: config.layer_norm_epsilon })
    }

    /// `[…, D]` → `[…, D]` in the weight's format.
    fn forward(&self, hidden_states: &Tensor) -> Tensor {
        let wide = hidden_states.to_kind(Kind::Float);
        let mean_square = wide.square().mean_dim(-1, true, Kind::Float);
        let normed = wide * (mean_square + self.eps).rsqrt();
        &self.weight * normed.to_kind(self.weight.kind())
    }
}
