//! `scheduler/scheduler_config.json`: the two schedulers of the Wan family.

use serde::{Deserialize, Serialize};

use super::{Config, in_range, in_range_f64, must_be_off};
use crate::ConfigError;

/// The scheduler classes that are implemented, by their upstream names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulerClass {
    /// UniPC, the default of the official Wan directories.
    #[serde(rename = "UniPCMultistepScheduler")]
    UniPcMultistep,
    /// First-order Euler steps along the flow.
    #[serde(rename = "FlowMatchEulerDiscreteScheduler")]
    FlowMatchEulerDiscrete,
}

impl SchedulerClass {
    /// The upstream class name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UniPcMultistep => "UniPCMultistepScheduler",
            Self::FlowMatchEulerDiscrete => "FlowMatchEulerDiscreteScheduler",
        }
    }
}

/// The config of `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler` (diffusers
/// `schedulers/`): one struct for both, told apart by [`SchedulerConfig::class`].
///
/// Keys of the other class keep their defaults and are not looked at.
///
/// Some combinations are refused because upstream computes NaN with them: a step to sigma 0 needs
/// the `bh2` solver and a lowered last order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// Which scheduler.
    #[serde(rename = "_class_name")]
    pub class: SchedulerClass,
    /// Training timesteps; sigma 1 is this timestep.
    pub num_train_timesteps: i64,
    /// UniPC: order of the predictor.
    pub solver_order: i64,
    /// UniPC: must be `flow_prediction`.
    pub prediction_type: String,
    /// UniPC: must be off.
    pub thresholding: bool,
    /// UniPC: must be on.
    pub predict_x0: bool,
    /// UniPC: `bh1` or `bh2`.
    pub solver_type: String,
    /// UniPC: lower the order at the last steps.
    pub lower_order_final: bool,
    /// UniPC: steps after which the corrector is left out.
    pub disable_corrector: Vec<i64>,
    /// UniPC: must be on.
    pub use_flow_sigmas: bool,
    /// UniPC: shift of the sigmas towards noise.
    pub flow_shift: f64,
    /// UniPC: `zero` or `sigma_min`.
    pub final_sigmas_type: String,
    /// Euler: shift of the sigmas towards noise.
    pub shift: f64,
    /// Euler: must be off.
    pub invert_sigmas: bool,
    /// Euler: must be off.
    pub stochastic_sampling: bool,
    /// Both: must be off (the text-to-video pipeline has no `mu` to pass).
    pub use_dynamic_shifting: bool,
    /// Both: stretch the sigmas so that the last one is this.
    pub shift_terminal: Option<f64>,
    /// Both: must be off.
    pub use_karras_sigmas: bool,
    /// Both: must be off.
    pub use_exponential_sigmas: bool,
    /// Both: must be off.
    pub use_beta_sigmas: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class: SchedulerClass::UniPcMultistep,
            num_train_timesteps: 1000,
            solver_order: 2,
            prediction_type: "epsilon".into(),
            thresholding: false,
            predict_x0: true,
            solver_type: "bh2".into(),
            lower_order_final: true,
            disable_corrector: Vec::new(),
            use_flow_sigmas: false,
            flow_shift: 1.0,
            final_sigmas_type: "zero".into(),
            shift: 1.0,
            invert_sigmas: false,
            stochastic_sampling: false,
            use_dynamic_shifting: false,
            shift_terminal: None,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
        }
    }
}

impl SchedulerConfig {
    /// The UniPC scheduler of the official Wan directories with this `flow_shift`.
    pub fn unipc(flow_shift: f64) -> Self {
        Self {
            class: SchedulerClass::UniPcMultistep,
            prediction_type: "flow_prediction".into(),
            use_flow_sigmas: true,
            flow_shift,
            ..Self::default()
        }
    }

    /// The Euler scheduler with this `shift`.
    pub fn flow_match_euler(shift: f64) -> Self {
        Self { class: SchedulerClass::FlowMatchEulerDiscrete, shift, ..Self::default() }
    }

    /// The shift of the sigmas, by whichever name its class has for it.
    pub fn shift_of_flow(&self) -> f64 {
        match self.class {
            SchedulerClass::UniPcMultistep => self.flow_shift,
            SchedulerClass::FlowMatchEulerDiscrete => self.shift,
        }
    }

    /// The same schedule for another class: the shift and the training timesteps are carried over,
    /// everything else is that class's default.
    ///
    /// Upstream's `from_config` would lose the shift, because the two classes name it differently.
    #[must_use]
    pub fn with_class(&self, class: SchedulerClass) -> Self {
        if class == self.class {
            return self.clone();
        }
        let other = match class {
            SchedulerClass::UniPcMultistep => Self::unipc(self.shift),
            SchedulerClass::FlowMatchEulerDiscrete => Self::flow_match_euler(self.flow_shift),
        };
        Self { num_train_timesteps: self.num_train_timesteps, ..other }
    }
}

impl Config for SchedulerConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("num_train_timesteps", self.num_train_timesteps, 1, 1_000_000)?;
        match self.class {
            SchedulerClass::UniPcMultistep => {
                in_range("solver_order", self.solver_order, 1, 3)?;
                must_be("prediction_type", &self.prediction_type, &["flow_prediction"])?;
                must_be("solver_type", &self.solver_type, &["bh1", "bh2"])?;
                must_be("final_sigmas_type", &self.final_sigmas_type, &["zero", "sigma_min"])?;
                must_be_off("thresholding", self.thresholding)?;
                must_be_on("predict_x0", self.predict_x0)?;
                must_be_on("use_flow_sigmas", self.use_flow_sigmas)?;
                in_range_f64("flow_shift", self.flow_shift, 1e-3, 1e3)?;
                self.check_last_step()?;
            }
            SchedulerClass::FlowMatchEulerDiscrete => {
                in_range_f64("shift", self.shift, 1e-3, 1e3)?;
                must_be_off("invert_sigmas", self.invert_sigmas)?;
                must_be_off("stochastic_sampling", self.stochastic_sampling)?;
            }
        }
        must_be_off("use_dynamic_shifting", self.use_dynamic_shifting)?;
        must_be_off("use_karras_sigmas", self.use_karras_sigmas)?;
        must_be_off("use_exponential_sigmas", self.use_exponential_sigmas)?;
        must_be_off("use_beta_sigmas", self.use_beta_sigmas)?;
        match self.shift_terminal {
            Some(terminal) => in_range_f64("shift_terminal", terminal, 0.0, 0.999),
            None => Ok(()),
        }
    }
}

impl SchedulerConfig {
    /// Refuses the combinations with which the last UniPC step is not a number upstream.
    fn check_last_step(&self) -> Result<(), ConfigError> {
        let to_zero = self.final_sigmas_type == "zero";
        if to_zero && self.solver_type == "bh1" {
            return Err(ConfigError::new("solver_type", "`bh1`", "bh2, because final_sigmas_type is zero"));
        }
        let highest = if to_zero { 1 } else { 2 };
        if !self.lower_order_final && self.solver_order > highest {
            return Err(ConfigError::new(
                "lower_order_final",
                "false",
                format!("true, because solver_order is {}", self.solver_order),
            ));
        }
        Ok(())
    }
}

fn must_be_on(key: &str, value: bool) -> Result<(), ConfigError> {
    if value {
        return Ok(());
    }
    Err(ConfigError::new(key, "false", "true"))
}

fn must_be(key: &str, value: &str, supported: &[&str]) -> Result<(), ConfigError> {
    if supported.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("`{value}`"), supported.join(" or ")))
}
