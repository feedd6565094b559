//! Euler steps along the flow; follows diffusers `schedulers/scheduling_flow_match_euler_discrete.py`.
//!
//! The flow and its Euler solver: Esser et al., "Scaling Rectified Flow Transformers for
//! High-Resolution Image Synthesis", arXiv 2403.03206, section 5.3 for the shift.

use sora_model::config::SchedulerConfig;
use tch::Tensor;

use super::{Scheduler, check_num_steps, linspace, no_such_step, scalar, shift_sigmas, stretch_to_terminal};
use crate::error::Result;

/// `FlowMatchEulerDiscreteScheduler`: first order, deterministic.
#[derive(Debug)]
pub struct FlowMatchEulerDiscreteScheduler {
    num_train_timesteps: i64,
    shift: f64,
    shift_terminal: Option<f64>,
    /// The noise levels of the first and the last training timestep, shifted.
    sigma_range: (f64, f64),
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    step_index: usize,
}

impl FlowMatchEulerDiscreteScheduler {
    /// A scheduler for a config that has been checked.
    pub fn new(config: &SchedulerConfig) -> Self {
        // The reference shifts the training levels when it is made, in f32, and the levels between the
        // outermost two once more for each run.
        let train = config.num_train_timesteps as f32;
        let shifted = |timestep: f32| {
            let sigma = timestep / train;
            let shifted = config.shift as f32 * sigma / (1.0 + (config.shift - 1.0) as f32 * sigma);
            f64::from(shifted)
        };
        Self {
            num_train_timesteps: config.num_train_timesteps,
            shift: config.shift,
            shift_terminal: config.shift_terminal,
            sigma_range: (shifted(train), shifted(1.0)),
            timesteps: Vec::new(),
            sigmas: Vec::new(),
            step_index: 0,
        }
    }
}

impl Scheduler for FlowMatchEulerDiscreteScheduler {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        check_num_steps(num_inference_steps, self.num_train_timesteps)?;
        let train = self.num_train_timesteps as f64;
        let (first, last) = self.sigma_range;
        let mut sigmas = linspace(first * train, last * train, num_inference_steps);
        for sigma in &mut sigmas {
            *sigma /= train;
        }
        shift_sigmas(&mut sigmas, self.shift);
        stretch_to_terminal(&mut sigmas, self.shift_terminal);
        self.sigmas = sigmas.iter().map(|&sigma| sigma as f32).collect();
        self.timesteps = self.sigmas.iter().map(|&sigma| f64::from(sigma * train as f32)).collect();
        self.sigmas.push(0.0);
        self.step_index = 0;
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
    }

    fn step(&mut self, model_output: &Tensor, sample: &Tensor) -> Result<Tensor> {
        let index = self.step_index;
        let (Some(&sigma), Some(&next)) = (self.sigmas.get(index), self.sigmas.get(index + 1)) else {
            return Err(no_such_step(index, self.timesteps.len()));
        };
        let sample = sample.to_kind(tch::Kind::Float);
        let next_sample = sample + scalar(next - sigma) * model_output;
        self.step_index += 1;
        Ok(next_sample.to_kind(model_output.kind()))
    }
}
