use sora_model::config::TransformerConfig;
use tch::{Kind, Tensor};

use super::attention::{TextKeyValues, WanAttention};
use crate::error::Result;
use crate::nn::{LayerNorm, Linear};
use crate::weights::Weights;

/// `x·(1 + scale) + shift` with one pair per group of tokens.
pub(super) struct Modulation {
    shift: Tensor,
    scale_plus_1: Tensor,
    groups: i64,
}

impl Modulation {
    /// Both `[B, G, D]`.
    pub(super) fn new(shift: &Tensor, scale: &Tensor) -> Self {
        Self { groups: shift.size()[1], shift: shift.unsqueeze(2), scale_plus_1: scale.unsqueeze(2) + 1.0 }
    }

    /// f32 `[B, N, D]` → the same.
    pub(super) fn apply(&self, x: &Tensor) -> Tensor {
        let grouped = split_groups(x, self.groups);
        self.shift.addcmul(&grouped, &self.scale_plus_1).view_as(x)
    }
}

/// `[B, N, D]` → `[B, G, N/G, D]`
fn split_groups(x: &Tensor, groups: i64) -> Tensor {
    let (b, n, d) = x.size3().expect("B N D");
    x.view([b, groups, n / groups, d])
}

/// `x + y·gate` in f32, cast back to the kind of `x`; `gate` `[B, G, D]`.
fn add_gated(x: &Tensor, y: &Tensor, gate: &Tensor) -> Tensor {
    let groups = gate.size()[1];
    let sum = split_groups(&x.to_kind(Kind::Float), groups)
        .addcmul(&split_groups(&y.to_kind(Kind::Float), groups), &gate.unsqueeze(2));
    sum.view_as(x).to_kind(x.kind())
}

/// Self-attention, cross-attention, feed-forward (`WanTransformerBlock`).
pub(super) struct WanTransformerBlock {
    norm1: LayerNorm,
    attn1: WanAttention,
    /// The one norm with parameters; original checkpoints call it norm3.
    norm2: Option<LayerNorm>,
    pub(super) attn2: WanAttention,
    norm3: LayerNorm,
    ffn_in: Linear,
    ffn_out: Linear,
    scale_shift_table: Tensor,
}

impl WanTransformerBlock {
    pub(super) fn new(weights: &Weights, config: &TransformerConfig) -> Result<Self> {
        let (dim, heads, eps) = (config.inner_dim(), config.num_attention_heads, config.eps);
        let ffn = weights.pp("ffn").pp("net");
        Ok(Self {
            norm1: LayerNorm::plain(dim, eps),
            attn1: WanAttention::new(&weights.pp("attn1"), dim, heads, eps)?,
            norm2: if config.cross_attn_norm {
                Some(LayerNorm::affine(&weights.pp("norm2"), dim, eps)?)
            } else {
                None
            },
            attn2: WanAttention::new(&weights.pp("attn2"), dim, heads, eps)?,
            norm3: LayerNorm::plain(dim, eps),
            ffn_in: Linear::new(&ffn.pp(0).pp("proj"), dim, config.ffn_dim)?,
            ffn_out: Linear::new(&ffn.pp(2), config.ffn_dim, dim)?,
            scale_shift_table: weights.get("scale_shift_table", &[1, 6, dim])?,
        })
    }

    /// `x` `[B, N, D]`, `timestep_proj` `[B, G, 6, D]`; `self_attention` maps a normed `x` to what attention
    /// adds to it.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        timestep_proj: &Tensor,
        text: &TextKeyValues,
        self_attention: impl FnOnce(&WanAttention, &Tensor) -> Tensor,
    ) -> Tensor {
        let kind = x.kind();
        let table = self.scale_shift_table.unsqueeze(0) + timestep_proj.to_kind(Kind::Float);
        let [shift_msa, scale_msa, gate_msa, shift_ffn, scale_ffn, gate_ffn] =
            std::array::from_fn(|i| table.select(2, i as i64)); // each [B, G, D]

        // 1. Self-attention
        let normed = Modulation::new(&shift_msa, &scale_msa).apply(&self.norm1.forward(x)).to_kind(kind);
        let x = add_gated(x, &self_attention(&self.attn1, &normed), &gate_msa);

        // 2. Cross-attention, no gate
        let normed = match &self.norm2 {
            Some(norm) => norm.forward(&x).to_kind(kind),
            None => x.shallow_clone(),
        };
        let x = &x + self.attn2.cross_attention(&normed, text);

        // 3. Feed-forward
        let normed = Modulation::new(&shift_ffn, &scale_ffn).apply(&self.norm3.forward(&x)).to_kind(kind);
        let hidden = self.ffn_in.forward(&normed).gelu("tanh");
        add_gated(&x, &self.ffn_out.forward(&hidden), &gate_ffn)
    }
}
