//! Adapters of low rank: what is added to some matrices of a network as the product of two thin ones (LoRA, Hu et al.,
//! arXiv 2106.09685).

use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::weights::{FileWeights, Kept, WeightSource, Weights};

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
        Ok(match self.product(name, shape)? {
            Some(product) => (base.to_kind(Kind::Float) + product).to_kind(base.kind()),
            None => base,
        })
    }

    fn streams(&self) -> bool {
        self.base.streams()
    }

    /// With factors the sum, which is made once, as without streaming.
    fn kept(&self, name: &str, shape: &[i64]) -> Result<Kept> {
        match self.rank(name) {
            Some(_) => Kept::aside(self.tensor(name, shape)?),
            None => self.base.kept(name, shape),
        }
    }
}

impl LoraWeights<'_, '_> {
    /// What the adapter adds to the tensor `name`, if it has factors for it; f32.
    fn product(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let (Some(rank), &[outputs, inputs]) = (self.rank(name), shape) else { return Ok(None) };
        let down = self.factors.tensor(&factor("A", name), &[rank, inputs])?;
        let up = self.factors.tensor(&factor("B", name), &[outputs, rank])?;
        Ok(Some(up.matmul(&down)))
    }

    /// The rank of what is added to the tensor `name`, if anything is.
    fn rank(&self, name: &str) -> Option<i64> {
        let [rank, _] = self.factors.shape(&factor("A", name))?.try_into().ok()?;
        name.ends_with(".weight").then_some(rank)
    }
}

/// The name of a factor of the matrix `name`, which ends in `.weight`.
fn factor(which: &str, name: &str) -> String {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    format!("transformer.{module}.lora_{which}.weight")
}
