//! Stage 4: text encoder and diffusion transformer together, by flow matching on latents.
//!
//! Rectified flow (arXiv 2209.03003): x_σ = (1 − σ)·clip + σ·noise, the network predicts noise − clip.
//! σ is logit-normal (arXiv 2403.03206). One caption in ten is left out, for classifier-free guidance.

use std::path::PathBuf;

use anyhow::Context;
use sora_diffusion::models::{AutoencoderKlWan, Umt5EncoderModel, WanTransformer3DModel};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::Weights;
use sora_model::config::{TextEncoderConfig, TransformerConfig};
use tch::{Device, Kind, Tensor};

use crate::latents::{Dataset, trained_vae};
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::{Leaves, Parameters};
use crate::run::{Run, device};
use crate::seeds::Seeds;
use crate::{checkpoint, progress, sheet};

/// Options of `sora-train transformer`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/transformer")]
    run: PathBuf,
    /// Folder of `sora-train latents`.
    #[arg(long, default_value = "runs/latents")]
    latents: PathBuf,
    /// Run folder of the VAE, for sample sheets.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Folder of `sora-train tokenizer`.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Steps in all.
    #[arg(long, default_value_t = 6000)]
    steps: u64,
    /// Clips per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Use Muon for the weight matrices (see `optimizer.rs`); pays from batches of about 32 on.
    #[arg(long)]
    muon: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of one operation.
    #[arg(long, default_value_t = 1)]
    threads: i32,
    /// Threads that each take a share of the batch; on a CPU better than threads within an operation.
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 500)]
    every: u64,
}

/// Positions of a prompt, padding included: what `WanPipeline` uses.
pub(crate) const MAX_SEQUENCE_LENGTH: i64 = 512;

/// The transformer of sora-tiny.
pub(crate) fn transformer_config() -> TransformerConfig {
    TransformerConfig {
        patch_size: [1, 4, 4],
        num_attention_heads: 4,
        attention_head_dim: 64,
        in_channels: 8,
        out_channels: 8,
        text_dim: 128,
        freq_dim: 256,
        ffn_dim: 1024,
        num_layers: 8,
        ..TransformerConfig::default()
    }
}

/// The text encoder of sora-tiny.
pub(crate) fn text_encoder_config(vocab_size: i64) -> TextEncoderConfig {
    TextEncoderConfig {
        vocab_size,
        d_model: 128,
        d_kv: 32,
        d_ff: 256,
        num_layers: 2,
        num_heads: 4,
        dropout_rate: 0.0,
        ..TextEncoderConfig::default()
    }
}

/// Both networks over one set of parameters; keys `text_encoder.…` and `transformer.…`.
pub(crate) struct TextToLatents {
    pub(crate) text_encoder: Umt5EncoderModel,
    pub(crate) transformer: WanTransformer3DModel,
}

impl TextToLatents {
    /// Builds both.
    pub(crate) fn build(device: Device, seed: u64, vocab_size: i64) -> anyhow::Result<(Parameters, Self)> {
        Parameters::build(device, seed, |weights| Self::new(weights, vocab_size))
    }

    fn new(weights: &Weights, vocab_size: i64) -> sora_diffusion::Result<Self> {
        let text = text_encoder_config(vocab_size);
        Ok(Self {
            text_encoder: Umt5EncoderModel::new(&weights.pp("text_encoder"), &text)?,
            transformer: WanTransformer3DModel::new(&weights.pp("transformer"), &transformer_config())?,
        })
    }

    /// Velocity of noisy latents for a batch of token lists.
    fn forward(&self, latents: &Tensor, sigma: &Tensor, tokens: &[&[i64]]) -> Tensor {
        let device = latents.device();
        // One position more than the longest prompt stands for the padding (see PromptEmbeds).
        let len = tokens.iter().map(|ids| ids.len()).max().unwrap_or(0) + 1;
        let mut ids = Vec::new();
        let mut mask = Vec::new();
        let mut weights = Vec::new();
        for row in tokens {
            let padding = len - row.len();
            ids.extend(row.iter().copied().chain(std::iter::repeat_n(0, padding)));
            mask.extend(std::iter::repeat_n(1i64, row.len()).chain(std::iter::repeat_n(0, padding)));
            weights.extend(std::iter::repeat_n(1f32, row.len()));
            weights.push((MAX_SEQUENCE_LENGTH - row.len() as i64) as f32);
            weights.extend(std::iter::repeat_n(0f32, padding - 1));
        }
        let shape = [tokens.len() as i64, len as i64];
        let ids = Tensor::from_slice(&ids).view(shape).to_device(device);
        let mask = Tensor::from_slice(&mask).view(shape).to_device(device);
        let weights = Tensor::from_slice(&weights).view(shape).to_device(device);
        let hidden = self.text_encoder.forward(&ids, &mask) * mask.to_kind(Kind::Float).unsqueeze(-1);
        let context = self.transformer.encode_context(&hidden, Some(&weights));
        self.transformer.forward(latents, &(sigma * 1000.0), &context)
    }

