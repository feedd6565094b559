//! What encoder and decoder are made of.

use sora_model::config::{Activation, TextEncoderConfig};
use tch::{Device, Kind, Tensor};

use crate::error::{DiffusionError, Result};
use crate::nn::Linear;
use crate::weights::Weights;

/// Which keys a query may look at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// All: the encoder.
    Both,
    /// Those up to its own position: the decoder.
    Back,
}

/// Which row of `relative_attention_bias` a pair of positions takes: `[L queries, L keys]`, i64.
///
/// In both directions, half of the buckets are for keys after the query; looking back, keys after it share
/// the bucket of distance 0 and are masked anyway. Of the buckets of one direction, half are for one
/// distance each, the others for distances that grow logarithmically up to `max_distance`, which all larger
/// share.
pub(super) fn relative_position_buckets(
    len: i64,
    direction: Direction,
    config: &TextEncoderConfig,
) -> Tensor {
    let all = config.relative_attention_num_buckets;
    let position = Tensor::arange(len, (Kind::Int64, Device::Cpu));
    let relative = position.unsqueeze(0) - position.unsqueeze(1); // L queries, L keys: key - query
    let (buckets, after, distance) = match direction {
        Direction::Both => (all / 2, relative.gt(0).to_kind(Kind::Int64) * (all / 2), relative.abs()),
        Direction::Back => (all, relative.zeros_like(), relative.clamp_max(0).neg()),
    };
    let exact = buckets / 2;
    // In f32 with torch's own logarithm: distances that fall on the edge of a bucket are decided by
    // the last bit.
    let log_range = (config.relative_attention_max_distance as f64 / exact as f64).ln();
    let log_ratio = (distance.to_kind(Kind::Float) / exact as f64).log() / log_range;
    let far = (log_ratio * (buckets - exact) as f64).to_kind(Kind::Int64) + exact;
    let far = far.clamp_max(buckets - 1);
    after + distance.where_self(&distance.lt(exact), &far)
}

/// Keeps f16 finite; other formats have the range.
pub(super) fn clamp_f16(hidden_states: Tensor) -> Tensor {
    const MAX: f64 = 65504.0;
    if hidden_states.kind() != Kind::Half {
        return hidden_states;
    }
    let infinite = hidden_states.isinf().any().to_kind(Kind::Float);
    let limit: Tensor = (MAX - infinite * 1000.0).to_kind(Kind::Half);
    hidden_states.clamp_tensor(Some(limit.neg()), Some(limit))
}

/// Attention with no scaling, and a bias by relative position where it is attention of a sequence to itself.
pub(super) struct Umt5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// `[buckets, H]`; attention to another sequence has none.
    relative_attention_bias: Option<Tensor>,
    num_heads: i64,
}

impl Umt5Attention {
    /// Attention of a sequence to itself.
    pub(super) fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let mut attention = Self::without_bias(weights, config)?;
        let shape = [config.relative_attention_num_buckets, config.num_heads];
        let bias = weights.pp("relative_attention_bias").get("weight", &shape)?;
        attention.relative_attention_bias = Some(bias);
        Ok(attention)
    }

    /// Attention of a sequence to another.
    pub(super) fn without_bias(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let (dim, inner) = (config.d_model, config.inner_dim());
        Ok(Self {
            q: Linear::without_bias(&weights.pp("q"), dim, inner)?,
            k: Linear::without_bias(&weights.pp("k"), dim, inner)?,
            v: Linear::without_bias(&weights.pp("v"), dim, inner)?,
            o: Linear::without_bias(&weights.pp("o"), inner, dim)?,
            relative_attention_bias: None,
            num_heads: config.num_heads,
        })
    }

    /// Queries from `[B, M, D]`, keys and values from `[B, L, D]` → `[B, M, D]`. `masked` is true where a
    /// query must not look, and broadcasts to `[B, H, M, L]`; `buckets` is `[M, L]` and used only where the
    /// attention has a bias.
    pub(super) fn forward(
        &self,
        hidden_states: &Tensor,
        source: &Tensor,
        buckets: &Tensor,
        masked: &Tensor,
    ) -> Tensor {
        let (batch, len, _) = hidden_states.size3().expect("hidden_states are B M D");
        // B L (H K) → B H L K
        let heads =
            |x: Tensor| x.view([batch, -1, self.num_heads, x.size()[2] / self.num_heads]).transpose(1, 2);
        let q = heads(self.q.forward(hidden_states));
        let k = heads(self.k.forward(source));
        let v = heads(self.v.forward(source));
        let mut scores = q.matmul(&k.transpose(2, 3)); // B H M L
        if let Some(bias) = &self.relative_attention_bias {
            let bias = Tensor::embedding(bias, buckets, -1, false, false).permute([2, 0, 1]); // M L H → H M L
            scores += bias.unsqueeze(0);
        }
        // The softmax is in f32 whatever the format; scores are not scaled and can be large.
        let scores = scores.to_kind(Kind::Float).masked_fill(masked, f64::from(f32::MIN));
        let attention = scores.softmax(-1, Kind::Float).to_kind(v.kind());
        let attended = attention.matmul(&v).transpose(1, 2).reshape([batch, len, -1]); // B M (H K)
        self.o.forward(&attended)
    }
}

/// `wo(act(wi_0(x)) · wi_1(x))`, or `wo(act(wi(x)))` where it is not gated.
pub(super) struct FeedForward {
    wi: Linear,
    gated: Option<Linear>,
    wo: Linear,
    activation: Activation,
}

impl FeedForward {
    pub(super) fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
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
    pub(super) fn forward(&self, hidden_states: &Tensor) -> Tensor {
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
pub(super) struct Umt5LayerNorm {
    /// `[D]`.
    weight: Tensor,
    eps: f64,
}

impl Umt5LayerNorm {
    pub(super) fn new(weights: &Weights, config: &TextEncoderConfig) -> Result<Self> {
        let weight = weights.get("weight", &[config.d_model])?;
        Ok(Self { weight, eps: config.layer_norm_epsilon })
    }

    /// `[…, D]` → `[…, D]` in the weight's format.
    pub(super) fn forward(&self, hidden_states: &Tensor) -> Tensor {
        let wide = hidden_states.to_kind(Kind::Float);
        let mean_square = wide.square().mean_dim(-1, true, Kind::Float);
        let normed = wide * (mean_square + self.eps).rsqrt();
        &self.weight * normed.to_kind(self.weight.kind())
    }
}
