//! Stage 4: text encoder and diffusion transformer together, by flow matching on latents.
//!
//! Rectified flow (arXiv 2209.03003): x_σ = (1 − σ)·clip + σ·noise, the network predicts noise − clip.
//! σ is logit-normal and shifted towards noise (arXiv 2403.03206). One caption in ten is left out, for classifier-free guidance.
//!
//! Half of the steps see whole clips, all frames at one σ. The other half are block-causal: each latent frame
//! looks at itself and those before it and has a σ of its own (diffusion forcing, arXiv 2407.01392), behind a
//! beginning of the clip that is clean or nearly so (teacher forcing). So one set of weights makes whole clips,
//! streams over a cache of keys and values, animates an image and continues a clip.

pub(crate) mod begin;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sora_diffusion::models::transformer_wan::TextContext;
use sora_diffusion::models::{AutoencoderKlWan, Umt5EncoderModel, WanTransformer3DModel};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::Weights;
use sora_model::config::{SourceEncoderConfig, TextEncoderConfig, TransformerConfig};
use tch::{Device, Kind, Tensor};

use crate::clips::{Batch, CaptionChoice, Clips, Draw, encode};
use crate::latents::{Dataset, Statistics, trained_vae};
use crate::optimizer::{AdamW, learning_rate};
use crate::pairs::PairsArgs;
use crate::parameters::{Leaves, Parameters};
use crate::presets::{self, TransformerPreset};
use crate::run::{Compute, Run, Sharing};
use crate::seeds::Seeds;
use crate::tokenizer::vocabulary_size;
use crate::validation::{Validation, flops_per_clip};
use crate::{checkpoint, progress, sheet};

/// Options of `sora-train transformer`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/transformer")]
    run: PathBuf,
    /// Size of the networks.
    #[arg(long, value_enum, default_value = "tiny")]
    preset: TransformerPreset,
    /// Begin at the weights of a diffusers directory of the same sizes instead of from nothing. The rows of its
    /// tokenizer's pieces are found by their spelling, so the tokenizer may be another.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Which captions to learn from.
    #[arg(long, value_enum, default_value = "both")]
    captions: CaptionChoice,
    /// Shift of the noise levels: what a clip shows is settled where the noise is strong, and that is where the
    /// few steps of the product are.
    #[arg(long, default_value_t = 3.0, value_parser = shift)]
    level_shift: f64,
    /// Share of the steps that are block-causal, 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    causal: f64,
    /// Folder of `sora-train latents`.
    #[arg(long, default_value = "runs/latents")]
    latents: PathBuf,
    #[command(flatten)]
    pairs: PairsArgs,
    /// Folder of `sora-train latents --validation`: the loss on these goes to `validation.csv` at every checkpoint.
    #[arg(long)]
    validation: Option<PathBuf>,
    /// Run folder of the VAE, for sample sheets.
    #[arg(long, default_value = "runs/vae")]
    vae: PathBuf,
    /// Folder of `sora-train tokenizer`.
    #[arg(long, default_value = "runs/tokenizer")]
    tokenizer: PathBuf,
    /// Steps in all.
    #[arg(long, default_value_t = 6000)]
    steps: u64,
    /// Whole clips per step; of pictures and beginnings of clips as many more as they are shorter.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    /// Use Muon for the weight matrices (see `optimizer.rs`); pays from batches of about 32 on.
    #[arg(long)]
    muon: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sharing: Sharing,
    /// Steps between checkpoints and sample sheets.
    #[arg(long, default_value_t = 500, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
    /// Keep what every checkpoint has learned: a run folder for each, `step-NNNNNN`, that `export` takes.
    #[arg(long)]
    keep: bool,
}

/// Positions of a prompt, padding included: what `WanPipeline` uses.
pub(crate) const MAX_SEQUENCE_LENGTH: i64 = 512;

/// A number of the command line within bounds.
pub(crate) fn number_within(text: &str, bounds: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|value| bounds.contains(value));
    number.ok_or_else(|| format!("{text} is not a number from {} to {}", bounds.start(), bounds.end()))
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    number_within(text, 0.0..=1.0)
}

/// A weight of a loss.
pub(crate) fn weight(text: &str) -> Result<f64, String> {
    number_within(text, 0.0..=100.0)
}

fn shift(text: &str) -> Result<f64, String> {
    number_within(text, 0.1..=20.0)
}