    /// Draws clips with Euler steps and guidance: a look at the training, not the product's sampler.
    fn sample(
        &self,
        prompts: &[Vec<i64>],
        shape: [i64; 4],
        steps: i64,
        guidance: f64,
        device: Device,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let n = prompts.len() as i64;
        let [c, t, h, w] = shape;
        let mut x = seeded_noise(7, &[n, c, t, h, w]).to_device(device);
        let with: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let without = vec![END_ONLY; prompts.len()];
        let shift = |s: f64| 3.0 * s / (1.0 + 2.0 * s);
        for i in 0..steps {
            let (now, next) =
                (shift(1.0 - i as f64 / steps as f64), shift(1.0 - (i + 1) as f64 / steps as f64));
            let sigma = Tensor::full([n], now, (Kind::Float, device));
            let unconditional = self.forward(&x, &sigma, &without);
            let v = &unconditional + (self.forward(&x, &sigma, &with) - &unconditional) * guidance;
            x += v * (next - now);
        }
        x
    }
}

/// A network over the shared parameters, and the gradients it collects.
struct Replica {
    leaves: Leaves,
    model: TextToLatents,
}

impl Replica {
    /// Loss and gradients of a share of the batch.
    fn learn(
        &mut self,
        noisy: &Tensor,
        sigma: &Tensor,
        target: &Tensor,
        tokens: &[&[i64]],
        threads: i32,
    ) -> (f64, Tensor) {
        tch::set_num_threads(threads);
        let loss = (self.model.forward(noisy, sigma, tokens) - target).square().mean(Kind::Float);
        loss.backward();
        (loss.double_value(&[]), self.leaves.take_gradients())
    }
}

/// An empty prompt: the end token alone.
const END_ONLY: &[i64] = &[1];

