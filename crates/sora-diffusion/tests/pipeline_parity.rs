//! Whole runs give the frames that `WanPipeline` of diffusers gives.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;

use common::{cases, fixtures, tensors};
use sora_diffusion::device::DtypeChoice;
use sora_diffusion::pipelines::{GenerationRequest, LoadOptions, Progress, TextToVideoPipeline};
use sora_model::config::SchedulerClass;
use tch::{Kind, Tensor};

/// Absolute tolerance on frames in 0…1, plus the rounding to bytes.
const TOLERANCE: f64 = 1e-3 + 0.5 / 255.0;

fn load(case: &serde_json::Value) -> TextToVideoPipeline {
    let options = LoadOptions {
        transformer_file: case["override"].as_str().map(|file| fixtures().join(file)),
        dtype: DtypeChoice::F32,
        ..LoadOptions::default()
    };
    let dir = fixtures().join(case["model"].as_str().expect("model"));
    TextToVideoPipeline::load(&dir, &options, &mut |_| ControlFlow::Continue(())).expect("a fixture loads")
}

fn request(case: &serde_json::Value, pipeline: &TextToVideoPipeline) -> GenerationRequest {
    let int = |key: &str| case[key].as_i64().unwrap_or_else(|| panic!("cases have `{key}`"));
    let rules = pipeline.dir().size_rules();
    let (width, height) = rules.round_size(int("width"), int("height")).expect("a size the model makes");
    GenerationRequest {
        prompt: case["prompt"].as_str().expect("prompt").into(),
        negative_prompt: case["negative_prompt"].as_str().unwrap_or_default().into(),
        width: width.into(),
        height: height.into(),
        num_frames: rules.round_num_frames(int("num_frames")).expect("a length the model makes").into(),
        num_inference_steps: int("num_inference_steps"),
        guidance_scale: case["guidance_scale"].as_f64().expect("guidance_scale"),
        seed: case["seed"].as_str().expect("seed").parse().expect("a number"),
        scheduler: Some(match case["scheduler"].as_str() {
            Some("unipc") => SchedulerClass::UniPcMultistep,
            _ => SchedulerClass::FlowMatchEulerDiscrete,
        }),
    }
}

fn generate(pipeline: &TextToVideoPipeline, request: &GenerationRequest) -> Tensor {
    let mut data = Vec::new();
    pipeline
        .generate(request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
            data.extend_from_slice(batch.data);
            ControlFlow::Continue(())
        })
        .expect("generation succeeds");
    let shape = [request.num_frames, request.height, request.width, 3];
    Tensor::from_data_size(&data, &shape, Kind::Uint8).to_kind(Kind::Float) / 255.0
}

#[test]
fn matches_diffusers() {
    for case in cases("pipelines.json", "cases") {
        let name = case["name"].as_str().expect("name");
        let pipeline = load(&case);
        let frames = generate(&pipeline, &request(&case, &pipeline));
        let want = tensors(case["file"].as_str().expect("file"))["frames"].to_kind(Kind::Float);
        assert_eq!(frames.size(), want.size(), "{name}");
        let difference = (frames - want).abs().max().double_value(&[]);
        println!("{name}: {difference:.5}");
        assert!(difference < TOLERANCE, "{name}: {difference} away from the reference, allowed {TOLERANCE}");
    }
}

#[test]
fn threads_sharing_a_pipeline_do_not_disturb_each_other() {
    let case = &cases("pipelines.json", "cases")[0];
    let pipeline = load(case);
    let request = request(case, &pipeline);
    let alone = generate(&pipeline, &request);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|i| {
                let mut request = request.clone();
                request.seed += u64::from(i == 1);
                let pipeline = &pipeline;
                scope.spawn(move || generate(pipeline, &request))
            })
            .collect();
        let runs: Vec<Tensor> = runs.into_iter().map(|run| run.join().expect("no panic")).collect();
        assert_eq!(runs[0], alone);
        assert_ne!(runs[1], alone);
        assert_eq!(runs[2], alone);
    });
}

#[test]
fn every_report_can_cancel() {
    let case = &cases("pipelines.json", "cases")[0];
    let pipeline = load(case);
    let request = request(case, &pipeline);
    let mut reports = 0;
    let mut count = |_: Progress| {
        reports += 1;
        ControlFlow::Continue(())
    };
    pipeline.generate(&request, &mut count, &mut |_| ControlFlow::Continue(())).expect("not cancelled");
    assert!(reports >= request.num_inference_steps as usize + 3, "only {reports} reports");
    for stop_at in 1..=reports {
        let mut seen = 0;
        let mut stop = |_: Progress| {
            seen += 1;
            if seen == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = pipeline.generate(&request, &mut stop, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(result, Err(sora_diffusion::DiffusionError::Cancelled)), "{result:?} at {stop_at}");
        assert_eq!(seen, stop_at, "nothing is reported after the caller broke off");
    }
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    let case = &cases("pipelines.json", "cases")[0];
    let pipeline = load(case);
    let good = request(case, &pipeline);
    let refused = |change: &dyn Fn(&mut GenerationRequest), words: &[&str]| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = pipeline
            .generate(&bad, &mut |_| ControlFlow::Continue(()), &mut |_| ControlFlow::Continue(()))
            .expect_err("out of bounds")
            .to_string();
        for word in words {
            assert!(error.contains(word), "`{error}` does not mention {word}");
        }
    };
    refused(&|r| r.guidance_scale = f64::NAN, &["guidance_scale", "NaN", "finite"]);
    refused(&|r| r.num_inference_steps = 0, &["num_inference_steps", "0", "1 to 1000"]);
    refused(&|r| r.num_frames = 2, &["frames", "2"]);
    refused(&|r| r.num_frames = 0, &["frames", "0"]);
    refused(&|r| r.width = 17, &["17"]);
    refused(&|r| r.width = 100_000, &["100000"]);
}

#[test]
fn without_a_gpu_cuda_is_an_error_that_names_it() {
    let options =
        LoadOptions { device: sora_diffusion::device::DeviceChoice::Cuda(99), ..LoadOptions::default() };
    let error = TextToVideoPipeline::load(&fixtures().join("tiny-wan21"), &options, &mut |_| {
        ControlFlow::Continue(())
    })
    .err()
    .expect("no machine has 100 GPUs")
    .to_string();
    assert!(error.contains("cuda:99"), "{error}");
}
