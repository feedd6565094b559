//! Products of matrices in 8 bits, in the format E4M3 (Micikevicius et al., "FP8 Formats for Deep Learning",
//! arXiv 2209.05433): half the memory of bf16, and on GPUs that have units for it up to twice its rate.
//!
//! A matrix is stored with one scale, which brings its largest value to the largest of the format; so is what is
//! multiplied by it, each time anew. Sums are in f32.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::weights::{Kept, WeightSource, Weights};

/// The largest number of the format.
const LARGEST: f64 = 448.0;

/// Below this scale there is nothing but zeros.
const SMALLEST_SCALE: f64 = 1e-12;

/// Rows and columns of the matrices that GPUs multiply come in so many.
const GRAIN: i64 = 16;

const FORMAT: Kind = Kind::Float8e4m3fn;

/// A matrix of `[outputs, inputs]` and its scale, f32 `[]`.
pub(super) struct Fp8Matrix {
    values: Tensor,
    scale: Tensor,
}

/// `x` in 8 bits, and what they are to be multiplied by.
fn quantized(x: &Tensor) -> (Tensor, Tensor) {
    let scale = (x.abs().max().to_kind(Kind::Float) / LARGEST).clamp_min(SMALLEST_SCALE);
    ((x / &scale).clamp(-LARGEST, LARGEST).to_kind(FORMAT), scale)
}

impl Fp8Matrix {
    /// Whether these are in 8 bits.
    pub(super) fn is_format_of(values: &Tensor) -> bool {
        values.kind() == FORMAT
    }

    /// `values` as [`Fp8Weights`] gave them out.
    pub(super) fn new(values: Tensor, weights: &Weights) -> Result<Self> {
        Ok(Self { values, scale: weights.get("weight_scale", &[])? })
    }

    /// `[…, inputs]` → `[…, outputs]`, in the format of `x`, in which `bias` must be too.
    pub(super) fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (outputs, inputs) = self.values.size2().expect("a matrix");
        let (rows, scale) = quantized(&x.reshape([-1, inputs]));
        let product =
            rows.internal_scaled_mm(&self.values.tr(), &scale, &self.scale, bias, None, x.kind(), false);
        let mut shape = x.size();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        product.reshape(shape)
    }
}

/// Weights of a transformer with the large matrices of its blocks in 8 bits: those of attention and feed-forward. What
/// leads into the blocks and out of them, norms and modulation stay what they are.
///
/// Beside `M.weight` there is then an `M.weight_scale`.
pub struct Fp8Weights<'a> {
    base: Weights<'a>,
    /// The scale of the last matrix, which is asked for next.
    scale: RefCell<Option<(String, Tensor)>>,
}

impl<'a> Fp8Weights<'a> {
    /// `base` is a whole transformer, in bf16.
    pub fn new(base: Weights<'a>) -> Self {
        Self { base, scale: RefCell::default() }
    }

    fn in_8_bits(name: &str, shape: &[i64]) -> bool {
        name.starts_with("blocks.")
            && name.ends_with(".weight")
            && matches!(shape, [outputs, inputs] if outputs % GRAIN == 0 && inputs % GRAIN == 0)
    }
}

