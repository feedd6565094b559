//! UniPC, a multistep predictor with a corrector that costs no further model call; follows diffusers
//! `schedulers/scheduling_unipc_multistep.py`.
//!
//! Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
//! arXiv 2302.04867: B(h) versions of UniP (algorithm 2) and UniC (algorithm 1), on the predicted data
//! x0. Notation as in the paper: lambda is the log of alpha over sigma, h the step in it, m a model
//! output (here x0), D1 a divided difference of two, rho their weights.

use std::collections::VecDeque;

use sora_model::config::SchedulerConfig;
use tch::Tensor;

use super::{Scheduler, check_num_steps, linspace, no_such_step, scalar, shift_sigmas, stretch_to_terminal};
use crate::error::Result;

/// `UniPCMultistepScheduler` with `flow_prediction`, `predict_x0` and flow sigmas.
#[derive(Debug)]
pub struct UniPcMultistepScheduler {
    config: SchedulerConfig,
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    step_index: usize,
    /// The last predictions of x0, the newest at the end; as many as the solver's order.
    model_outputs: VecDeque<Tensor>,
    /// The corrected sample that the last prediction started from, and the order it had.
    last_step: Option<(Tensor, usize)>,
}

/// What a predictor and a corrector step share, all of them tensors of no dimension.
struct Terms {
    alpha_t: Tensor,
    /// Noise level at the end over the one at the start.
    sigma_ratio: Tensor,
    /// `exp(-h) - 1`.
    h_phi_1: Tensor,
    b_h: Tensor,
    /// Places of the known outputs, in steps of h from the start; the last is 1, the end.
    rks: Vec<Tensor>,
    /// Right hand side of the equations for the weights.
    b: Vec<Tensor>,
}

/// alpha and sigma of the flow at a noise level.
fn alpha_sigma(sigma: f32) -> (Tensor, Tensor) {
    let sigma = scalar(sigma);
    (1.0 - &sigma, sigma)
}

fn lambda(alpha: &Tensor, sigma: &Tensor) -> Tensor {
    alpha.log() - sigma.log()
}

impl UniPcMultistepScheduler {
    /// A scheduler for a config that has been checked.
    pub fn new(config: &SchedulerConfig) -> Self {
        Self {
            config: config.clone(),
            timesteps: Vec::new(),
            sigmas: Vec::new(),
            step_index: 0,
            model_outputs: VecDeque::new(),
            last_step: None,
        }
    }

    /// The terms of a step of `order` between the noise levels `start` and `start + 1`.
    fn terms(&self, start: usize, order: usize) -> Terms {
        let (alpha_t, sigma_t) = alpha_sigma(self.sigmas[start + 1]);
        let (alpha_s0, sigma_s0) = alpha_sigma(self.sigmas[start]);
        let lambda_s0 = lambda(&alpha_s0, &sigma_s0);
        let h = lambda(&alpha_t, &sigma_t) - &lambda_s0;
        let mut rks: Vec<Tensor> = (1..order)
            .map(|i| {
                let (alpha, sigma) = alpha_sigma(self.sigmas[start - i]);
                (lambda(&alpha, &sigma) - &lambda_s0) / &h
            })
            .collect();
        rks.push(scalar(1.0));

        // hh is -h because x0 is predicted, not the noise.
        let hh = -h;
        let h_phi_1 = hh.expm1();
        let b_h = if self.config.solver_type == "bh1" { hh.shallow_clone() } else { hh.expm1() };
        let mut h_phi_k = &h_phi_1 / &hh - 1.0;
        let mut factorial = 1.0;
        let mut b = Vec::with_capacity(order);
        for i in 1..=order {
            b.push(&h_phi_k * factorial / &b_h);
            factorial *= (i + 1) as f64;
            h_phi_k = h_phi_k / &hh - 1.0 / factorial;
        }
        Terms { alpha_t, sigma_ratio: sigma_t / sigma_s0, h_phi_1, b_h, rks, b }
    }

    /// Divided differences of the older model outputs to the newest: `D1_i = (m_i - m_0) / r_i`.
    fn differences(&self, terms: &Terms, order: usize) -> Vec<Tensor> {
        let newest = self.model_outputs.len() - 1;
        let m0 = &self.model_outputs[newest];
        (1..order).map(|i| (&self.model_outputs[newest - i] - m0) / &terms.rks[i - 1]).collect()
    }

