//! The tiny VAE computes what TAEHV computes, at once and chunk by chunk.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, cases, fixtures, tensors};
use sora_diffusion::models::Taehv;
use sora_diffusion::models::taehv::FrameMemory;
use sora_diffusion::noise::seeded_noise;
use sora_model::config::TinyVaeConfig;
use sora_model::weights::WeightFiles;
use tch::Tensor;

fn model(name: &str) -> Taehv {
    let path = fixtures().join(format!("taehv/{name}.safetensors"));
    let files = WeightFiles::open_file(&path).expect("weights");
    let config = TinyVaeConfig::of(&files, &path).expect("a TAEHV");
    std::mem::forget(files.clone());
    build(&files, &[], |weights| Taehv::new(weights, &config))
}

fn shape(case: &serde_json::Value, key: &str) -> Vec<i64> {
    case[key].as_array().expect("a shape").iter().map(|size| size.as_i64().expect("a size")).collect()
}

/// B T C H W → B C T H W
fn channels_first(x: &Tensor) -> Tensor {
    x.transpose(1, 2)
}

/// In chunks of these lengths along T.
fn in_chunks(x: &Tensor, lengths: &[i64], mut code: impl FnMut(&Tensor) -> Tensor) -> Tensor {
    let (mut start, mut parts) = (0, Vec::new());
    for length in lengths {
        parts.push(code(&x.narrow(2, start, *length)));
        start += length;
    }
    assert_eq!(start, x.size()[2]);
    Tensor::cat(&parts, 2)
}

#[test]
fn decoding_is_that_of_taehv_in_chunks_of_any_size() {
    let _no_grad = tch::no_grad_guard();
    for case in cases("taehv/cases.json", "cases") {
        let name = case["name"].as_str().expect("name");
        let model = model(name);
        let latents = channels_first(&seeded_noise(21, &shape(&case, "latents")));
        let wanted =
            channels_first(&tensors(&format!("taehv/{name}-case.safetensors"))["pixels"]) * 2.0 - 1.0;
        for lengths in [&[4][..], &[1, 1, 1, 1], &[3, 1], &[1, 3]] {
            let mut memory = FrameMemory::new();
            let video = in_chunks(&latents, lengths, |z| model.decode_chunk(z, &mut memory));
            assert_eq!(video.size()[2], 13);
            let every_second = video.slice(3, None, None, 2).slice(4, None, None, 2);
            assert_close(&format!("{name} decoded in {lengths:?}"), &every_second, &wanted);
        }
    }
}

#[test]
fn encoding_is_that_of_taehv_in_chunks_of_any_size() {
    let _no_grad = tch::no_grad_guard();
    for case in cases("taehv/cases.json", "cases") {
        let name = case["name"].as_str().expect("name");
        let model = model(name);
        let video = channels_first(&seeded_noise(22, &shape(&case, "video")).sigmoid()) * 2.0 - 1.0;
        let wanted = channels_first(&tensors(&format!("taehv/{name}-case.safetensors"))["encoded"]);
        for lengths in [&[12][..], &[4, 4, 4], &[8, 4]] {
            let mut memory = FrameMemory::new();
            let latents = in_chunks(&video, lengths, |x| model.encode_chunk(x, &mut memory));
            assert_close(&format!("{name} encoded in {lengths:?}"), &latents, &wanted);
        }
    }
}

#[test]
fn a_file_of_something_else_is_refused_by_the_tensor_that_tells() {
    let path = fixtures().join("tiny-original/other.safetensors");
    let files = WeightFiles::open_file(&path).expect("weights");
    let error = TinyVaeConfig::of(&files, &path).expect_err("a transformer").to_string();
    assert!(error.contains("encoder.0.weight") && error.contains("not a TAEHV"), "{error}");
}