/// The configs of a run, `config.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Configs {
    pub(crate) transformer: TransformerConfig,
    pub(crate) text_encoder: TextEncoderConfig,
    /// What its latents are normalised by.
    pub(crate) statistics: Statistics,
    /// Whether the transformer has a source embedding.
    #[serde(default)]
    pub(crate) sources: bool,
    /// What it sees sources through, if anything.
    #[serde(default)]
    pub(crate) source_encoder: Option<SourceEncoderConfig>,
}

/// Both networks over one set of parameters; keys `text_encoder.…`, `transformer.…`, `source_encoder.…` and `source_embedding.…`.
pub(crate) struct TextToLatents {
    pub(crate) text_encoder: Umt5EncoderModel,
    pub(crate) transformer: WanTransformer3DModel,
}

impl TextToLatents {
    /// Builds both.
    pub(crate) fn build(device: Device, seed: u64, configs: &Configs) -> anyhow::Result<(Parameters, Self)> {
        Parameters::build(device, seed, |weights| Self::new(weights, configs))
    }

    pub(crate) fn new(weights: &Weights, configs: &Configs) -> sora_diffusion::Result<Self> {
        let text_encoder = Umt5EncoderModel::new(&weights.pp("text_encoder"), &configs.text_encoder)?;
        let mut transformer = WanTransformer3DModel::new(&weights.pp("transformer"), &configs.transformer)?;
        if let Some(encoder) = &configs.source_encoder {
            transformer = transformer.with_source_encoder(&weights.pp("source_encoder"), encoder)?;
        }
        if configs.sources {
            transformer = transformer.with_source_embedding(&weights.pp("source_embedding"))?;
        }
        Ok(Self { text_encoder, transformer })
    }

    /// A batch of token lists as the transformer's blocks see them.
    pub(crate) fn context(&self, tokens: &[&[i64]], device: Device) -> TextContext {
        let (hidden, weights) = self.embeds(tokens, device);
        self.transformer.encode_context(&hidden, Some(&weights))
    }

    /// A batch of token lists as the text encoder gives it, `[B, L, text_dim]`, and how often each position counts, `[B, L]`.
    pub(crate) fn embeds(&self, tokens: &[&[i64]], device: Device) -> (Tensor, Tensor) {
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
        (hidden, weights)
    }

    /// Latents as the transformer sees them: behind their channels what it is shown of a source, where there is one.
    pub(crate) fn beside(&self, latents: &Tensor, source: Option<&Tensor>, context: &TextContext) -> Tensor {
        match source {
            Some(source) => Tensor::cat(&[latents, &self.transformer.encode_source(source, context)], 1),
            None => latents.shallow_clone(),
        }
    }

    /// Velocity of noisy latents, with those of a source behind them or without; `sigma` is `[B]`, or `[B, F]` with one level per latent frame.
    pub(crate) fn velocity(
        &self,
        latents: &Tensor,
        sigma: &Tensor,
        context: &TextContext,
        mask: Option<&Tensor>,
    ) -> Tensor {
        self.transformer.forward_masked(latents, &(sigma * 1000.0), context, mask)
    }

    /// Draws clips with Euler steps between `levels`, with guidance above 1, of `source` where there is one: a look at
    /// the training, not the product's sampler.
    pub(crate) fn sample(
        &self,
        prompts: &[Vec<i64>],
        shape: [i64; 4],
        source: Option<&Tensor>,
        (levels, guidance): (&[f64], f64),
        device: Device,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let n = prompts.len() as i64;
        let [c, t, h, w] = shape;
        let noise = seeded_noise(7, &[n, c, t, h, w]).to_device(device);
        let with: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let with = self.context(&with, device);
        let without = self.context(&vec![END_ONLY; prompts.len()], device);
        euler(noise, levels, |x, sigma| {
            let velocity = |context| self.velocity(&self.beside(x, source, context), sigma, context, None);
            let v = velocity(&with);
            if guidance <= 1.0 {
                return v;
            }
            let unconditional = velocity(&without);
            &unconditional + (v - &unconditional) * guidance
        })
    }
}

/// From noise to latents, straight along the velocity (of latents `[B, …]` at levels `[B]`) between each level and the
/// next. What goes into a step stays as it is, so gradients go back through all of them.
pub(crate) fn euler(noise: Tensor, levels: &[f64], velocity: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let mut x = noise;
    for pair in levels.windows(2) {
        let sigma = Tensor::full([x.size()[0]], pair[0], (Kind::Float, x.device()));
        x = &x + velocity(&x, &sigma) * (pair[1] - pair[0]);
    }
    x
}

