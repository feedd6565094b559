//! What the parts of a stream's block cost: `block_shares MODEL_DIRECTORY [BLOCKS]`, on the CPU at the model's own size.
//!
//! Beside the model's own decoder, tiny ones (TAEHV) with random weights of several widths decode the same latents: it
//! says how fast one would be, not how it would look.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sora_diffusion::device::DeviceChoice;
use sora_diffusion::models::autoencoder_kl_wan::FeatureCache;
use sora_diffusion::models::taehv::FrameMemory;
use sora_diffusion::models::{AutoencoderKlWan, Taehv};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::pipelines::{BlockRequest, LoadOptions, Progress, StreamOptions, TextToVideoPipeline};
use sora_diffusion::weights::{FileWeights, Layout, WeightSource, Weights};
use sora_model::config::TinyVaeConfig;
use tch::{Device, Kind, Tensor};

/// Blocks before the caches are full, which are not counted.
const WARM: usize = 8;

/// Small random numbers of any shape.
struct Random;

impl WeightSource for Random {
    fn tensor(&self, _name: &str, shape: &[i64]) -> sora_diffusion::Result<Tensor> {
        let fan_in: i64 = shape.iter().skip(1).product();
        Ok(seeded_noise(1, shape) / (fan_in.max(1) as f64).sqrt())
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn timed(count: usize, mut run: impl FnMut(u64)) -> f64 {
    let one = |i: usize| {
        let began = Instant::now();
        run(i as u64);
        began.elapsed()
    };
    median((0..WARM + count).map(one).skip(WARM).collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: block_shares MODEL_DIRECTORY [BLOCKS]")?;
    let count: usize = arguments.next().map_or(Ok(30), |count| count.parse())?;
    let _no_grad = tch::no_grad_guard();
    let mut quiet = |_| ControlFlow::Continue(());
    let options = LoadOptions { device: DeviceChoice::Cpu, ..LoadOptions::default() };
    let pipeline = TextToVideoPipeline::load(Path::new(&directory), &options, &mut quiet)?;
    let (dir, native) = (pipeline.dir(), pipeline.dir().native());
    let (width, height) = (i64::from(native.width), i64::from(native.height));

    let mut stream = pipeline.open_stream(&StreamOptions { width, height, seed: 1, memory: None })?;
    let request = BlockRequest {
        prompt: "a red ball bounces on the grass",
        keep_past: true,
        fade: None,
        negative_prompt: "",
        guidance_scale: native.guidance_scale,
        num_inference_steps: native.num_inference_steps.into(),
        source: None,
    };
    let mut denoising = Vec::new();
    let block = timed(count, |_| {
        let began = Instant::now();
        let mut told = |progress| {
            if let Progress::Step { step, of } = progress
                && step == of
            {
                denoising.push(began.elapsed());
            }
            ControlFlow::Continue(())
        };
        let made = pipeline.next_block(&mut stream, &request, &mut told, &mut |_| ControlFlow::Continue(()));
        made.expect("a block");
    });
    let denoising = median(denoising.split_off(WARM));

    let latent = dir.causal().num_frame_per_block;
    let vae = dir.vae();
    let scale = vae.spatial_scale_factor();
    let latents = |i| seeded_noise(i, &[1, vae.z_dim, latent, height / scale, width / scale]);
    let mut on_bytes = |_| ControlFlow::Continue(());
    let layout = Layout { device: Device::Cpu, kind: Kind::Float, keep_in_f32: &[], streamed: false };
    let source = Rc::new(FileWeights::new("vae", dir.vae_weights(), layout, &mut on_bytes));
    let own = AutoencoderKlWan::new(&Weights::new(source), vae)?;
    let mut cache = FeatureCache::new();
    let decoding = timed(count, |i| drop(own.decode_chunk(&latents(i), &mut cache)));
    let frames = latent * vae.temporal_scale_factor();
    let video = Tensor::zeros([1, 3, frames, height, width], (Kind::Float, Device::Cpu));
    let mut cache = FeatureCache::new();
    drop(own.encode_chunk(&video.narrow(2, 0, 1), &mut cache));
    let encoding = timed(count, |_| drop(own.encode_chunk(&video, &mut cache)));

    println!("{width}x{height}, {frames} frames a block, median of {count} blocks, in ms");
    println!("| part | ms | share of a block |\n|---|---|---|");
    let row = |what: &str, ms: f64| println!("| {what} | {ms:.1} | {:.0} % |", ms / block * 100.0);
    row("whole block", block);
    row("denoising", denoising);
    row("remembering", block - denoising - decoding);
    row("decoding", decoding);
    row("(encoding, of soratransform)", encoding);
    let patch_size = if scale == 16 { 2 } else { 1 };
    for decoder_dims in [[256, 128, 64, 64], [64, 32, 16, 16], [32, 16, 8, 8]] {
        let config = TinyVaeConfig {
            latent_channels: vae.z_dim,
            patch_size,
            encoder_dim: 16,
            decoder_dims,
            stored_growth: TinyVaeConfig::TIME_GROWTH,
        };
        let tiny = Taehv::new(&Weights::new(Rc::new(Random)), &config)?;
        let mut memory = FrameMemory::new();
        let time = timed(count, |i| drop(tiny.decode_chunk(&latents(i), &mut memory)));
        row(&format!("tiny decoder of {decoder_dims:?} instead"), time);
    }
    Ok(())
}
