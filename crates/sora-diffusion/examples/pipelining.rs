//! Does it pay to decode a block beside the denoising of the next? `pipelining MODEL_DIRECTORY [BLOCKS] [f32|bf16]`, on the
//! CPU at the model's own size.
//!
//! The same work three ways, in turns: one thing after the other with one thread inside operations and with two, and
//! denoising and decoding on a thread of their own each, with one inside operations.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use sora_diffusion::models::autoencoder_kl_wan::FeatureCache;
use sora_diffusion::models::transformer_wan::{self, CacheLimits, KvCache, TextContext};
use sora_diffusion::models::{AutoencoderKlWan, WanTransformer3DModel};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::weights::{FileWeights, Layout, Weights};
use sora_model::ModelDir;
use sora_model::weights::WeightFiles;
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 5;
/// Blocks before the caches are full.
const WARM: u64 = 8;

fn build<T>(
    files: &WeightFiles,
    kind: Kind,
    keep_in_f32: &[&str],
    make: impl FnOnce(&Weights) -> sora_diffusion::Result<T>,
) -> sora_diffusion::Result<T> {
    let mut on_bytes = |_| ControlFlow::Continue(());
    let layout = Layout { device: Device::Cpu, kind, keep_in_f32, streamed: false };
    make(&Weights::new(Rc::new(FileWeights::new("model", files, layout, &mut on_bytes))))
}

struct Denoiser {
    model: WanTransformer3DModel,
    context: TextContext,
    cache: KvCache,
    shape: [i64; 5],
    steps: i64,
}

impl Denoiser {
    fn block(&mut self, number: u64) -> Tensor {
        let timestep = |value: f32| Tensor::from_slice(&[value]);
        let mut latents = seeded_noise(number, &self.shape);
        for step in 0..self.steps {
            let noise = timestep(1000.0 * (1.0 - step as f32 / self.steps as f32));
            let velocity = self.model.forward_block(&latents, &noise, &self.context, &self.cache);
            latents -= velocity.to_kind(Kind::Float) / self.steps as f64;
        }
        self.model.remember_block(&latents, &timestep(0.0), &self.context, &mut self.cache);
        latents
    }
}

struct Decoder {
    model: AutoencoderKlWan,
    cache: FeatureCache,
    kind: Kind,
}

impl Decoder {
    fn block(&mut self, latents: &Tensor) {
        let z = self.model.denormalize_latents(&latents.to_kind(self.kind));
        let video = self.model.decode_chunk(&z, &mut self.cache);
        drop(std::hint::black_box(video.to_kind(Kind::Uint8)));
    }
}

fn one_after_the_other(denoiser: &mut Denoiser, decoder: &mut Decoder, blocks: u64, threads: i32) -> f64 {
    tch::set_num_threads(threads);
    let began = Instant::now();
    for number in 0..blocks {
        decoder.block(&denoiser.block(number));
    }
    began.elapsed().as_secs_f64() * 1e3 / blocks as f64
}

fn side_by_side(denoiser: &mut Denoiser, decoder: &mut Decoder, blocks: u64) -> f64 {
    let (sender, receiver) = sync_channel::<Tensor>(1);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _no_grad = tch::no_grad_guard();
            tch::set_num_threads(1);
            for number in 0..blocks {
                // The other side is there as long as this one sends.
                let _ = sender.send(denoiser.block(number));
            }
        });
        tch::set_num_threads(1);
        for latents in receiver {
            decoder.block(&latents);
        }
    });
    began.elapsed().as_secs_f64() * 1e3 / blocks as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: pipelining MODEL_DIRECTORY [BLOCKS] [f32|bf16]";
    let mut arguments = std::env::args().skip(1);
    let dir = ModelDir::open(arguments.next().ok_or(usage)?.as_ref())?;
    let blocks: u64 = arguments.next().map_or(Ok(30), |count| count.parse())?;
    let kind = match arguments.next().as_deref() {
        None | Some("f32") => Kind::Float,
        Some("bf16") => Kind::BFloat16,
        Some(_) => return Err(usage.into()),
    };
    let _no_grad = tch::no_grad_guard();
    let (native, causal, vae) = (dir.native(), dir.causal(), dir.vae());
    let model =
        build(dir.transformer_weights(), kind, transformer_wan::keep_in_f32(causal.numerics), |weights| {
            WanTransformer3DModel::with_numerics(weights, dir.transformer(), causal.numerics)
        })?;
    let context =
        model.encode_context(&seeded_noise(1, &[1, 12, dir.transformer().text_dim]).to_kind(kind), None);
    let frames = causal.context(dir.size_rules().num_latent_frames(native.num_frames).into()).max(1);
    let cache = KvCache::new(&model, CacheLimits { sink: causal.sink_size.min(frames), frames });
    let scale = vae.spatial_scale_factor();
    let (height, width) = (i64::from(native.height) / scale, i64::from(native.width) / scale);
    let shape = [1, dir.transformer().in_channels, causal.num_frame_per_block, height, width];
    let steps = native.num_inference_steps.into();
    let mut denoiser = Denoiser { model, context, cache, shape, steps };
    let model = build(dir.vae_weights(), kind, &[], |weights| AutoencoderKlWan::new(weights, vae))?;
    let mut decoder = Decoder { model, cache: FeatureCache::new(), kind };

    one_after_the_other(&mut denoiser, &mut decoder, WARM, 1);
    println!("ms a block, {blocks} blocks a figure, {kind:?}");
    println!(
        "| round | one after the other, 1 thread | 2 threads | side by side, 1 thread each |\n|---|---|---|---|"
    );
    for round in 1..=ROUNDS {
        let one = one_after_the_other(&mut denoiser, &mut decoder, blocks, 1);
        let two = one_after_the_other(&mut denoiser, &mut decoder, blocks, 2);
        let beside = side_by_side(&mut denoiser, &mut decoder, blocks);
        println!("| {round} | {one:.1} | {two:.1} | {beside:.1} |");
    }
    Ok(())
}
