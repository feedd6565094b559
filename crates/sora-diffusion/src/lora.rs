//! Adapters of low rank: what is added to some matrices of a network as the product of two thin ones (LoRA, Hu et al.,
//! arXiv 2106.09685).

use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::weights::{FileWeights, WeightSource, Weights};

/// Weights with an adapter in them.
///
/// The sum is made once, in f32, and rounded to the format of the weights: it costs nothing at inference. What has no
/// factors stays what it is, on a CPU a view of the same mapped file.
pub(crate) struct LoraWeights<'a, 'b> {
    base: Weights<'a>,
    factors: Rc<FileWeights<'b>>,
}

impl<'a, 'b> LoraWeights<'a, 'b> {
    /// `factors` has, for a matrix `M.weight` of `base`, `transformer.M.lora_A.weight` and `transformer.M.lora_B.weight`,
    /// in f32.
    pub(crate) fn new(base: Weights<'a>, factors: Rc<FileWeights<'b>>) -> Self {
        Self { base, factors }
    }
}

impl WeightSource for LoraWeights<'_, '_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let base = self.base.get(name, shape)?;
        let (Some(module), &[outputs, inputs]) = (name.strip_suffix(".weight"), shape) else {
            return Ok(base);
        };
        let [down, up] = ["A", "B"].map(|factor| format!("transformer.{module}.lora_{factor}.weight"));
        let Some([rank, _]) = self.factors.shape(&down).and_then(|shape| <[i64; 2]>::try_from(shape).ok())
        else {
            return Ok(base);
        };
        let down = self.factors.tensor(&down, &[rank, inputs])?;
        let up = self.factors.tensor(&up, &[outputs, rank])?;
        Ok((base.to_kind(Kind::Float) + up.matmul(&down)).to_kind(base.kind()))
    }
}
