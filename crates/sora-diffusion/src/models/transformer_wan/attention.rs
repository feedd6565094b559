use sora_model::config::Numerics;
use tch::Tensor;

use super::rope::apply_rotary_emb;
use crate::error::Result;
use crate::nn::{Linear, RmsNorm};
use crate::weights::Weights;

/// Keys and values of a prompt in one cross-attention.
pub struct TextKeyValues {
    /// `[B, heads, L, head_dim]`
    key: Tensor,
    /// `[B, heads, L, head_dim]`
    value: Tensor,
    /// Added to the attention scores, `[B, 1, 1, L]`.
    bias: Option<Tensor>,
}

/// Multi-head attention with RMS-normalised queries and keys (`WanAttention`).
///
/// The normalisation runs over all heads at once, before they are split.
pub(super) struct WanAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: i64,
    head_dim: i64,
    numerics: Numerics,
}

impl WanAttention {
    pub(super) fn new(weights: &Weights, dim: i64, heads: i64, eps: f64, numerics: Numerics) -> Result<Self> {
        let linear = |name: &str| Linear::new(&weights.pp(name), dim, dim);
        Ok(Self {
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
            norm_q: RmsNorm::new(&weights.pp("norm_q"), dim, eps)?,
            norm_k: RmsNorm::new(&weights.pp("norm_k"), dim, eps)?,
            heads,
            head_dim: dim / heads,
            numerics,
        })
    }

    /// Normalised queries of `x` `[B, N, D]`: `[B, N, heads, head_dim]`.
    fn query(&self, x: &Tensor) -> Tensor {
        self.split_heads(&self.normed(&self.norm_q, &self.to_q.forward(x)))
    }

    /// Normalised keys of `x` `[B, N, D]`: `[B, N, heads, head_dim]`.
    fn key(&self, x: &Tensor) -> Tensor {
        self.split_heads(&self.normed(&self.norm_k, &self.to_k.forward(x)))
    }

    fn normed(&self, norm: &RmsNorm, x: &Tensor) -> Tensor {
        match self.numerics {
            Numerics::Diffusers => norm.forward(x),
            Numerics::SelfForcing => norm.forward_rounded(x),
        }
    }

    /// `[B, N, D]` → `[B, N, heads, head_dim]`, a view.
    fn split_heads(&self, x: &Tensor) -> Tensor {
        let (b, n, _) = x.size3().expect("B N D");
        x.view([b, n, self.heads, self.head_dim])
    }

    /// Self-attention of `x` `[B, N, D]` with rotary positions. `mask` is added to the scores, `[N, N]`.
    pub(super) fn self_attention(&self, x: &Tensor, rotary_emb: &Tensor, mask: Option<&Tensor>) -> Tensor {
        self.causal_attention(x, rotary_emb, rotary_emb, None, mask).0
    }

    /// Self-attention of a block `x` `[B, N, D]` that also sees `past` keys and values, `[B, M, heads,
    /// head_dim]` with unrotated keys. `own` rotates the block's queries, `all` past and own keys; `mask`, `[N, M + N]`, is
    /// added to the scores.
    ///
    /// Returns `[B, N, D]` and the block's own unrotated keys and values `[B, N, heads, head_dim]`.
    pub(super) fn causal_attention(
        &self,
        x: &Tensor,
        own: &Tensor,
        all: &Tensor,
        past: Option<(&Tensor, &Tensor)>,
        mask: Option<&Tensor>,
    ) -> (Tensor, Tensor, Tensor) {
        let query = self.query(x);
        let key = self.key(x);
        let value = self.split_heads(&self.to_v.forward(x));
        let (keys, values) = match past {
            None => (key.shallow_clone(), value.shallow_clone()),
            Some((k, v)) => (Tensor::cat(&[k, &key], 1), Tensor::cat(&[v, &value], 1)),
        };
        let query = apply_rotary_emb(&query, own, self.numerics).transpose(1, 2);
        let keys = apply_rotary_emb(&keys, all, self.numerics).transpose(1, 2);
        (self.attend(&query, &keys, &values.transpose(1, 2), mask), key, value)
    }

    /// What [`Self::cross_attention`] needs of `text` `[B, L, D]`.
    pub(super) fn keys_values(&self, text: &Tensor, bias: Option<&Tensor>) -> TextKeyValues {
        TextKeyValues {
            key: self.key(text).transpose(1, 2),
            value: self.split_heads(&self.to_v.forward(text)).transpose(1, 2),
            bias: bias.map(Tensor::shallow_clone),
        }
    }

    /// Attention of `x` `[B, N, D]` to a prompt. No mask: padding takes part, as in the reference.
    pub(super) fn cross_attention(&self, x: &Tensor, text: &TextKeyValues) -> Tensor {
        let query = self.query(x).transpose(1, 2);
        self.attend(&query, &text.key, &text.value, text.bias.as_ref())
    }

    /// softmax(q·kᵀ/√d + bias)·v over `[B, heads, ·, head_dim]`, then the output projection: `[B, N, D]`.
    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (b, heads, n, head_dim) = query.size4().expect("B heads N head_dim");
        let x = Tensor::scaled_dot_product_attention(query, key, value, bias, 0.0, false, None, false);
        self.to_out.forward(&x.transpose(1, 2).reshape([b, n, heads * head_dim]))
    }
}