    /// UniP: the sample at the next noise level.
    fn predict(&self, sample: &Tensor, order: usize) -> Tensor {
        let terms = self.terms(self.step_index, order);
        let m0 = &self.model_outputs[self.model_outputs.len() - 1];
        let base = terms.base(sample, m0);
        let differences = self.differences(&terms, order);
        let rhos = match order {
            1 => return base,
            // The solution of the one equation, which the paper's authors round to 1/2.
            2 => vec![scalar(0.5)],
            _ => terms.solve(order - 1),
        };
        base - &terms.alpha_t * &terms.b_h * weighted_sum(&rhos, &differences)
    }

    /// UniC: the sample at this noise level again, now that the model has been asked there.
    fn correct(&self, model_t: &Tensor, last_sample: &Tensor, order: usize) -> Tensor {
        let terms = self.terms(self.step_index - 1, order);
        let m0 = &self.model_outputs[self.model_outputs.len() - 1];
        let base = terms.base(last_sample, m0);
        let mut differences = self.differences(&terms, order);
        differences.push(model_t - m0);
        let rhos = if order == 1 { vec![scalar(0.5)] } else { terms.solve(order) };
        (base - &terms.alpha_t * &terms.b_h * weighted_sum(&rhos, &differences)).to_kind(last_sample.kind())
    }

    /// The order of the step at `step_index`: it grows with the outputs at hand, and shrinks towards
    /// the end.
    fn order(&self) -> usize {
        let mut order = self.config.solver_order as usize;
        if self.config.lower_order_final {
            order = order.min(self.timesteps.len() - self.step_index);
        }
        order.min(self.model_outputs.len())
    }
}

impl Terms {
    /// The part of the step that uses the newest model output alone.
    fn base(&self, x: &Tensor, m0: &Tensor) -> Tensor {
        &self.sigma_ratio * x - &self.alpha_t * &self.h_phi_1 * m0
    }

    /// The weights of the first `count` differences: `R · rho = b` with `R[i][k] = r_k^i`.
    fn solve(&self, count: usize) -> Vec<Tensor> {
        let rks = Tensor::stack(&self.rks[..count], 0);
        let rows: Vec<Tensor> = (0..count).map(|power| rks.pow_tensor_scalar(power as i64)).collect();
        let b = Tensor::stack(&self.b[..count], 0);
        let rhos = Tensor::linalg_solve(&Tensor::stack(&rows, 0), &b, true);
        (0..count as i64).map(|k| rhos.get(k)).collect()
    }
}

fn weighted_sum(weights: &[Tensor], terms: &[Tensor]) -> Tensor {
    let products = weights.iter().zip(terms).map(|(weight, term)| weight * term);
    products.reduce(|sum, product| sum + product).unwrap_or_else(|| scalar(0.0))
}

impl Scheduler for UniPcMultistepScheduler {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        let train = self.config.num_train_timesteps;
        check_num_steps(num_inference_steps, train)?;
        let train = train as f64;
        let mut sigmas = linspace(1.0, 1.0 / train, num_inference_steps + 1);
        sigmas.truncate(num_inference_steps);
        shift_sigmas(&mut sigmas, self.config.flow_shift);
        stretch_to_terminal(&mut sigmas, self.config.shift_terminal);
        // At sigma 1 alpha is 0 and lambda infinite.
        if (sigmas[0] - 1.0).abs() < 1e-6 {
            sigmas[0] -= 1e-6;
        }
        // The model is told whole timesteps, cut and not rounded.
        self.timesteps = sigmas.iter().map(|sigma| (sigma * train).trunc()).collect();
        let last =
            if self.config.final_sigmas_type == "zero" { 0.0 } else { sigmas[num_inference_steps - 1] };
        sigmas.push(last);
        self.sigmas = sigmas.iter().map(|&sigma| sigma as f32).collect();
        self.step_index = 0;
        self.model_outputs.clear();
        self.last_step = None;
        Ok(())
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn set_begin_index(&mut self, begin_index: usize) {
        self.step_index = begin_index;
        self.model_outputs.clear();
        self.last_step = None;
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let index = self.step_index;
        if index >= self.timesteps.len() {
            return Err(no_such_step(index, self.timesteps.len()));
        }
        let x0 = sample - scalar(self.sigmas[index]) * model_output;
        let corrector = index > 0 && !self.config.disable_corrector.contains(&(index as i64 - 1));
        let sample = match &self.last_step {
            Some((last_sample, order)) if corrector => self.correct(&x0, last_sample, *order),
            _ => sample.shallow_clone(),
        };
        self.model_outputs.push_back(x0);
        if self.model_outputs.len() > self.config.solver_order as usize {
            self.model_outputs.pop_front();
        }
        let order = self.order();
        let next_sample = self.predict(&sample, order).to_kind(sample.kind());
        self.last_step = Some((sample, order));
        self.step_index += 1;
        Ok(next_sample)
    }
}
