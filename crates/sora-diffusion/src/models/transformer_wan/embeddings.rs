use sora_model::config::Numerics;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::nn::Linear;
use crate::weights::Weights;

/// Timestep → modulation (`Timesteps`, `TimestepEmbedding`, `time_proj`).
pub(super) struct TimeEmbedder {
    freq_dim: i64,
    linear_1: Linear,
    linear_2: Linear,
    time_proj: Linear,
    dim: i64,
    /// Of the sinusoid.
    kind: Kind,
}

impl TimeEmbedder {
    pub(super) fn new(weights: &Weights, freq_dim: i64, dim: i64, numerics: Numerics) -> Result<Self> {
        let embedder = weights.pp("time_embedder");
        Ok(Self {
            freq_dim,
            linear_1: Linear::new(&embedder.pp("linear_1"), freq_dim, dim)?,
            linear_2: Linear::new(&embedder.pp("linear_2"), dim, dim)?,
            time_proj: Linear::new(&weights.pp("time_proj"), dim, 6 * dim)?,
            dim,
            kind: match numerics {
                Numerics::Diffusers => Kind::Float,
                Numerics::SelfForcing => Kind::Double,
            },
        })
    }

    /// `[B]` or `[B, G]` → (`temb` `[B, G, D]`, `timestep_proj` `[B, G, 6, D]`), both in `kind`; G = 1 for `[B]`.
    pub(super) fn forward(&self, timestep: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let t = if timestep.dim() == 1 { timestep.unsqueeze(1) } else { timestep.shallow_clone() };
        let (b, g) = t.size2().expect("timesteps are [B] or [B, G]");
        let sinusoid = self.sinusoid(&t.to_kind(self.kind).reshape([b * g])).to_kind(self.linear_1.kind());
        let temb = self.linear_2.forward(&self.linear_1.forward(&sinusoid).silu()).to_kind(kind);
        let timestep_proj = self.time_proj.forward(&temb.silu());
        (temb.view([b, g, self.dim]), timestep_proj.view([b, g, 6, self.dim]))
    }

    /// `[n]` → `[n, freq_dim]`: cosines first, frequencies 10000^(−i/half).
    fn sinusoid(&self, t: &Tensor) -> Tensor {
        let half = self.freq_dim / 2;
        let exponents = Tensor::arange(half, (self.kind, t.device())) * (-(10000f64.ln()) / half as f64);
        let angles = t.unsqueeze(1) * exponents.exp().unsqueeze(0);
        let emb = Tensor::cat(&[angles.cos(), angles.sin()], -1);
        if self.freq_dim % 2 == 1 { emb.constant_pad_nd([0, 1]) } else { emb }
    }
}

/// Text features → tokens of the transformer's width (`PixArtAlphaTextProjection`, GELU tanh).
pub(super) struct TextEmbedder {
    linear_1: Linear,
    linear_2: Linear,
}

impl TextEmbedder {
    pub(super) fn new(weights: &Weights, text_dim: i64, dim: i64) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::new(&weights.pp("linear_1"), text_dim, dim)?,
            linear_2: Linear::new(&weights.pp("linear_2"), dim, dim)?,
        })
    }

    /// `[B, L, text_dim]` → `[B, L, D]`.
    pub(super) fn forward(&self, text: &Tensor) -> Tensor {
        self.linear_2.forward(&self.linear_1.forward(text).gelu("tanh"))
    }
}
