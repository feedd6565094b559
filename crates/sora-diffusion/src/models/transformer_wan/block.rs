use sora_model::config::{Numerics, TransformerConfig};
use tch::{Kind, Tensor};

use super::attention::{TextKeyValues, WanAttention};
use crate::error::Result;
use crate::nn::{LayerNorm, Linear};
use crate::weights::Weights;

/// The format that modulation and residuals are computed in, where the weights are in `kind`.
pub(super) fn modulated_in(numerics: Numerics, kind: Kind) -> Kind {
    match numerics {
        Numerics::Diffusers => Kind::Float,
        Numerics::SelfForcing => kind,
    }
}

/// `x·(1 + scale) + shift` with one pair per group of tokens.
pub(super) struct Modulation {
    shift: Tensor,
    scale_plus_1: Tensor,
    groups: i64,
}

impl Modulation {
    /// Both `[B, G, D]`, in the format to compute in.
    pub(super) fn new(shift: &Tensor, scale: &Tensor) -> Self {
        Self { groups: shift.size()[1], shift: shift.unsqueeze(2), scale_plus_1: scale.unsqueeze(2) + 1.0 }
    }

    /// `[B, N, D]` → the same, in the format to compute in.
    pub(super) fn apply(&self, x: &Tensor) -> Tensor {
        let grouped = split_groups(&x.to_kind(self.shift.kind()), self.groups);
        plus_product(&self.shift, &grouped, &self.scale_plus_1).view_as(x)
    }
}

/// `[B, N, D]` → `[B, G, N/G, D]`
fn split_groups(x: &Tensor, groups: i64) -> Tensor {
    let (b, n, d) = x.size3().expect("B N D");
    x.view([b, groups, n / groups, d])
}

/// `a + b·c`; in less than f32 the product is rounded before it is added, as two operations do.
fn plus_product(a: &Tensor, b: &Tensor, c: &Tensor) -> Tensor {
    if a.kind() == Kind::Float { a.addcmul(b, c) } else { a + b * c }
}

/// `x + y·gate` in the format of `gate`, cast back to the kind of `x`; `gate` `[B, G, D]`.
fn add_gated(x: &Tensor, y: &Tensor, gate: &Tensor) -> Tensor {
    let (groups, kind) = (gate.size()[1], gate.kind());
    let grouped = |x: &Tensor| split_groups(&x.to_kind(kind), groups);
    plus_product(&grouped(x), &grouped(y), &gate.unsqueeze(2)).view_as(x).to_kind(x.kind())
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
    numerics: Numerics,
}

impl WanTransformerBlock {
    pub(super) fn new(weights: &Weights, config: &TransformerConfig, numerics: Numerics) -> Result<Self> {
        let (dim, heads, eps) = (config.inner_dim(), config.num_attention_heads, config.eps);
        let ffn = weights.pp("ffn").pp("net");
        Ok(Self {
            norm1: LayerNorm::plain(dim, eps),
            attn1: WanAttention::new(&weights.pp("attn1"), dim, heads, eps, numerics)?,
            norm2: if config.cross_attn_norm {
                Some(LayerNorm::affine(&weights.pp("norm2"), dim, eps)?)
            } else {
                None
            },
            attn2: WanAttention::new(&weights.pp("attn2"), dim, heads, eps, numerics)?,
            norm3: LayerNorm::plain(dim, eps),
            ffn_in: Linear::new(&ffn.pp(0).pp("proj"), dim, config.ffn_dim)?,
            ffn_out: Linear::new(&ffn.pp(2), config.ffn_dim, dim)?,
            scale_shift_table: weights.get("scale_shift_table", &[1, 6, dim])?,
            numerics,
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
        let wide = modulated_in(self.numerics, kind);
        let table = self.scale_shift_table.unsqueeze(0).to_kind(wide) + timestep_proj.to_kind(wide);
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
        let mut hidden = self.ffn_in.forward(&normed);
        let _ = hidden.gelu_("tanh");
        add_gated(&x, &self.ffn_out.forward(&hidden), &gate_ffn)
    }
}
