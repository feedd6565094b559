use tch::Tensor;

use crate::error::Result;
use crate::weights::Weights;

/// `x · weightᵀ + bias` over the last axis.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer with bias: `weight` `[outputs, inputs]`, `bias` `[outputs]`.
    pub fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self {
            weight: weights.get("weight", &[outputs, inputs])?,
            bias: Some(weights.get("bias", &[outputs])?),
        })
    }

    /// A layer without bias.
    pub fn without_bias(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[outputs, inputs])?, bias: None })
    }

    /// A convolution with kernel 1, or with kernel = stride, read as a linear layer: `weight` is stored
    /// as `[outputs, inputs, kernel…]` and flattened to `[outputs, inputs·∏kernel]`.
    pub fn from_conv(weights: &Weights, inputs: i64, outputs: i64, kernel: &[i64]) -> Result<Self> {
        let shape: Vec<i64> = [outputs, inputs].iter().chain(kernel).copied().collect();
        let flat = inputs * kernel.iter().product::<i64>();
        Ok(Self {
            weight: weights.get("weight", &shape)?.view([outputs, flat]),
            bias: Some(weights.get("bias", &[outputs])?),
        })
    }

    /// `[…, inputs]` → `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    /// Number format of the parameters.
    pub fn kind(&self) -> tch::Kind {
        self.weight.kind()
    }
}