impl WeightSource for Fp8Weights<'_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        if let Some((of, scale)) = &*self.scale.borrow()
            && of == name
        {
            return Ok(scale.shallow_clone());
        }
        let stored = self.base.get(name, shape)?;
        if !Self::in_8_bits(name, shape) {
            return Ok(stored);
        }
        let (values, scale) = quantized(&stored);
        *self.scale.borrow_mut() = Some((format!("{name}_scale"), scale));
        Ok(values)
    }

    fn streams(&self) -> bool {
        self.base.streams()
    }

    /// What is in 8 bits is kept so.
    fn kept(&self, name: &str, shape: &[i64]) -> Result<Kept> {
        let scale = self.scale.borrow().as_ref().is_some_and(|(of, _)| of == name);
        if scale || Self::in_8_bits(name, shape) {
            Kept::aside(self.tensor(name, shape)?)
        } else {
            self.base.kept(name, shape)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use tch::Device;

    use super::*;
    use crate::error::DiffusionError;
    use crate::nn::Linear;

    struct Stored(BTreeMap<String, Tensor>);

    impl WeightSource for Stored {
        fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
            match self.0.get(name) {
                Some(tensor) if tensor.size() == shape => Ok(tensor.shallow_clone()),
                _ => Err(DiffusionError::MissingTensor {
                    component: "test".into(),
                    name: name.into(),
                    wanted: shape.into(),
                }),
            }
        }
    }

    /// Numbers of many sizes, in bf16: sines, so that no test needs the generator that all share.
    fn numbers(rows: i64, columns: i64, speed: f64) -> Tensor {
        let x = Tensor::arange(rows * columns, (Kind::Double, Device::Cpu));
        let x = (&x * speed).sin() * (&x * (speed * 0.37)).sin().exp();
        x.view([rows, columns]).to_kind(Kind::BFloat16)
    }

    fn relative(wrong: &Tensor, right: &Tensor) -> f64 {
        let (wrong, right) = (wrong.to_kind(Kind::Double), right.to_kind(Kind::Double));
        f64::try_from((wrong - &right).norm() / right.norm()).expect("a number")
    }

    #[test]
    fn a_layer_in_8_bits_is_within_its_rounding_of_one_in_bf16() {
        let (inputs, outputs) = (64, 48);
        let stored: BTreeMap<_, _> = ["blocks.0.ffn.", "proj_out."]
            .into_iter()
            .flat_map(|place| {
                let bias = numbers(1, outputs, 0.7).squeeze();
                [
                    (format!("{place}weight"), numbers(outputs, inputs, 1.3) * 0.05),
                    (format!("{place}bias"), bias),
                ]
            })
            .collect();
        let plain = Weights::new(Rc::new(Stored(stored)));
        let in_8_bits = Weights::new(Rc::new(Fp8Weights::new(plain.clone())));
        let layer = |weights: &Weights, place: &str| {
            Linear::new(&weights.pp(place), inputs, outputs).expect("the weights are there")
        };
        let (block, out) = ("blocks.0.ffn", "proj_out");
        assert_eq!(in_8_bits.pp(block).get("weight", &[outputs, inputs]).expect("there").kind(), FORMAT);
        for size in [1.0, 1e-3, 3e4] {
            let x = numbers(10, inputs, 2.1).view([2, 5, inputs]) * size;
            let product = |weights: &Weights| {
                let layer = Linear::without_bias(&weights.pp(block), inputs, outputs).expect("it is there");
                layer.forward(&x)
            };
            let (right, found) = (product(&plain), product(&in_8_bits));
            assert_eq!((found.size(), found.kind()), (right.size(), right.kind()));
            // Three bits of mantissa: each factor is off by up to 1/16, and by half of that or less on average.
            let off = relative(&found, &right);
            assert!(off > 1e-3 && off < 0.05, "{off} at {size}");
            let bias = layer(&in_8_bits, block).forward(&x) - &found;
            assert!(relative(&(bias + &found), &layer(&plain, block).forward(&x)) < 0.05);
            let outside = layer(&in_8_bits, out).forward(&x);
            assert_eq!(outside, layer(&plain, out).forward(&x), "what leads out of the blocks stays in bf16");
        }
        let nothing = Tensor::zeros([3, inputs], (Kind::BFloat16, Device::Cpu));
        let bias = plain.pp(block).get("bias", &[outputs]).expect("there").expand([3, outputs], false);
        assert_eq!(layer(&in_8_bits, block).forward(&nothing), bias, "zeros stay zeros");
    }

    #[test]
    fn matrices_that_a_gpu_cannot_multiply_stay_in_bf16() {
        for (name, shape, wanted) in [
            ("blocks.0.ffn.net.2.weight", [32, 48], true),
            ("blocks.0.ffn.net.2.weight", [32, 40], false),
            ("blocks.0.ffn.net.2.weight", [24, 32], false),
            ("patch_embedding.weight", [32, 32], false),
            ("blocks.0.scale_shift_table", [16, 16], false),
        ] {
            assert_eq!(Fp8Weights::in_8_bits(name, &shape), wanted, "{name} {shape:?}");
        }
        assert!(!Fp8Weights::in_8_bits("blocks.0.norm.weight", &[32]));
    }
}
