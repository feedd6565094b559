use tch::{Kind, Tensor};

use super::fp8::Fp8Matrix;
use crate::error::Result;
use crate::weights::Weights;

/// `x · weightᵀ + bias` over the last axis.
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

/// `[outputs, inputs]`.
enum Matrix {
    Plain(Tensor),
    Fp8(Fp8Matrix),
}

impl Linear {
    /// A layer with bias: `weight` `[outputs, inputs]`, `bias` `[outputs]`.
    pub fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self {
            weight: Matrix::new(weights, inputs, outputs)?,
            bias: Some(weights.get("bias", &[outputs])?),
        })
    }

    /// A layer without bias.
    pub fn without_bias(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self { weight: Matrix::new(weights, inputs, outputs)?, bias: None })
    }

    /// A convolution with kernel 1, or with kernel = stride, read as a linear layer: `weight` is stored
    /// as `[outputs, inputs, kernel…]` and flattened to `[outputs, inputs·∏kernel]`.
    pub fn from_conv(weights: &Weights, inputs: i64, outputs: i64, kernel: &[i64]) -> Result<Self> {
        let shape: Vec<i64> = [outputs, inputs].iter().chain(kernel).copied().collect();
        let flat = inputs * kernel.iter().product::<i64>();
        Ok(Self {
            weight: Matrix::Plain(weights.get("weight", &shape)?.view([outputs, flat])),
            bias: Some(weights.get("bias", &[outputs])?),
        })
    }

    /// `[…, inputs]` → `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match &self.weight {
            Matrix::Plain(weight) => x.linear(weight, self.bias.as_ref()),
            Matrix::Fp8(matrix) => matrix.linear(x, self.bias.as_ref()),
        }
    }

    /// Number format in which inputs are expected.
    pub fn kind(&self) -> Kind {
        match &self.weight {
            Matrix::Plain(weight) => weight.kind(),
            Matrix::Fp8(_) => Kind::BFloat16,
        }
    }
}

impl Matrix {
    fn new(weights: &Weights, inputs: i64, outputs: i64) -> Result<Self> {
        let values = weights.get("weight", &[outputs, inputs])?;
        Ok(if Fp8Matrix::is_format_of(&values) {
            Self::Fp8(Fp8Matrix::new(values, weights)?)
        } else {
            Self::Plain(values)
        })
    }
}