/// Prompts of the sample sheets.
const SAMPLE_PROMPTS: [&str; 6] = [
    "a red ball bounces on the grass",
    "a blue cube slides on the sand",
    "a yellow pyramid spins in the snow",
    "a green ball rolls on a checker floor",
    "a purple cube falls on the sea",
    "a white ball bounces on the sand",
];

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let run = Run::create(&args.run)?;
    let device = device(&args.device)?;
    tch::set_num_threads(args.threads);
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let data = Dataset::open(&args.latents)?;
    let (mean, std) = data.statistics();
    let statistics = |v: &[f64]| Tensor::from_slice(v).to_kind(Kind::Float).view([1, -1, 1, 1, 1]);
    let (mean, std) = (statistics(&mean), statistics(&std));
    let encode = |text: &str| -> anyhow::Result<Vec<i64>> {
        Ok(tokenizer.encode(text, MAX_SEQUENCE_LENGTH as usize)?.ids)
    };
    let captions: Vec<[Vec<i64>; 2]> = data
        .captions
        .iter()
        .map(|(short, detailed)| Ok([encode(short)?, encode(detailed)?]))
        .collect::<anyhow::Result<_>>()?;
    let samples: Vec<Vec<i64>> = SAMPLE_PROMPTS.iter().map(|p| encode(p)).collect::<anyhow::Result<_>>()?;

    let vocabulary = vocabulary_size(&args.tokenizer)?;
    let (mut parameters, model) = TextToLatents::build(device, args.seed, vocabulary)?;
    let mut adam = AdamW::new(&parameters.flat, 0.01, 0.999);
    if args.muon {
        adam = adam.with_muon(parameters.hidden_matrices());
    }
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    anyhow::ensure!(
        args.replicas > 0 && args.batch.is_multiple_of(args.replicas),
        "batch is {}, it must be a multiple of the {} replicas",
        args.batch,
        args.replicas
    );
    let mut replicas = (0..args.replicas)
        .map(|_| {
            let (leaves, model) = parameters.replica(|weights| TextToLatents::new(weights, vocabulary))?;
            Ok(Replica { leaves, model })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let vae = trained_vae(&args.vae, device)?;
    eprintln!(
        "text encoder and transformer: {} parameters, {} clips, {done} of {} steps done",
        parameters.len(),
        captions.len(),
        args.steps
    );

    let latent_frames = data.latents.size()[2];
    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.seed, step, 5);
        // Mostly whole clips, sometimes their beginnings: the VAE is causal, so these are clips as well.
        let frames = match seeds.below(10) {
            0 => 1,
            1 | 2 => 1 + (latent_frames - 1) / 2,
            _ => latent_frames,
        };
        let mut indices = Vec::new();
        let mut tokens: Vec<&[i64]> = Vec::new();
        for _ in 0..args.batch {
            let index = seeds.below(captions.len() as u64);
            indices.push(index as i64);
            let [short, detailed] = &captions[index as usize];
            tokens.push(match seeds.below(10) {
                0 => END_ONLY,
                1..=3 => detailed,
                _ => short,
            });
        }
        let clips = data.latents.index_select(0, &Tensor::from_slice(&indices)).narrow(2, 0, frames);
        let clips = ((clips.to_kind(Kind::Float) - &mean) / &std).to_device(device);
        tch::manual_seed(seeds.next_u64() as i64);
        let noise = clips.randn_like();
        let sigma = Tensor::randn([args.batch as i64], (Kind::Float, device)).sigmoid();
        let s = sigma.view([-1, 1, 1, 1, 1]);
        let noisy = &clips + (&noise - &clips) * s;
        let target = noise - clips;
        let share = args.batch / args.replicas;
        let shares = std::thread::scope(|scope| {
            let workers: Vec<_> = replicas
                .iter_mut()
                .zip(tokens.chunks(share))
                .enumerate()
                .map(|(i, (replica, tokens))| {
                    let part = |t: &Tensor| t.narrow(0, (i * share) as i64, share as i64);
                    let (noisy, sigma, target) = (part(&noisy), part(&sigma), part(&target));
                    scope.spawn(move || replica.learn(&noisy, &sigma, &target, tokens, args.threads))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join()).collect::<Result<Vec<_>, _>>()
        });
        let shares = shares.map_err(|_| anyhow::anyhow!("a replica panicked at step {}", step + 1))?;
        let count = shares.len() as f64;
        let loss = shares.iter().map(|(loss, _)| loss).sum::<f64>() / count;
        let gradient = shares.into_iter().map(|(_, gradient)| gradient).reduce(|a, b| a + b);
        let gradient = gradient.context("there is at least one replica")? / count;
        let rate = learning_rate(args.learning_rate, step, 200, args.steps);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        run.log(
            "step,loss,gradient_norm,rate,latent_frames",
            &[(step + 1) as f64, loss, norm, rate, frames as f64],
        )?;
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let average = adam.average.copy();
            let trained = parameters.flat.copy();
            tch::no_grad(|| parameters.flat.copy_(&average));
            let shape = data.latents.size()[1..].try_into().context("latents are N C T H W")?;
            let latents = model.sample(&samples, shape, 12, 3.0, device);
            tch::no_grad(|| parameters.flat.copy_(&trained));
            let rows = decode_rows(&vae, &latents, &mean.to_device(device), &std.to_device(device));
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Every second frame of each clip.
fn decode_rows(vae: &AutoencoderKlWan, latents: &Tensor, mean: &Tensor, std: &Tensor) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let z = latents * std + mean;
    (0..z.size()[0])
        .map(|i| {
            let video = vae.decode(&z.narrow(0, i, 1)).squeeze_dim(0).to_device(Device::Cpu);
            video.slice(1, None, None, 2)
        })
        .collect()
}

/// Pieces in a tokenizer folder.
pub(crate) fn vocabulary_size(dir: &std::path::Path) -> anyhow::Result<i64> {
    let path = dir.join("tokenizer.json");
    let tokenizer =
        tokenizers::Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    Ok(tokenizer.get_vocab_size(true) as i64)
}
