//! The VAE computes what `AutoencoderKLWan` of diffusers computes, in chunks of any size.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, cases, fixtures, tensors};
use sora_diffusion::models::AutoencoderKlWan;
use sora_diffusion::models::autoencoder_kl_wan::FeatureCache;
use sora_model::config::{Config, VaeConfig};
use sora_model::weights::WeightFiles;
use tch::Tensor;

fn model(name: &str) -> AutoencoderKlWan {
    let dir = fixtures().join(name).join("vae");
    let config = VaeConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    // Views of the mapped file must outlive the model; a test process can keep the map for ever.
    std::mem::forget(files.clone());
    build(&files, &[], |w| AutoencoderKlWan::new(w, &config))
}

fn str_of<'a>(case: &'a serde_json::Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("cases have `{key}`"))
}

#[test]
fn matches_diffusers() {
    let _no_grad = tch::no_grad_guard();
    let mut operations = std::collections::BTreeSet::new();
    for case in cases("cases.json", "vae") {
        let vae = model(str_of(&case, "model"));
        let t = tensors(str_of(&case, "file"));
        let (name, operation) = (str_of(&case, "name"), str_of(&case, "operation"));
        operations.insert(operation.to_owned());
        if operation == "encode" {
            let posterior = vae.encode(&t["pixels"]);
            assert_close(&format!("{name} mode"), &posterior.mode(), &t["mode"]);
            let moments = Tensor::cat(&[&posterior.mean, &posterior.logvar], 1);
            let half = t["moments"].size()[1] / 2;
            let clamped = Tensor::cat(
                &[t["moments"].narrow(1, 0, half), t["moments"].narrow(1, half, half).clamp(-30.0, 20.0)],
                1,
            );
            assert_close(&format!("{name} moments"), &moments, &clamped);
        } else {
            assert_close(name, &vae.decode(&t["latents"]), &t["pixels"]);
        }
    }
    assert_eq!(operations.len(), 2, "both encode and decode were tested");
}

/// Splits `total` into `first`, then `rest` at a time.
fn chunks(total: i64, first: i64, rest: i64) -> Vec<(i64, i64)> {
    let mut out = vec![(0, first)];
    let mut at = first;
    while at < total {
        let len = rest.min(total - at);
        out.push((at, len));
        at += len;
    }
    out
}

#[test]
fn chunks_of_any_size_are_the_whole_clip() {
    let _no_grad = tch::no_grad_guard();
    for name in ["tiny-wan21", "tiny-wan22"] {
        let vae = model(name);
        let config = vae.config().clone();
        let options = (tch::Kind::Float, tch::Device::Cpu);
        let (t, s) = (config.temporal_scale_factor(), config.spatial_scale_factor());
        let video = Tensor::rand([2, 3, 1 + 4 * t, 2 * s, 3 * s], options) * 2.0 - 1.0;
        let whole = vae.encode(&video);
        for (first, rest) in [(1, t), (1 + t, t), (1, 2 * t), (1 + 2 * t, 2 * t)] {
            let mut cache = FeatureCache::new();
            let parts: Vec<Tensor> = chunks(1 + 4 * t, first, rest)
                .into_iter()
                .map(|(at, len)| vae.encode_chunk(&video.narrow(2, at, len), &mut cache).mode())
                .collect();
            assert_close(&format!("{name} encode {first}+{rest}"), &Tensor::cat(&parts, 2), &whole.mode());
        }
        let latents = Tensor::randn([2, config.z_dim, 5, 2, 3], options);
        let whole = vae.decode(&latents);
        assert_eq!(whole.size(), [2, 3, 1 + 4 * t, 2 * s, 3 * s]);
        for (first, rest) in [(1, 1), (2, 1), (1, 3), (3, 2)] {
            let mut cache = FeatureCache::new();
            let parts: Vec<Tensor> = chunks(5, first, rest)
                .into_iter()
                .map(|(at, len)| vae.decode_chunk(&latents.narrow(2, at, len), &mut cache))
                .collect();
            assert_close(&format!("{name} decode {first}+{rest}"), &Tensor::cat(&parts, 2), &whole);
        }
        // What the cache is for: a fresh one at a chunk border is visible.
        let cut = vae.decode(&latents.narrow(2, 2, 3));
        let joint = whole.narrow(2, 1 + 4 + 1, 1);
        assert!(common::relative_difference(&cut.narrow(2, 1, 1), &joint) > 1e-3, "{name}: the past matters");
    }
}

#[test]
fn normalized_latents_come_back() {
    let vae = model("tiny-wan21");
    let z = Tensor::randn([1, vae.config().z_dim, 2, 3, 4], (tch::Kind::Float, tch::Device::Cpu));
    let normalized = vae.normalize_latents(&z);
    assert!(common::relative_difference(&normalized, &z) > 1e-2, "the statistics do something");
    assert_close("round trip", &vae.denormalize_latents(&normalized), &z);
}
