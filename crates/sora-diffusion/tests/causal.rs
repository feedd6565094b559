//! Streaming over a cache computes what one pass under a block-causal mask computes.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, fixtures};
use sora_diffusion::models::transformer_wan::{self, CacheLimits, KvCache, TextContext, block_causal_mask};
use sora_diffusion::models::{AutoencoderKlWan, WanTransformer3DModel};
use sora_diffusion::noise::seeded_noise;
use sora_model::config::{Config, Rotation, TransformerConfig};
use sora_model::weights::WeightFiles;
use tch::{Device, Kind, Tensor};

fn model() -> (WanTransformer3DModel, TextContext) {
    let dir =
        fixtures().join(common::cases("cases.json", "transformer")[0]["model"].as_str().expect("model"));
    let dir = dir.join("transformer");
    let config = TransformerConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    std::mem::forget(files.clone());
    let model = build(&files, transformer_wan::TOLERATED_KEYS, |w| WanTransformer3DModel::new(w, &config));
    let context = model.encode_context(&seeded_noise(3, &[1, 5, config.text_dim]), None);
    (model, context)
}

fn latents(model: &WanTransformer3DModel, frames: i64) -> Tensor {
    let [p_t, p_h, p_w] = model.config().patch_size;
    seeded_noise(4, &[1, model.config().in_channels, frames * p_t, 3 * p_h, 2 * p_w])
}

fn timestep(value: f64) -> Tensor {
    Tensor::from_slice(&[value as f32])
}

/// Velocities block by block, where each block is remembered as it was seen.
fn streamed(
    model: &WanTransformer3DModel,
    context: &TextContext,
    x: &Tensor,
    block: i64,
    limits: CacheLimits,
) -> (Tensor, KvCache) {
    let mut cache = KvCache::new(model, limits);
    let mut out = Vec::new();
    for i in 0..x.size()[2] / block {
        let part = x.narrow(2, i * block, block);
        let t = timestep(100.0 + 50.0 * i as f64);
        out.push(model.forward_block(&part, &t, context, &cache));
        model.remember_block(&part, &t, context, &mut cache);
    }
    (Tensor::cat(&out, 2), cache)
}

#[test]
fn a_stream_with_all_its_past_is_the_masked_clip() {
    let _no_grad = tch::no_grad_guard();
    let (model, context) = model();
    for block in [1, 2, 3] {
        let x = latents(&model, 6);
        let (stream, cache) = streamed(&model, &context, &x, block, CacheLimits { sink: 0, frames: 100 });
        assert_eq!(cache.len(), 6);
        let mask = block_causal_mask(6, 6, block, Device::Cpu);
        let levels = Tensor::arange(6 / block, (Kind::Float, Device::Cpu)) * 50.0 + 100.0;
        let levels = levels.repeat_interleave_self_int(block, Some(0), None).unsqueeze(0);
        let whole = model.forward_masked(&x, &levels, &context, Some(&mask));
        assert_close(&format!("blocks of {block}"), &stream, &whole);
        // And the mask matters: without it the first frames see the last.
        let unmasked = model.forward_masked(&x, &levels, &context, None);
        assert!((unmasked - whole).abs().max().double_value(&[]) > 1e-3);
    }
}

#[test]
fn all_frames_at_once_behind_clean_ones_are_those_of_a_stream() {
    let _no_grad = tch::no_grad_guard();
    let (model, context) = model();
    assert_eq!(model.config().patch_size[0], 1, "the fixture's tokens are of single frames");
    let (clean, noisy) = (latents(&model, 4), latents(&model, 4).flip([2i64]) * 0.7);
    let (still, level) = (timestep(0.0), timestep(600.0));
    let mut cache = KvCache::new(&model, CacheLimits { sink: 0, frames: 100 });
    let mut one_by_one = Vec::new();
    for frame in 0..4 {
        one_by_one.push(model.forward_block(&noisy.narrow(2, frame, 1), &level, &context, &cache));
        model.remember_block(&clean.narrow(2, frame, 1), &still, &context, &mut cache);
    }
    let past = model.clean_frames(&clean, &still, &context);
    let at_once = model.forward_frames(&noisy, &level, &context, &past);
    assert_close("frames behind clean ones", &at_once, &Tensor::cat(&one_by_one, 2));
}

