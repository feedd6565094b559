//! AdamW (arXiv 1711.05101) over one flat tensor, with clipping and an average of the parameters; Muon
//! for the matrices among them, where asked for.
//!
//! Muon (K. Jordan 2024; scaled to the step size of AdamW as in arXiv 2502.16982) makes the update of a
//! weight matrix orthogonal, so that all its directions learn at one speed. In the few thousand steps
//! that a CPU affords this is worth several times its cost.

use anyhow::bail;
use tch::Tensor;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.99;
const EPSILON: f64 = 1e-8;

/// State of the optimizer.
pub(crate) struct AdamW {
    /// First moment.
    pub(crate) m: Tensor,
    /// Second moment.
    pub(crate) v: Tensor,
    /// Exponential moving average of the parameters.
    pub(crate) average: Tensor,
    /// Steps taken.
    pub(crate) step: i64,
    weight_decay: f64,
    max_norm: f64,
    average_decay: f64,
    matrices: Vec<Matrix>,
}

/// A weight matrix inside the flat tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub(crate) offset: i64,
    pub(crate) rows: i64,
    pub(crate) columns: i64,
}

/// The nearest orthogonal matrix, roughly, by five Newton-Schulz steps with Jordan's coefficients.
fn orthogonal(matrix: &Tensor) -> Tensor {
    let (rows, columns) = matrix.size2().expect("a matrix");
    let mut x = matrix / (matrix.norm() + 1e-7);
    if rows > columns {
        x = x.transpose(0, 1);
    }
    for _ in 0..5 {
        let gram = x.matmul(&x.transpose(0, 1));
        let polynomial = &gram * -4.775 + gram.matmul(&gram) * 2.0315;
        x = &x * 3.4445 + polynomial.matmul(&x);
    }
    if rows > columns { x.transpose(0, 1) } else { x }
}

impl AdamW {
    /// For parameters like `flat`.
    pub(crate) fn new(flat: &Tensor, weight_decay: f64, average_decay: f64) -> Self {
        let zeros = || flat.zeros_like();
        Self {
            m: zeros(),
            v: zeros(),
            average: flat.copy(),
            step: 0,
            weight_decay,
            max_norm: 1.0,
            average_decay,
            matrices: Vec::new(),
        }
    }

    /// The same, with Muon for these matrices.
    #[must_use]
    pub(crate) fn with_muon(mut self, matrices: Vec<Matrix>) -> Self {
        self.matrices = matrices;
        self
    }

    /// One step. Returns the norm of the gradient before clipping.
    ///
    /// # Errors
    /// If the gradient is not finite: nothing has been changed then. If the parameters are not finite
    /// afterwards: they are of no use any more, and must not be saved.
    pub(crate) fn step(&mut self, flat: &mut Tensor, gradient: &Tensor, rate: f64) -> anyhow::Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let norm = gradient.norm().double_value(&[]);
        if !norm.is_finite() {
            bail!("the gradient of step {} is {norm}; the last checkpoint is unharmed", self.step + 1);
        }
        let gradient = gradient * (self.max_norm / norm.max(self.max_norm));
        self.step += 1;
        let t = self.step as i32;
        let _ = self.m.lerp_(&gradient, 1.0 - BETA_1);
        let _ = self.v.g_mul_scalar_(BETA_2).addcmul_(&gradient, &(&gradient * (1.0 - BETA_2)));
        let m = &self.m / (1.0 - BETA_1.powi(t));
        let v = &self.v / (1.0 - BETA_2.powi(t));
        let update = m / (v.sqrt() + EPSILON);
        for matrix in &self.matrices {
            let Matrix { offset, rows, columns } = *matrix;
            let slice = |t: &Tensor| t.narrow(0, offset, rows * columns).view([rows, columns]);
            // Nesterov momentum, then 0.2·√max: the size AdamW's updates have.
            let momentum = slice(&gradient) * (1.0 - BETA_1) + slice(&self.m) * BETA_1;
            let direction = orthogonal(&momentum) * (0.2 * (rows.max(columns) as f64).sqrt());
            slice(&update).copy_(&direction);
        }
        let _ = flat.g_mul_scalar_(1.0 - rate * self.weight_decay);
        *flat -= update * rate;
        if !is_finite(flat) {
            bail!(
                "the parameters of step {} are not finite, at a learning rate of {rate}; the last \
                 checkpoint is unharmed",
                self.step
            );
        }
        // Early on a long average would mostly remember the start.
        let decay = self.average_decay.min((1.0 + self.step as f64) / (10.0 + self.step as f64));
        let _ = self.average.lerp_(flat, 1.0 - decay);
        Ok(norm)
    }
}

/// Whether every value of a tensor is a finite number.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

/// Linear warm-up, then a cosine down to a twentieth.
pub(crate) fn learning_rate(peak: f64, step: u64, warm_up: u64, total: u64) -> f64 {
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let progress = ((step - warm_up) as f64 / (total - warm_up).max(1) as f64).min(1.0);
    peak * (0.05 + 0.95 * 0.5 * (1.0 + (progress * std::f64::consts::PI).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let target = Tensor::from_slice(&[1.0f32, -2.0, 3.0]);
        let mut x = target.zeros_like();
        let mut adam = AdamW::new(&x, 0.0, 0.9);
        for _ in 0..2000 {
            let gradient = &x - &target;
            adam.step(&mut x, &gradient, 0.01).expect("finite");
        }
        assert!((x - target).abs().max().double_value(&[]) < 1e-2);
    }

    #[test]
    fn muon_turns_any_gradient_into_a_rotation() {
        tch::manual_seed(0);
        for (rows, columns) in [(4, 9), (9, 4), (6, 6)] {
            let options = (tch::Kind::Float, tch::Device::Cpu);
            let o = orthogonal(&(Tensor::randn([rows, columns], options) * 30.0));
            let (_, singular, _) = o.svd(true, true);
            let (low, high) = (singular.min().double_value(&[]), singular.max().double_value(&[]));
            assert!(low > 0.3 && high < 1.4, "{rows}x{columns}: singular values {low} to {high}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_a_number_changes_nothing() {
        let mut x = Tensor::from_slice(&[1.0f32, 2.0]);
        let mut adam = AdamW::new(&x, 0.1, 0.9);
        assert!(adam.step(&mut x, &Tensor::from_slice(&[f32::NAN, 0.0]), 0.1).is_err());
        assert_eq!(Vec::<f32>::try_from(&x).expect("floats"), [1.0, 2.0]);
        assert_eq!(adam.step, 0);
    }

    #[test]
    fn a_step_to_parameters_that_are_not_numbers_is_an_error() {
        let gradient = Tensor::from_slice(&[1.0f32, -1.0]);
        let mut x = Tensor::from_slice(&[1.0f32, 2.0]);
        let mut adam = AdamW::new(&x, 0.1, 0.9);
        adam.step(&mut x, &gradient, 0.1).expect("finite");
        let error = adam.step(&mut x, &gradient, 1e45).expect_err("infinite");
        assert!(error.to_string().contains("the parameters of step 2 are not finite"), "{error}");
    }

    #[test]
    fn the_rate_rises_then_falls() {
        assert!(learning_rate(1.0, 0, 10, 100) < 0.2);
        assert!((learning_rate(1.0, 10, 10, 100) - 1.0).abs() < 1e-9);
        assert!((learning_rate(1.0, 100, 10, 100) - 0.05).abs() < 1e-9);
    }
}
