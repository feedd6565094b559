//! What the parts of a model cost: `parts REQUEST.json`, with random weights of the sizes that the request names. Prints one
//! JSON object; `scripts/reference/parts.py` measures the same of diffusers. `scripts/bench` makes the requests.
//!
//! The request has `transformer`, `vae` and `text_encoder`, configs as in a diffusers directory, and:
//!
//! | key | what |
//! |---|---|
//! | `device` | `cpu` or `cuda:N` |
//! | `dtype`, `vae_dtype` | `f32`, `bf16` or `f16` |
//! | `width`, `height`, `frames` | of the clip, pixels and frames of video |
//! | `prompt_tokens` | length of a prompt, tokens |
//! | `block`, `window`, `steps` | latent frames of a streaming block, latent frames that it remembers, denoising steps |
//! | `repeats` | runs of each part that count; as many as needed before are not counted |
//! | `parts` | any of `text`, `forward`, `streamed`, `fp8`, `block`, `encode`, `decode`, `tiny`, `ahead`, `ahead_tiny` |

use std::error::Error;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sora_diffusion::models::autoencoder_kl_wan::FeatureCache;
use sora_diffusion::models::taehv::FrameMemory;
use sora_diffusion::models::transformer_wan::{CacheLimits, KvCache, TextContext, keep_in_f32};
use sora_diffusion::models::{AutoencoderKlWan, Taehv, Umt5EncoderModel, WanTransformer3DModel};
use sora_diffusion::nn::Fp8Weights;
use sora_diffusion::side_stream::{Reached, SideStream};
use sora_diffusion::weights::{WeightSource, Weights};
use sora_model::config::{Numerics, TextEncoderConfig, TinyVaeConfig, TransformerConfig, VaeConfig};
use tch::{Cuda, Device, Kind, Tensor};

/// Widths of the published tiny decoders' levels.
const TINY_DECODER: [i64; 4] = [256, 128, 64, 64];
/// Runs before those that count.
const WARM: usize = 2;
/// Blocks of a stream in a run that is about several.
const BLOCKS: usize = 6;

#[derive(Deserialize)]
struct Request {
    transformer: TransformerConfig,
    vae: VaeConfig,
    text_encoder: TextEncoderConfig,
    device: String,
    dtype: String,
    vae_dtype: String,
    width: i64,
    height: i64,
    frames: i64,
    prompt_tokens: i64,
    block: i64,
    window: i64,
    steps: usize,
    repeats: usize,
    parts: Vec<String>,
}

/// Small random numbers of any shape, made where they are needed.
struct Random<'a> {
    device: Device,
    kind: Kind,
    keep_in_f32: &'a [&'a str],
    streamed: bool,
}

impl WeightSource for Random<'_> {
    fn streams(&self) -> bool {
        self.streamed
    }

    fn tensor(&self, name: &str, shape: &[i64]) -> sora_diffusion::Result<Tensor> {
        let kept = self.keep_in_f32.iter().any(|module| name.split('.').any(|part| part == *module));
        let kind = if kept { Kind::Float } else { self.kind };
        let fan_in: i64 = shape.iter().skip(1).product();
        Ok(Tensor::randn(shape, (kind, self.device)) / (fan_in.max(1) as f64).sqrt())
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "f32" => Ok(Kind::Float),
        "bf16" => Ok(Kind::BFloat16),
        "f16" => Ok(Kind::Half),
        _ => Err(format!("dtype is {name}, it must be f32, bf16 or f16")),
    }
}

fn device(name: &str) -> Result<Device, String> {
    let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
    match (name, index) {
        ("cpu", _) => Ok(Device::Cpu),
        (_, Some(index)) if Cuda::is_available() => Ok(Device::Cuda(index)),
        (_, Some(_)) => Err(format!("device is {name}, and libtorch sees no CUDA")),
        _ => Err(format!("device is {name}, it must be cpu or cuda:N")),
    }
}

/// How a transformer's weights are kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    /// On the device.
    There,
    /// Aside, and brought there layer by layer.
    Elsewhere,
    /// On the device, large matrices in 8 bits.
    In8Bits,
}