/// A network over the shared parameters, and the gradients it collects.
struct Replica {
    leaves: Leaves,
    model: TextToLatents,
}

impl Replica {
    /// Loss and gradients of a share of the batch.
    fn learn(&mut self, batch: &Batch, tokens: &[&[i64]], threads: i32) -> (f64, Tensor) {
        tch::set_num_threads(threads);
        let context = self.model.context(tokens, batch.clips.device());
        let mask = batch.mask(&self.model.transformer);
        let seen = self.model.beside(&batch.noisy(), batch.source.as_ref(), &context);
        let velocity = self.model.velocity(&seen, &batch.sigma, &context, mask.as_ref());
        let loss = batch.mean_square(&(velocity - (&batch.noise - &batch.clips)));
        loss.backward();
        (loss.double_value(&[]), self.leaves.take_gradients())
    }
}

/// An empty prompt: the end token alone.
pub(crate) const END_ONLY: &[i64] = &[1];

/// Prompts of the sample sheets.
pub(crate) const SAMPLE_PROMPTS: [&str; 10] = [
    "a red ball bounces on the grass",
    "a blue cube slides to the left on the sand",
    "a yellow pyramid spins in the snow at night",
    "a green ball rolls to the right on a checker floor",
    "a purple boat floats on the sea at sunset",
    "an orange car drives to the right on the sand",
    "a red tree stands on the grass, the camera circles around",
    "a white ball passes behind a black cube to the right on the grass",
    "a pencil sketch of a blue car standing in the snow",
    "a neon drawing of a green pyramid floating above the sea",
];