#[test]
fn the_cache_keeps_the_sink_and_the_last_frames() {
    let _no_grad = tch::no_grad_guard();
    let (model, context) = model();
    let x = latents(&model, 9);
    let limits = CacheLimits { sink: 1, frames: 4 };
    let (_, cache) = streamed(&model, &context, &x, 1, limits);
    assert_eq!(cache.len(), 4);
    // A change of the first frame reaches the last one; one of a frame that is forgotten does so only through
    // frames that still remembered it, and in one layer not at all: so compare with a stream of what is kept.
    let last = |x: &Tensor| streamed(&model, &context, x, 1, limits).0.narrow(2, 8, 1);
    let changed = x.copy();
    let _ = changed.narrow(2, 0, 1).fill_(2.0);
    assert!((last(&changed) - last(&x)).abs().max().double_value(&[]) > 1e-4);
}

#[test]
fn decoding_over_the_cache_of_features_goes_on_for_ever() {
    let _no_grad = tch::no_grad_guard();
    let case = common::cases("cases.json", "vae");
    let dir = fixtures().join(case[0]["model"].as_str().expect("model")).join("vae");
    let config = sora_model::config::VaeConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    std::mem::forget(files.clone());
    let vae = build(&files, &[], |w| AutoencoderKlWan::new(w, &config));
    let mut cache = sora_diffusion::models::autoencoder_kl_wan::FeatureCache::new();
    for i in 0..12 {
        let z = seeded_noise(i, &[1, config.z_dim, 1, 2, 2]);
        let frames = vae.decode_chunk(&z, &mut cache).size()[2];
        assert_eq!(frames, if i == 0 { 1 } else { config.temporal_scale_factor() });
    }
}

#[test]
fn positions_are_those_in_the_cache_or_those_in_the_stream() {
    let _no_grad = tch::no_grad_guard();
    let (model, context) = model();
    let x = latents(&model, 12);
    let limits = CacheLimits { sink: 2, frames: 5 };
    let run = |rotation| {
        let mut cache = KvCache::new(&model, limits).with_rotation(rotation, 0);
        let (mut out, mut positions) = (Vec::new(), Vec::new());
        for i in 0..4 {
            let part = x.narrow(2, 3 * i, 3);
            positions.push(cache.next_position());
            out.push(model.forward_block(&part, &timestep(500.0), &context, &cache));
            model.remember_block(&part, &timestep(0.0), &context, &mut cache);
        }
        (out, positions)
    };
    let (relative, positions) = run(Rotation::Relative);
    assert_eq!(positions, [0, 3, 5, 5]);
    let (absolute, positions) = run(Rotation::Absolute);
    assert_eq!(positions, [0, 3, 6, 9]);
    // Until something between the sink and the window is forgotten, only distances count, and they are the same.
    let difference = |i: usize| (&relative[i] - &absolute[i]).abs().max().double_value(&[]);
    assert!(difference(0) < 1e-5 && difference(1) < 1e-5);
    assert!(difference(2) > 1e-4 && difference(3) > 1e-4, "{} {}", difference(2), difference(3));
    // A cache that is filled again from what is kept goes on where the stream is.
    let mut again = KvCache::new(&model, limits).with_rotation(Rotation::Absolute, 7);
    for part in [x.narrow(2, 0, 2), x.narrow(2, 9, 3)] {
        model.remember_block(&part, &timestep(0.0), &context, &mut again);
    }
    assert_eq!(again.next_position(), 12);
}