/// Measures on one device.
struct Bench {
    device: Device,
    repeats: usize,
}

impl Bench {
    fn settle(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }

    /// The fastest and the middle one of the runs, ms: on shared machines the fastest says most.
    fn time(&self, mut run: impl FnMut()) -> Value {
        let timed = || {
            self.settle();
            let began = Instant::now();
            run();
            self.settle();
            began.elapsed().as_secs_f64() * 1e3
        };
        fastest(std::iter::repeat_with(timed).take(WARM + self.repeats).skip(WARM).collect())
    }
}

fn fastest(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    json!({ "best_ms": times[0], "median_ms": times[times.len() / 2] })
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: parts REQUEST.json")?;
    let request: Request = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let bench = Bench { device: device(&request.device)?, repeats: request.repeats.max(1) };
    let _no_grad = tch::no_grad_guard();
    let mut found = Map::new();
    for part in &request.parts {
        let figures = match part.as_str() {
            "text" => text(&request, &bench)?,
            "forward" => forward(&request, &bench, Kept::There)?,
            "streamed" => forward(&request, &bench, Kept::Elsewhere)?,
            "fp8" => forward(&request, &bench, Kept::In8Bits)?,
            "block" => block(&request, &bench)?,
            "encode" | "decode" => vae(&request, &bench, part == "encode")?,
            "tiny" => tiny(&request, &bench)?,
            "ahead" | "ahead_tiny" => ahead(&request, &bench, part == "ahead_tiny")?,
            _ => return Err(format!("there is no part {part}").into()),
        };
        found.insert(part.clone(), figures);
    }
    println!("{}", Value::Object(found));
    Ok(())
}

