use tch::{Kind, Tensor};

use crate::error::Result;
use crate::weights::Weights;

/// Layer normalisation over the last axis, computed in f32 whatever comes in (`FP32LayerNorm`).
pub struct LayerNorm {
    affine: Option<(Tensor, Tensor)>,
    dim: i64,
    eps: f64,
}

impl LayerNorm {
    /// With learned `weight` and `bias`, both `[dim]`.
    pub fn affine(weights: &Weights, dim: i64, eps: f64) -> Result<Self> {
        let parameter = |name| weights.get(name, &[dim]).map(|values| values.to_kind(Kind::Float));
        let affine = Some((parameter("weight")?, parameter("bias")?));
        Ok(Self { affine, dim, eps })
    }

    /// Without parameters.
    pub fn plain(dim: i64, eps: f64) -> Self {
        Self { affine: None, dim, eps }
    }

    /// `[…, dim]` of any kind → the same shape in f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.to_kind(Kind::Float);
        let (weight, bias) = match &self.affine {
            Some((weight, bias)) => (Some(weight), Some(bias)),
            None => (None, None),
        };
        x.layer_norm([self.dim], weight, bias, self.eps, false)
    }
}

/// Root mean square normalisation over the last axis (`torch.nn.RMSNorm`).
pub struct RmsNorm {
    weight: Tensor,
    dim: i64,
    eps: f64,
}

impl RmsNorm {
    /// With a learned `weight` `[dim]`.
    pub fn new(weights: &Weights, dim: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[dim])?, dim, eps })
    }

    /// `[…, dim]` → the same shape and kind.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm([self.dim], Some(&self.weight), self.eps)
    }

    /// The same, rounded to the kind of `x` before the weight comes to it.
    pub fn forward_rounded(&self, x: &Tensor) -> Tensor {
        let normed = x.to_kind(Kind::Float).rms_norm([self.dim], None::<&Tensor>, self.eps);
        normed.to_kind(x.kind()) * &self.weight
    }
}

/// L2 normalisation over the last axis, times √C and the gain `gamma` `[C]` (`WanRMS_norm`): `[…, C]` → the same shape
/// and kind.
///
/// x/‖x‖·√C is x over its root mean square; the reference's floor of 1e-12 under the norm becomes an epsilon under
/// the mean square.
pub fn channel_norm(x: &Tensor, gamma: &Tensor) -> Tensor {
    let dim = x.size().last().copied().unwrap_or(1);
    let eps = 1e-24 / dim as f64;
    match x.kind() {
        Kind::Float => x.rms_norm([dim], Some(gamma), eps),
        kind => {
            let normed = x.to_kind(Kind::Float).rms_norm([dim], None::<&Tensor>, eps);
            normed.to_kind(kind) * gamma
        }
    }
}