/// Gives each worker its part on a thread of its own; the mean of their losses and gradients.
pub(crate) fn in_parallel<W: Send, P: Send>(
    workers: &mut [W],
    parts: Vec<P>,
    learn: impl Fn(&mut W, P) -> (f64, Tensor) + Sync,
) -> anyhow::Result<(f64, Tensor)> {
    let learn = &learn;
    let shares = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .zip(parts)
            .map(|(worker, part)| scope.spawn(move || learn(worker, part)))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    });
    let shares = shares.map_err(|_| anyhow::anyhow!("a replica panicked"))?;
    let count = shares.len() as f64;
    let loss = shares.iter().map(|(loss, _)| loss).sum::<f64>() / count;
    let gradient = shares.into_iter().map(|(_, gradient)| gradient).reduce(|a, b| a + b);
    Ok((loss, gradient.context("there is at least one replica")? / count))
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.sharing.check(args.batch)?;
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let data = Dataset::open(&args.latents)?;
    let z_dim = data.buckets[0].latents.size()[1];
    let vocabulary = vocabulary_size(&args.tokenizer)?;
    let configs = Configs {
        transformer: args.preset.transformer(z_dim),
        text_encoder: args.preset.text_encoder(vocabulary),
        // A run keeps what it was begun with, also when the data has grown since.
        statistics: presets::held::<Configs>(&args.run)?.map_or_else(|| data.statistics(), |c| c.statistics),
        sources: args.pairs.are_given(),
        source_encoder: None,
    };
    let configs = presets::settle(&args.run, configs)?;
    let count = data.len();
    let clips = Clips::new(data, &configs.statistics, &tokenizer)?;
    let pairs = args.pairs.open(&configs, &tokenizer)?;
    let samples: Vec<Vec<i64>> =
        SAMPLE_PROMPTS.iter().map(|p| encode(&tokenizer, p)).collect::<anyhow::Result<_>>()?;

    let (mut parameters, model) = TextToLatents::build(device, args.compute.seed, &configs)?;
    if let Some(init) = &args.init {
        begin::at_directory(&mut parameters, init, &args.tokenizer, configs.transformer.patch_size)?;
    }
    let mut adam = AdamW::new(&parameters.flat, 0.01, 0.999);
    if args.muon {
        adam = adam.with_muon(parameters.hidden_matrices());
    }
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    let mut replicas = (0..args.sharing.replicas)
        .map(|_| {
            let (leaves, model) = parameters.replica_in(
                |name| args.sharing.dtype.kind(name),
                |weights| TextToLatents::new(weights, &configs),
            )?;
            Ok(Replica { leaves, model })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let vae = trained_vae(&args.vae, device)?;
    let validation = match &args.validation {
        Some(dir) => Some(Validation::open(dir, &configs.statistics, &tokenizer, args.captions)?),
        None => None,
    };
    let flops_per_step = flops_per_clip(&parameters, &clips, &configs.transformer) * args.batch as f64;
    eprintln!(
        "text encoder and transformer: {} parameters, {count} clips, {:.2e} FLOP per step, {done} of {} steps done",
        parameters.len(),
        flops_per_step,
        args.steps
    );

    let draw =
        Draw { batch: args.batch, causal: args.causal, captions: args.captions, shift: args.level_shift };
    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.compute.seed, step, 5);
        let of_step = args.pairs.of_step(pairs.as_ref(), args.compute.seed, step).unwrap_or(&clips);
        let (batch, tokens) = of_step.draw(&mut seeds, &draw, device);
        let share = tokens.len() / args.sharing.replicas;
        for replica in &mut replicas {
            replica.leaves.refresh(&parameters);
        }
        let parts = tokens
            .chunks(share)
            .enumerate()
            .map(|(i, tokens)| (batch.part((i * share) as i64, share as i64), tokens))
            .collect();
        let learn = |replica: &mut Replica, (part, tokens): (Batch, &[&[i64]])| {
            replica.learn(&part, tokens, args.compute.threads)
        };
        let (loss, gradient) =
            in_parallel(&mut replicas, parts, learn).with_context(|| format!("step {}", step + 1))?;
        let rate = learning_rate(args.learning_rate, step, 200, args.steps);
        // The replicas' threads are idle.
        tch::set_num_threads(args.compute.threads * args.sharing.replicas as i32);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        tch::set_num_threads(args.compute.threads);
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        run.log(
            "step,loss,gradient_norm,rate,latent_frames,causal,restyling",
            &[
                (step + 1) as f64,
                loss,
                norm,
                rate,
                batch.clips.size()[2] as f64,
                f64::from(u8::from(batch.causal)),
                f64::from(u8::from(batch.source.is_some())),
            ],
        )?;
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            if args.keep {
                let kept = run.file(&format!("step-{:06}", step + 1));
                let kept = Run::create(&kept, Some(args.compute.seed))?;
                presets::settle(kept.dir(), configs.clone())?;
                checkpoint::save(&kept.checkpoint(), &parameters, &adam)?;
            }
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let shift = |s: f64| 3.0 * s / (1.0 + 2.0 * s);
            let levels: Vec<f64> = (0..=12).rev().map(|i| shift(f64::from(i) / 12.0)).collect();
            let shape = clips.shape()?;
            let (loss, latents) = parameters.with_values(&adam.average, || {
                let loss = validation.as_ref().map(|validation| validation.loss(&model, device));
                (loss, model.sample(&samples, shape, None, (&levels, 3.0), device))
            });
            if let Some(loss) = loss {
                bar.suspend(|| eprintln!("step {}: validation loss {loss:.4}", step + 1));
                let compute = flops_per_step * (step + 1) as f64;
                run.log_to("validation.csv", "step,flop,loss", &[(step + 1) as f64, compute, loss])?;
            }
            let rows = decode_rows(&vae, &latents, &configs.statistics);
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
            if let Some(pairs) = &pairs {
                let rows = parameters.with_values(&adam.average, || {
                    pairs.sheet((&vae, &configs.statistics), device, |prompts, source, target| {
                        let (_, c, t, h, w) = target.size5().expect("N C F h w");
                        model.sample(prompts, [c, t, h, w], Some(source), (&levels, 1.0), device)
                    })
                });
                sheet::write(&run.file(&format!("pairs-{:06}.png", step + 1)), &rows)?;
            }
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Every second frame of each clip.
pub(crate) fn decode_rows(vae: &AutoencoderKlWan, latents: &Tensor, statistics: &Statistics) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let (mean, std) = statistics.tensors();
    let (mean, std) = (mean.to_device(latents.device()), std.to_device(latents.device()));
    let z = latents * std + mean;
    (0..z.size()[0])
        .map(|i| {
            let video = vae.decode(&z.narrow(0, i, 1)).squeeze_dim(0).to_device(Device::Cpu);
            video.slice(1, None, None, 2)
        })
        .collect()
}