fn random<'a>(bench: &Bench, kind: Kind, keep_in_f32: &'a [&'a str]) -> Weights<'a> {
    Weights::new(Rc::new(Random { device: bench.device, kind, keep_in_f32, streamed: false }))
}

/// The text encoder over one prompt.
fn text(request: &Request, bench: &Bench) -> Result<Value, Box<dyn Error>> {
    let kind = kind(&request.dtype)?;
    let model = Umt5EncoderModel::new(&random(bench, kind, &[]), &request.text_encoder)?;
    let shape = [1, request.prompt_tokens];
    let tokens = Tensor::randint(request.text_encoder.vocab_size, shape, (Kind::Int64, bench.device));
    let mask = Tensor::ones(shape, (Kind::Int64, bench.device));
    Ok(bench.time(|| drop(model.forward(&tokens, &mask))))
}

/// Latent frames, rows and columns of the whole clip.
fn latent_size(request: &Request) -> [i64; 3] {
    let scale = request.vae.spatial_scale_factor();
    let frames = 1 + (request.frames - 1) / request.vae.temporal_scale_factor();
    [frames, request.height / scale, request.width / scale]
}

fn latents(request: &Request, bench: &Bench, kind: Kind, frames: i64) -> Tensor {
    let [_, h, w] = latent_size(request);
    Tensor::randn([1, request.transformer.in_channels, frames, h, w], (kind, bench.device))
}

/// The transformer, a prompt as it sees it, and its number format.
fn transformer(
    request: &Request,
    bench: &Bench,
    kept: Kept,
) -> Result<(WanTransformer3DModel, TextContext, Kind), Box<dyn Error>> {
    let kind = kind(&request.dtype)?;
    let keep_in_f32 = keep_in_f32(Numerics::Diffusers);
    let streamed = kept == Kept::Elsewhere;
    let mut weights = Weights::new(Rc::new(Random { device: bench.device, kind, keep_in_f32, streamed }));
    if kept == Kept::In8Bits {
        weights = Weights::new(Rc::new(Fp8Weights::new(weights)));
    }
    let model = WanTransformer3DModel::new(&weights, &request.transformer)?;
    let shape = [1, request.prompt_tokens, request.transformer.text_dim];
    let context = model.encode_context(&Tensor::randn(shape, (kind, bench.device)), None);
    Ok((model, context, kind))
}

/// One pass over the whole clip, without guidance.
fn forward(request: &Request, bench: &Bench, kept: Kept) -> Result<Value, Box<dyn Error>> {
    let (model, context, kind) = transformer(request, bench, kept)?;
    let x = latents(request, bench, kind, latent_size(request)[0]);
    let timestep = Tensor::full([1], 500.0, (Kind::Float, bench.device));
    Ok(bench.time(|| drop(model.forward(&x, &timestep, &context))))
}

/// A stream whose memory is full.
struct Stream {
    model: WanTransformer3DModel,
    context: TextContext,
    noise: Tensor,
    cache: KvCache,
    steps: usize,
    device: Device,
}

impl Stream {
    fn new(request: &Request, bench: &Bench) -> Result<Self, Box<dyn Error>> {
        let (model, context, kind) = transformer(request, bench, Kept::There)?;
        let noise = latents(request, bench, kind, request.block);
        let cache = KvCache::new(&model, CacheLimits { sink: 0, frames: request.window });
        let mut stream = Self { model, context, noise, cache, steps: request.steps, device: bench.device };
        while stream.cache.len() < request.window {
            stream.remember(&stream.noise.shallow_clone());
        }
        Ok(stream)
    }

    fn at(&self, timestep: f64) -> Tensor {
        Tensor::full([1], timestep, (Kind::Float, self.device))
    }

    fn step(&self) -> Tensor {
        self.model.forward_block(&self.noise, &self.at(500.0), &self.context, &self.cache)
    }

    fn remember(&mut self, latents: &Tensor) {
        self.model.remember_block(latents, &self.at(0.0), &self.context, &mut self.cache);
    }

    /// A block's steps, then `made` with what they made, then the pass that remembers it.
    fn block(&mut self, made: impl FnOnce(Tensor)) {
        for _ in 1..self.steps {
            drop(self.step());
        }
        let latents = self.step();
        made(latents.shallow_clone());
        self.remember(&latents);
    }
}

/// A block of a stream: its steps, and the pass that remembers it.
fn block(request: &Request, bench: &Bench) -> Result<Value, Box<dyn Error>> {
    let mut stream = Stream::new(request, bench)?;
    let step = bench.time(|| drop(stream.step()));
    let whole = bench.time(|| stream.block(drop));
    Ok(json!({ "step": step, "whole": whole, "latent_frames": request.block, "window": request.window }))
}

/// Decodes the latents of a block to bytes, as a stream goes on.
type Decoder = Box<dyn FnMut(&Tensor) + Send>;

fn decoder(request: &Request, bench: &Bench, tiny: bool) -> Result<Decoder, Box<dyn Error>> {
    let kind = kind(&request.vae_dtype)?;
    let bytes = |video: Tensor| {
        drop(std::hint::black_box((video * 127.5 + 127.5).to_kind(Kind::Uint8).to_device(Device::Cpu)))
    };
    if tiny {
        let (model, mut memory) = (tiny_decoder(request, bench)?, FrameMemory::new());
        return Ok(Box::new(move |latents| bytes(model.decode_chunk(&latents.to_kind(kind), &mut memory))));
    }
    let model = AutoencoderKlWan::new(&random(bench, kind, &[]), &request.vae)?;
    let mut cache = FeatureCache::new();
    Ok(Box::new(move |latents| {
        bytes(model.decode_chunk(&model.denormalize_latents(&latents.to_kind(kind)), &mut cache));
    }))
}

/// A block of a stream and its frames: one after the other, and decoded while the next one is denoised, as the engine does it
/// (`crates/sora-engine/src/ahead.rs`). Of several in a row, from frames to frames.
fn ahead(request: &Request, bench: &Bench, tiny: bool) -> Result<Value, Box<dyn Error>> {
    let mut stream = Stream::new(request, bench)?;
    let mut decode = decoder(request, bench, tiny)?;
    let interval = |times: &[Instant]| (times[BLOCKS] - times[0]).as_secs_f64() * 1e3 / BLOCKS as f64;
    let mut after = || {
        let times: Vec<Instant> = (0..=BLOCKS)
            .map(|_| {
                stream.block(|latents| decode(&latents));
                Instant::now()
            })
            .collect();
        interval(&times)
    };
    let runs = 1 + bench.repeats;
    let after = fastest(std::iter::repeat_with(&mut after).take(runs).skip(1).collect());
    let threads = tch::get_num_threads();
    let mut beside = || -> sora_diffusion::Result<f64> {
        let (sender, receiver) = sync_channel::<(Tensor, Reached)>(1);
        std::thread::scope(|scope| {
            let (decode, device) = (&mut decode, bench.device);
            let decoding = scope.spawn(move || {
                let _no_grad = tch::no_grad_guard();
                tch::set_num_threads((threads / 2).max(1));
                let _side = SideStream::enter(device)?;
                let decoded = |(latents, denoised): (Tensor, Reached)| {
                    denoised.wait(&latents)?;
                    decode(&latents);
                    Ok(Instant::now())
                };
                let times: Vec<Instant> =
                    receiver.iter().map(decoded).collect::<sora_diffusion::Result<_>>()?;
                Ok(interval(&times))
            });
            tch::set_num_threads((threads - threads / 2).max(1));
            for _ in 0..=BLOCKS {
                let mut reached = Ok(());
                stream.block(|latents| {
                    reached = Reached::here(device).map(|denoised| drop(sender.send((latents, denoised))));
                });
                reached?;
            }
            drop(sender);
            decoding.join().expect("does not panic")
        })
    };
    let beside =
        std::iter::repeat_with(&mut beside).take(runs).skip(1).collect::<sora_diffusion::Result<_>>()?;
    tch::set_num_threads(threads);
    Ok(json!({ "after": after, "beside": fastest(beside) }))
}

/// Encoding or decoding of four frames of a running stream.
fn vae(request: &Request, bench: &Bench, encode: bool) -> Result<Value, Box<dyn Error>> {
    let kind = kind(&request.vae_dtype)?;
    let model = AutoencoderKlWan::new(&random(bench, kind, &[]), &request.vae)?;
    let mut cache = FeatureCache::new();
    let factor = request.vae.temporal_scale_factor();
    let video = |frames: i64| {
        Tensor::rand([1, 3, frames, request.height, request.width], (kind, bench.device)) * 2.0 - 1.0
    };
    let [_, h, w] = latent_size(request);
    let z = Tensor::randn([1, request.vae.z_dim, 1, h, w], (kind, bench.device));
    let times = if encode {
        drop(model.encode_chunk(&video(1), &mut cache));
        let video = video(factor);
        bench.time(|| drop(model.encode_chunk(&video, &mut cache)))
    } else {
        drop(model.decode_chunk(&z, &mut cache));
        bench.time(|| drop(model.decode_chunk(&z, &mut cache)))
    };
    Ok(json!({ "chunk": times, "frames": factor }))
}

/// A TAEHV as wide as the published ones.
fn tiny_decoder(request: &Request, bench: &Bench) -> Result<Taehv, Box<dyn Error>> {
    let config = TinyVaeConfig {
        latent_channels: request.vae.z_dim,
        patch_size: if request.vae.spatial_scale_factor() == 16 { 2 } else { 1 },
        encoder_dim: 64,
        decoder_dims: TINY_DECODER,
        stored_growth: TinyVaeConfig::TIME_GROWTH,
    };
    Ok(Taehv::new(&random(bench, kind(&request.vae_dtype)?, &[]), &config)?)
}

/// Decoding by it.
fn tiny(request: &Request, bench: &Bench) -> Result<Value, Box<dyn Error>> {
    let (model, kind) = (tiny_decoder(request, bench)?, kind(&request.vae_dtype)?);
    let [_, h, w] = latent_size(request);
    let z = Tensor::randn([1, request.vae.z_dim, 1, h, w], (kind, bench.device));
    let mut memory = FrameMemory::new();
    drop(model.decode_chunk(&z, &mut memory));
    let times = bench.time(|| drop(model.decode_chunk(&z, &mut memory)));
    Ok(json!({ "chunk": times, "frames": request.vae.temporal_scale_factor() }))
}
