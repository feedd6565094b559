//! The schedulers compute what those of diffusers compute.
#![allow(missing_docs)]

mod common;

use common::{assert_close, cases, tensors};
use sora_diffusion::schedulers::{self, Scheduler};
use sora_model::config::SchedulerConfig;
use tch::{Kind, Tensor};

fn scheduler(kind: &str, shift: f64) -> Box<dyn Scheduler + Send> {
    let config = match kind {
        "unipc" => SchedulerConfig::unipc(shift),
        "euler" => SchedulerConfig::flow_match_euler(shift),
        other => panic!("a case for the scheduler {other}"),
    };
    schedulers::from_config(&config).expect("supported")
}

/// Name, config, number of steps, and what diffusers 0.42.1 with torch 2.11.0 makes of it.
const SETTINGS: [(&str, &str, usize, [f32; 4]); 12] = [
    (
        "third order",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "solver_order": 3}"#,
        7,
        [0.2786125, -0.690201, -0.2240265, 1.0525639],
    ),
    (
        "first order",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "solver_order": 1}"#,
        5,
        [0.36823, -0.5550895, -0.1080233, 1.09656],
    ),
    (
        "bh1 to sigma_min",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}"#,
        6,
        [0.5715617, -0.5676927, -0.0098811, 1.4150784],
    ),
    (
        "corrector off at first",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "disable_corrector": [0, 1]}"#,
        6,
        [0.3216656, -0.627151, -0.169033, 1.0732908],
    ),
    (
        "order not lowered",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "lower_order_final": false, "final_sigmas_type": "sigma_min"}"#,
        5,
        [0.6484491, -0.503624, 0.0636916, 1.486374],
    ),
    (
        "shift below one",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 0.5}"#,
        5,
        [0.4670224, -0.4637486, -0.0069464, 1.1667632],
    ),
    (
        "unipc to a terminal",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "shift_terminal": 0.1}"#,
        5,
        [0.4018915, -0.5550404, -0.0877435, 1.1270578],
    ),
    (
        "fewer training timesteps",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0, "num_train_timesteps": 500}"#,
        4,
        [0.405762, -0.5036386, -0.0619876, 1.117865],
    ),
    (
        "one step",
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0}"#,
        1,
        [0.5205749, -0.2525963, 0.1253254, 1.1585299],
    ),
    (
        "euler to a terminal",
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "shift_terminal": 0.1}"#,
        5,
        [0.4085455, -0.5010177, -0.0589157, 1.1198549],
    ),
    (
        "euler with fewer training timesteps",
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0.7, "num_train_timesteps": 300}"#,
        4,
        [0.5152713, -0.3699673, 0.0652836, 1.1882141],
    ),
    (
        "euler in one step",
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5.0}"#,
        1,
        [0.5205745, -0.252596, 0.1253253, 1.158529],
    ),
];

#[test]
fn match_diffusers() {
    for case in cases("cases.json", "scheduler") {
        let t = tensors(case["file"].as_str().expect("file"));
        let kind = case["scheduler"].as_str().expect("scheduler");
        let mut scheduler = scheduler(kind, case["shift"].as_f64().expect("shift"));
        // One scheduler for every number of steps: a new run must forget the last one.
        for steps in case["steps"].as_array().expect("steps") {
            let steps = steps.as_i64().expect("a number");
            let name = format!("{} n{steps}", case["name"]);
            scheduler.set_timesteps(steps as usize).expect("in range");
            let of = |what: &str| &t[&format!("n{steps}/{what}")];
            let timesteps = Vec::<f64>::try_from(of("timesteps").to_kind(Kind::Double)).expect("1-D");
            assert_eq!(scheduler.timesteps(), timesteps, "{name}");
            let sigmas = Vec::<f32>::try_from(of("sigmas")).expect("1-D");
            assert_eq!(scheduler.sigmas(), sigmas, "{name}");
            let mut sample = t["initial_sample"].shallow_clone();
            for step in 0..steps {
                sample = scheduler.step(&of("model_outputs").get(step), &sample).expect("a step is left");
                assert_close(&format!("{name} step {step}"), &sample, &of("samples").get(step));
            }
            let after_the_end = scheduler.step(&sample, &sample);
            assert!(after_the_end.is_err(), "{name}: the schedule is over");
        }
    }
}

#[test]
fn settings_beyond_the_defaults_match_diffusers() {
    // Made like the fixtures, with one key of the config changed; see the values' names.
    for (name, config, steps, want) in SETTINGS {
        let config: SchedulerConfig = serde_json::from_str(config).expect("JSON");
        let mut scheduler = schedulers::from_config(&config).expect("supported");
        scheduler.set_timesteps(steps).expect("in range");
        let mut sample = Tensor::from_slice(&[1f32, -0.5, 0.25, 2.0]).view([1, 4]);
        for step in 0..steps {
            // A velocity that anyone can write down: it depends on the step and on the sample.
            let velocity = (&sample * 0.5 + step as f64 * 0.1).sin();
            sample = scheduler.step(&velocity, &sample).expect("a step is left");
        }
        assert_close(name, &sample, &Tensor::from_slice(&want).view([1, 4]));
    }
}

#[test]
fn impossible_numbers_of_steps_are_refused() {
    for kind in ["unipc", "euler"] {
        let mut scheduler = scheduler(kind, 3.0);
        for steps in [0, 1001, usize::MAX] {
            let message = scheduler.set_timesteps(steps).expect_err("out of range").to_string();
            assert!(message.contains(&format!("num_inference_steps is {steps}")), "{message}");
            assert!(message.contains("1 to 1000"), "{message}");
        }
        scheduler.set_timesteps(1000).expect("every training timestep");
    }
}

#[test]
fn noise_is_added_along_the_flow() {
    let mut scheduler = scheduler("unipc", 3.0);
    scheduler.set_timesteps(4).expect("in range");
    let data = Tensor::from_slice(&[2f32, -1.0]).view([1, 2]);
    let noise = Tensor::from_slice(&[0f32, 4.0]).view([1, 2]);
    let index = 2;
    let sigma = f64::from(scheduler.sigmas()[index]);
    let noisy = scheduler.add_noise(&data, &noise, index).expect("there is a step 2");
    assert_close("noisy", &noisy, &(&data * (1.0 - sigma) + &noise * sigma));
    assert!(scheduler.add_noise(&data, &noise, 9).is_err());
    // The model would say `noise - data` there; one straight step to the end gives the data back.
    let mut euler = schedulers::from_config(&SchedulerConfig::flow_match_euler(3.0)).expect("supported");
    euler.set_timesteps(4).expect("in range");
    let mut sample = euler.add_noise(&data, &noise, index).expect("there is a step 2");
    euler.set_begin_index(index);
    for _ in index..4 {
        sample = euler.step(&(&noise - &data), &sample).expect("a step is left");
    }
    assert_close("data", &sample, &data);
}
