//! Schedulers: which noise levels to visit, and the step from one to the next.
//!
//! Both follow a straight flow from noise to data (Lipman et al., "Flow Matching for Generative
//! Modeling", arXiv 2210.02747; Liu et al., "Flow Straight and Fast", arXiv 2209.03003): at noise level
//! sigma the sample is `(1 - sigma) · data + sigma · noise`, and the model predicts the velocity
//! `noise - data`. The order of the floating point operations is that of diffusers, so that a whole
//! run ends within 1e-4 of it: scalars are f32 tensors of no dimension, as there, and follow torch's
//! own promotion rules when they meet a sample.

pub mod few_step;
mod flow_match_euler_discrete;
mod unipc_multistep;

use sora_model::config::{Config, SchedulerClass, SchedulerConfig};
use tch::{Kind, Tensor};

use crate::error::{DiffusionError, Result};

pub use few_step::FewStepSchedule;
pub use flow_match_euler_discrete::FlowMatchEulerDiscreteScheduler;
pub use unipc_multistep::UniPcMultistepScheduler;

/// A schedule of noise levels and the solver that walks it.
///
/// [`Scheduler::set_timesteps`] begins a run; then [`Scheduler::step`] once per timestep, in order.
pub trait Scheduler {
    /// Begins a run of `num_inference_steps`, from pure noise.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] for none, or more than there are training timesteps.
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()>;

    /// What the model is told at each step, `num_inference_steps` values from high noise to low, in
    /// training timesteps (0 to 1000); whole numbers for UniPC.
    fn timesteps(&self) -> &[f64];

    /// The noise level before each step, and the one after the last: `num_inference_steps + 1` values
    /// from 1 downwards.
    fn sigmas(&self) -> &[f32];

    /// Begins at the step `begin_index` instead of the first (video to video), after
    /// [`Scheduler::set_timesteps`].
    fn set_begin_index(&mut self, begin_index: usize);

    /// One step: from the sample and the velocity predicted for it to the next, less noisy sample. All
    /// have the same shape, with the batch first.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] when all steps are done.
    fn step(&mut self, model_output: &Tensor, sample: &Tensor) -> Result<Tensor>;

    /// Data with the noise of the level before step `index`: where video to video begins. All have the
    /// same shape.
    ///
    /// # Errors
    /// [`DiffusionError::Request`] when there is no such step.
    fn add_noise(&self, data: &Tensor, noise: &Tensor, index: usize) -> Result<Tensor> {
        let Some(&sigma) = self.sigmas().get(index) else {
            return Err(no_such_step(index, self.timesteps().len()));
        };
        let sigma = scalar(sigma);
        Ok(&sigma * noise + (1.0 - &sigma) * data)
    }
}

/// The scheduler of a config.
///
/// # Errors
/// [`DiffusionError::Unsupported`] for a config that its own check refuses.
pub fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Scheduler + Send>> {
    config
        .check()
        .map_err(|problem| DiffusionError::Unsupported(format!("{}: {problem}", config.class.name())))?;
    Ok(match config.class {
        SchedulerClass::UniPcMultistep => Box::new(UniPcMultistepScheduler::new(config)),
        SchedulerClass::FlowMatchEulerDiscrete => Box::new(FlowMatchEulerDiscreteScheduler::new(config)),
    })
}

/// An f32 tensor of no dimension on the CPU; it meets tensors on any device without a copy of them.
fn scalar(value: f32) -> Tensor {
    Tensor::from(value).to_kind(Kind::Float)
}

/// `count` values from `start` to `stop`, both included, as numpy's `linspace` rounds them.
fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

/// Moves the steps towards high noise: `shift · sigma / (1 + (shift - 1) · sigma)`.
fn shift_sigmas(sigmas: &mut [f64], shift: f64) {
    for sigma in sigmas {
        *sigma = shift * *sigma / (1.0 + (shift - 1.0) * *sigma);
    }
}

/// Stretches the schedule so that its last level is `terminal`; 0 and `None` leave it.
fn stretch_to_terminal(sigmas: &mut [f64], terminal: Option<f64>) {
    let (Some(terminal), Some(&last)) = (terminal, sigmas.last()) else { return };
    if terminal == 0.0 {
        return;
    }
    let factor = (1.0 - last) / (1.0 - terminal);
    for sigma in sigmas {
        *sigma = 1.0 - (1.0 - *sigma) / factor;
    }
}

fn check_num_steps(num_inference_steps: usize, num_train_timesteps: i64) -> Result<()> {
    if (1..=num_train_timesteps).contains(&(num_inference_steps as i64)) {
        return Ok(());
    }
    Err(DiffusionError::Request {
        what: "num_inference_steps",
        value: num_inference_steps.to_string(),
        bound: format!("it must be 1 to {num_train_timesteps}"),
    })
}

fn no_such_step(index: usize, steps: usize) -> DiffusionError {
    DiffusionError::Request {
        what: "scheduler step",
        value: index.to_string(),
        bound: format!("the schedule has {steps} steps, counted from 0"),
    }
}
