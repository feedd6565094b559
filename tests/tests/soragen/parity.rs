//! The element's frames against those of Python diffusers.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sora_tests::{fixtures, play};

/// Design: frames within 1e-3 in [0,1]; half a step for the rounding to bytes.
const TOLERANCE: f32 = 1e-3 + 0.5 / 255.0;

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// `[T, H, W, 3]` and its numbers.
fn reference(case: &Value) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(fixtures().join(text(case, "file"))).expect("the fixture is there");
    let file = SafeTensors::deserialize(&bytes).expect("the fixture is valid");
    let frames = file.tensor("frames").expect("the fixture has frames");
    assert_eq!(frames.dtype(), Dtype::F32);
    let numbers = frames.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (frames.shape().to_vec(), numbers.collect())
}

/// The frames that the element makes of a case, end to end.
fn made(case: &Value, height: usize, width: usize) -> Vec<u8> {
    let mut playing = play(&format!(
        "soragen name=src device=cpu dtype=f32 seed={} num-frames={} num-inference-steps={} \
         guidance-scale={} scheduler={} ! video/x-raw,format=RGB,width={width},height={height} ! \
         appsink name=sink sync=false",
        text(case, "seed"),
        case["num_frames"],
        case["num_inference_steps"],
        case["guidance_scale"],
        if text(case, "scheduler") == "euler" { "flow-match-euler" } else { "unipc" },
    ));
    use gst::prelude::*;
    let src = playing.src();
    src.set_property("model-path", fixtures().join(text(case, "model")).to_str());
    src.set_property("prompt", text(case, "prompt"));
    src.set_property("negative-prompt", text(case, "negative_prompt"));
    if let Some(file) = case["override"].as_str() {
        src.set_property("transformer-file", fixtures().join(file).to_str());
    }
    playing.pipeline.set_state(gst::State::Playing).expect("it starts");
    playing.wait_for_end();
    let report = playing.stop();
    report.assert_clean();
    report.frames().concat()
}

#[test]
fn frames_are_those_of_diffusers() {
    let cases = fs::read(fixtures().join("pipelines.json")).expect("the fixtures are there");
    let cases: Value = serde_json::from_slice(&cases).expect("the list is valid");
    let cases = cases["cases"].as_array().expect("a list of cases");
    assert!(cases.len() > 20, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (shape, expected) = reference(case);
        let ours = made(case, shape[1], shape[2]);
        assert_eq!(ours.len(), expected.len(), "{}: number of frames", case["name"]);
        let differences = ours.iter().zip(&expected).map(|(a, b)| (f32::from(*a) / 255.0 - b).abs());
        let worst = differences.fold(0.0, f32::max);
        println!("{}: largest difference {worst:.5}", case["name"]);
        if worst > TOLERANCE {
            wrong.push(format!("{}: {worst}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "more than {TOLERANCE} away from the reference: {wrong:?}");
}
