//! The transformer computes what `WanTransformer3DModel` of diffusers computes.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, cases, fixtures, tensors};
use sora_diffusion::models::{WanTransformer3DModel, transformer_wan};
use sora_model::config::{Config, TransformerConfig};
use sora_model::weights::WeightFiles;
use tch::Tensor;

fn model(case: &serde_json::Value) -> WanTransformer3DModel {
    let dir = fixtures()
        .join(case["model"].as_str().expect("model"))
        .join(case["component"].as_str().expect("component"));
    let config = TransformerConfig::open(&dir.join("config.json")).expect("config");
    let files = match case["override"].as_str() {
        Some(file) => WeightFiles::open_file(&fixtures().join(file))
            .and_then(|files| files.renamed(sora_model::keys::original_to_diffusers))
            .expect("original keys"),
        None => WeightFiles::open(&dir).expect("weights"),
    };
    // Views of the mapped file must outlive the model; a test process can keep the map for ever.
    std::mem::forget(files.clone());
    build(&files, transformer_wan::TOLERATED_KEYS, |w| WanTransformer3DModel::new(w, &config))
}

#[test]
fn matches_diffusers() {
    let _no_grad = tch::no_grad_guard();
    for case in cases("cases.json", "transformer") {
        let t = tensors(case["file"].as_str().expect("file"));
        let model = model(&case);
        let context = model.encode_context(&t["encoder_hidden_states"], None);
        let sample = model.forward(&t["hidden_states"], &t["timestep"], &context);
        assert_close(case["name"].as_str().expect("name"), &sample, &t["sample"]);
    }
}

#[test]
fn a_timestep_per_frame_is_a_timestep_per_token() {
    let _no_grad = tch::no_grad_guard();
    let case = cases("cases.json", "transformer")
        .into_iter()
        .find(|case| {
            let t = tensors(case["file"].as_str().expect("file"));
            t["hidden_states"].size()[2] >= 3 && t["hidden_states"].size()[0] == 1
        })
        .expect("a case of three frames");
    let t = tensors(case["file"].as_str().expect("file"));
    let model = model(&case);
    let context = model.encode_context(&t["encoder_hidden_states"], None);
    let x = &t["hidden_states"];
    let frames = x.size()[2];
    let patch = model.config().patch_size;
    let tokens_per_frame = x.size()[3] / patch[1] * (x.size()[4] / patch[2]);
    let per_frame = Tensor::linspace(0.0, 900.0, frames, (tch::Kind::Float, tch::Device::Cpu)).unsqueeze(0);
    let per_token = per_frame.repeat_interleave_self_int(tokens_per_frame, Some(1), None);
    let a = model.forward(x, &per_frame, &context);
    let b = model.forward(x, &per_token, &context);
    assert_close("per frame against per token", &a, &b);
    let c = model.forward(x, &Tensor::from_slice(&[450f32]), &context);
    assert!(common::relative_difference(&c, &a) > 1e-3, "timesteps make a difference");
}

#[test]
fn padding_may_be_one_position_with_a_weight() {
    let _no_grad = tch::no_grad_guard();
    let case = &cases("cases.json", "transformer")[0];
    let t = tensors(case["file"].as_str().expect("file"));
    let model = model(case);
    let dim = model.config().text_dim;
    let real = Tensor::randn([1, 7, dim], (tch::Kind::Float, tch::Device::Cpu));
    let zeros = |n: i64| Tensor::zeros([1, n, dim], (tch::Kind::Float, tch::Device::Cpu));
    let padded = Tensor::cat(&[&real, &zeros(505)], 1);
    let x = t["hidden_states"].narrow(0, 0, 1);
    let timestep = Tensor::from_slice(&[321f32]);
    let all = model.forward(&x, &timestep, &model.encode_context(&padded, None));
    let weights = Tensor::from_slice(&[1f32, 1., 1., 1., 1., 1., 1., 505.]).unsqueeze(0);
    let short = Tensor::cat(&[&real, &zeros(1)], 1);
    let one = model.forward(&x, &timestep, &model.encode_context(&short, Some(&weights)));
    assert_close("505 paddings against one with weight 505", &one, &all);
}
