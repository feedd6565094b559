//! Stage 4: text encoder and diffusion transformer together, by flow matching on latents.
//!
//! Rectified flow (arXiv 2209.03003): x_σ = (1 − σ)·clip + σ·noise, the network predicts noise − clip.
//! σ is logit-normal (arXiv 2403.03206). One caption in ten is left out, for classifier-free guidance.
//!
//! Half of the steps see whole clips, all frames at one σ. The other half are block-causal: each latent frame
//! looks at itself and those before it and has a σ of its own (diffusion forcing, arXiv 2407.01392), behind a
//! beginning of the clip that is clean or nearly so (teacher forcing). So one set of weights makes whole clips,
//! streams over a cache of keys and values, animates an image and continues a clip.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sora_diffusion::models::transformer_wan::{TextContext, block_causal_mask};
use sora_diffusion::models::{AutoencoderKlWan, Umt5EncoderModel, WanTransformer3DModel};
use sora_diffusion::noise::seeded_noise;
use sora_diffusion::tokenizer::Tokenizer;
use sora_diffusion::weights::Weights;
use sora_model::config::{TextEncoderConfig, TransformerConfig};
use tch::{Device, Kind, Tensor};

use crate::latents::{Dataset, Statistics, trained_vae};
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::{Leaves, Parameters};
use crate::presets::{self, TransformerPreset};
use crate::run::{Run, device};
use crate::seeds::Seeds;
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
    /// Share of the steps that are block-causal, 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    causal: f64,
    /// Folder of `sora-train latents`.
    #[arg(long, default_value = "runs/latents")]
    latents: PathBuf,
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

/// Which captions a run learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CaptionChoice {
    /// Short ones twice as often as detailed ones.
    Both,
    /// Short ones alone.
    Short,
    /// Detailed ones alone.
    Detailed,
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("{text} is not a number from 0 to 1")),
    }
}

/// The configs of a run, `config.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Configs {
    pub(crate) transformer: TransformerConfig,
    pub(crate) text_encoder: TextEncoderConfig,
    /// What its latents are normalised by.
    pub(crate) statistics: Statistics,
}

/// Both networks over one set of parameters; keys `text_encoder.…` and `transformer.…`.
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
        Ok(Self {
            text_encoder: Umt5EncoderModel::new(&weights.pp("text_encoder"), &configs.text_encoder)?,
            transformer: WanTransformer3DModel::new(&weights.pp("transformer"), &configs.transformer)?,
        })
    }

    /// A batch of token lists as the transformer's blocks see them.
    pub(crate) fn context(&self, tokens: &[&[i64]], device: Device) -> TextContext {
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
        self.transformer.encode_context(&hidden, Some(&weights))
    }

    /// Velocity of noisy latents; `sigma` is `[B]`, or `[B, F]` with one level per latent frame.
    pub(crate) fn velocity(
        &self,
        latents: &Tensor,
        sigma: &Tensor,
        context: &TextContext,
        mask: Option<&Tensor>,
    ) -> Tensor {
        self.transformer.forward_masked(latents, &(sigma * 1000.0), context, mask)
    }

    /// Draws clips with Euler steps between `levels`, with guidance above 1: a look at the training, not the
    /// product's sampler.
    pub(crate) fn sample(
        &self,
        prompts: &[Vec<i64>],
        shape: [i64; 4],
        levels: &[f64],
        guidance: f64,
        device: Device,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let n = prompts.len() as i64;
        let [c, t, h, w] = shape;
        let mut x = seeded_noise(7, &[n, c, t, h, w]).to_device(device);
        let with: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let with = self.context(&with, device);
        let without = self.context(&vec![END_ONLY; prompts.len()], device);
        for pair in levels.windows(2) {
            let (now, next) = (pair[0], pair[1]);
            let sigma = Tensor::full([n], now, (Kind::Float, device));
            let mut v = self.velocity(&x, &sigma, &with, None);
            if guidance > 1.0 {
                let unconditional = self.velocity(&x, &sigma, &without, None);
                v = &unconditional + (v - &unconditional) * guidance;
            }
            x += v * (next - now);
        }
        x
    }
}

/// What one step learns from; everything `[B, …]`, on the device.
pub(crate) struct Batch {
    /// Normalised latents `[B, C, F, H, W]`.
    pub(crate) clips: Tensor,
    /// Noise of that shape.
    pub(crate) noise: Tensor,
    /// `[B, F]`
    pub(crate) sigma: Tensor,
    /// Which frames count in the loss, `[B, F]`, 0 or 1.
    pub(crate) weight: Tensor,
    /// Whether attention is block-causal.
    pub(crate) causal: bool,
}

impl Batch {
    /// The clips with their noise.
    pub(crate) fn noisy(&self) -> Tensor {
        &self.clips + (&self.noise - &self.clips) * per_frame(&self.sigma)
    }

    /// The mask of the step's attention.
    pub(crate) fn mask(&self, patch_size: [i64; 3]) -> Option<Tensor> {
        let (_, _, f, h, w) = self.clips.size5().expect("B C F H W");
        let tokens = (h / patch_size[1]) * (w / patch_size[2]);
        self.causal.then(|| block_causal_mask(f, tokens, 1, self.clips.device()))
    }

    /// Keeps the first frames.
    pub(crate) fn truncate(&mut self, frames: i64) {
        for (tensor, dim) in
            [(&mut self.clips, 2), (&mut self.noise, 2), (&mut self.sigma, 1), (&mut self.weight, 1)]
        {
            *tensor = tensor.narrow(dim, 0, frames);
        }
    }

    /// Clips `start` to `start + len`.
    pub(crate) fn part(&self, start: i64, len: i64) -> Self {
        let part = |t: &Tensor| t.narrow(0, start, len);
        Self {
            clips: part(&self.clips),
            noise: part(&self.noise),
            sigma: part(&self.sigma),
            weight: part(&self.weight),
            causal: self.causal,
        }
    }

    /// Mean of squares over the frames that count.
    pub(crate) fn mean_square(&self, difference: &Tensor) -> Tensor {
        let per_frame = difference.square().mean_dim([1i64, 3, 4].as_slice(), false, Kind::Float); // [B, F]
        (per_frame * &self.weight).sum(Kind::Float) / self.weight.sum(Kind::Float)
    }
}

/// `[B, F]` → `[B, 1, F, 1, 1]`
pub(crate) fn per_frame(values: &Tensor) -> Tensor {
    values.unsqueeze(1).unsqueeze(-1).unsqueeze(-1)
}

/// Noise levels of a causal step: a clean beginning of random length, in one clip of three with a little noise
/// (so that small errors of one's own making do not grow from frame to frame), then a level for every frame.
/// Returns levels and weights, both `[B, F]`.
pub(crate) fn forced_levels(sigma: &Tensor, seeds: &mut Seeds) -> (Tensor, Tensor) {
    let (b, f) = sigma.size2().expect("B F");
    let (levels, weights) = (sigma.copy(), sigma.ones_like());
    for row in 0..b {
        let clean = seeds.below(f as u64) as i64;
        if clean > 0 {
            let level = if seeds.below(3) == 0 { seeds.range(0.0, 0.2) } else { 0.0 };
            let _ = levels.get(row).narrow(0, 0, clean).fill_(f64::from(level));
            let _ = weights.get(row).narrow(0, 0, clean).zero_();
        }
    }
    (levels, weights)
}

/// Clips that are not learned from, the same at every look: same noise, same levels, no caption left out.
struct Validation {
    clips: Clips,
    captions: CaptionChoice,
}

/// Clips of every shape that the validation loss is the mean of, at most.
const VALIDATION_CLIPS: i64 = 64;

impl Validation {
    fn open(
        dir: &Path,
        configs: &Configs,
        tokenizer: &Tokenizer,
        captions: CaptionChoice,
    ) -> anyhow::Result<Self> {
        Ok(Self { clips: Clips::new(Dataset::open(dir)?, &configs.statistics, tokenizer)?, captions })
    }

    /// Mean loss over whole clips, their levels spread evenly over those of the training.
    fn loss(&self, model: &TextToLatents, device: Device) -> f64 {
        let _no_grad = tch::no_grad_guard();
        let (mut sum, mut count) = (0.0, 0.0);
        for (latents, tokens) in self.clips.latents.iter().zip(&self.clips.tokens) {
            let n = latents.size()[0].min(VALIDATION_CLIPS);
            let clips = self.clips.normalise(&latents.narrow(0, 0, n)).to_device(device);
            let noise = seeded_noise(11, &clips.size()).to_device(device);
            // Logit-normal levels at evenly spaced probabilities.
            let normal = (Tensor::arange(n, (Kind::Float, device)) + 0.5) / n as f64;
            let sigma = ((normal * 2.0 - 1.0).erfinv() * std::f64::consts::SQRT_2).sigmoid();
            let sigma = sigma.unsqueeze(1).expand([n, clips.size()[2]], false);
            let batch = Batch { weight: sigma.ones_like(), clips, noise, sigma, causal: false };
            let choose = |[short, detailed]: &'_ [Vec<i64>; 2]| match self.captions {
                CaptionChoice::Detailed => detailed.clone(),
                CaptionChoice::Both | CaptionChoice::Short => short.clone(),
            };
            let tokens: Vec<Vec<i64>> = tokens[..n as usize].iter().map(choose).collect();
            for at in (0..n).step_by(16) {
                let len = (n - at).min(16);
                let part = batch.part(at, len);
                let tokens: Vec<&[i64]> =
                    tokens[at as usize..(at + len) as usize].iter().map(Vec::as_slice).collect();
                let context = model.context(&tokens, device);
                let velocity = model.velocity(&part.noisy(), &part.sigma, &context, None);
                let loss = part.mean_square(&(velocity - (&part.noise - &part.clips)));
                sum += loss.double_value(&[]) * len as f64;
                count += len as f64;
            }
        }
        sum / count
    }
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
        let mask = batch.mask(self.model.transformer.config().patch_size);
        let velocity = self.model.velocity(&batch.noisy(), &batch.sigma, &context, mask.as_ref());
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

/// The clips of a dataset, normalised and with their captions as tokens.
pub(crate) struct Clips {
    latents: Vec<Tensor>,
    tokens: Vec<Vec<[Vec<i64>; 2]>>,
    mean: Tensor,
    std: Tensor,
}

impl Clips {
    pub(crate) fn new(data: Dataset, statistics: &Statistics, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let (mean, std) = statistics.tensors();
        let mut tokens = Vec::new();
        let mut latents = Vec::new();
        for bucket in data.buckets {
            let pairs: anyhow::Result<Vec<_>> = bucket
                .captions
                .iter()
                .map(|(short, detailed)| Ok([encode(tokenizer, short)?, encode(tokenizer, detailed)?]))
                .collect();
            tokens.push(pairs?);
            latents.push(bucket.latents);
        }
        Ok(Self { latents, tokens, mean, std })
    }

    /// Draws the clips and captions of one step; a step depends on its seeds alone.
    pub(crate) fn draw(
        &self,
        seeds: &mut Seeds,
        batch: usize,
        causal: f64,
        captions: CaptionChoice,
        device: Device,
    ) -> (Batch, Vec<&[i64]>) {
        let total: usize = self.tokens.iter().map(Vec::len).sum();
        // A batch is of one shape; a shape is drawn as often as its clips are many.
        let mut at = seeds.below(total as u64) as usize;
        let mut bucket = 0;
        while at >= self.tokens[bucket].len() {
            at -= self.tokens[bucket].len();
            bucket += 1;
        }
        let latent_frames = self.latents[bucket].size()[2];
        let causal = f64::from(seeds.unit()) < causal;
        // Mostly whole clips, sometimes their beginnings: the VAE is causal, so these are clips as well.
        let frames = match seeds.below(10) {
            0 => 1,
            1 | 2 => 1 + (latent_frames - 1) / 2,
            _ => latent_frames,
        };
        let mut indices = Vec::new();
        let mut tokens: Vec<&[i64]> = Vec::new();
        for _ in 0..batch {
            let index = seeds.below(self.tokens[bucket].len() as u64);
            indices.push(index as i64);
            let [short, detailed] = &self.tokens[bucket][index as usize];
            tokens.push(match (seeds.below(10), captions) {
                (0, _) => END_ONLY,
                (1..=3, CaptionChoice::Both) | (_, CaptionChoice::Detailed) => detailed,
                _ => short,
            });
        }
        let clips = self.latents[bucket].index_select(0, &Tensor::from_slice(&indices)).narrow(2, 0, frames);
        let clips = self.normalise(&clips).to_device(device);
        tch::manual_seed(seeds.next_u64() as i64);
        let noise = clips.randn_like();
        let b = batch as i64;
        let (sigma, weight) = if causal {
            let sigma = Tensor::randn([b, frames], (Kind::Float, device)).sigmoid();
            forced_levels(&sigma, seeds)
        } else {
            let sigma = Tensor::randn([b, 1], (Kind::Float, device)).sigmoid().expand([b, frames], false);
            let ones = sigma.ones_like();
            (sigma, ones)
        };
        (Batch { clips, noise, sigma, weight, causal }, tokens)
    }

    fn normalise(&self, latents: &Tensor) -> Tensor {
        (latents.to_kind(Kind::Float) - &self.mean) / &self.std
    }

    /// Shape `[C, T, H, W]` of the first bucket's latents.
    pub(crate) fn shape(&self) -> anyhow::Result<[i64; 4]> {
        self.latents[0].size()[1..].try_into().context("latents are N C T H W")
    }
}

impl Statistics {
    /// Mean and standard deviation, `[1, C, 1, 1, 1]`.
    pub(crate) fn tensors(&self) -> (Tensor, Tensor) {
        let shaped = |v: &[f64]| Tensor::from_slice(v).to_kind(Kind::Float).view([1, -1, 1, 1, 1]);
        (shaped(&self.mean), shaped(&self.std))
    }
}

/// Tokens of a prompt.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<Vec<i64>> {
    Ok(tokenizer.encode(text, MAX_SEQUENCE_LENGTH as usize)?.ids)
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let run = Run::create(&args.run)?;
    let device = device(&args.device)?;
    tch::set_num_threads(args.threads);
    anyhow::ensure!(
        args.replicas > 0 && args.batch.is_multiple_of(args.replicas),
        "batch is {}, it must be a multiple of the {} replicas",
        args.batch,
        args.replicas
    );
    let tokenizer = Tokenizer::open(&args.tokenizer)?;
    let data = Dataset::open(&args.latents)?;
    let z_dim = data.buckets[0].latents.size()[1];
    let vocabulary = vocabulary_size(&args.tokenizer)?;
    let configs = Configs {
        transformer: args.preset.transformer(z_dim),
        text_encoder: args.preset.text_encoder(vocabulary),
        // A run keeps what it was begun with, also when the data has grown since.
        statistics: presets::held::<Configs>(&args.run)?.map_or_else(|| data.statistics(), |c| c.statistics),
    };
    let configs = presets::settle(&args.run, configs)?;
    let count = data.len();
    let clips = Clips::new(data, &configs.statistics, &tokenizer)?;
    let samples: Vec<Vec<i64>> =
        SAMPLE_PROMPTS.iter().map(|p| encode(&tokenizer, p)).collect::<anyhow::Result<_>>()?;

    let (mut parameters, model) = TextToLatents::build(device, args.seed, &configs)?;
    if let Some(init) = &args.init {
        begin_at(&mut parameters, init, &args.tokenizer)?;
    }
    let mut adam = AdamW::new(&parameters.flat, 0.01, 0.999);
    if args.muon {
        adam = adam.with_muon(parameters.hidden_matrices());
    }
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    let mut replicas = (0..args.replicas)
        .map(|_| {
            let (leaves, model) = parameters.replica(|weights| TextToLatents::new(weights, &configs))?;
            Ok(Replica { leaves, model })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let vae = trained_vae(&args.vae, device)?;
    let validation = match &args.validation {
        Some(dir) => Some(Validation::open(dir, &configs, &tokenizer, args.captions)?),
        None => None,
    };
    let flops_per_step = flops_per_clip(&parameters, &clips, &configs.transformer) * args.batch as f64;
    eprintln!(
        "text encoder and transformer: {} parameters, {count} clips, {:.2e} FLOP per step, {done} of {} steps done",
        parameters.len(),
        flops_per_step,
        args.steps
    );

    let bar = progress::bar(args.steps, done);
    let mut recent = 0.0;
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.seed, step, 5);
        let (batch, tokens) = clips.draw(&mut seeds, args.batch, args.causal, args.captions, device);
        let share = args.batch / args.replicas;
        let parts = tokens
            .chunks(share)
            .enumerate()
            .map(|(i, tokens)| (batch.part((i * share) as i64, share as i64), tokens))
            .collect();
        let learn = |replica: &mut Replica, (part, tokens): (Batch, &[&[i64]])| {
            replica.learn(&part, tokens, args.threads)
        };
        let (loss, gradient) =
            in_parallel(&mut replicas, parts, learn).with_context(|| format!("step {}", step + 1))?;
        let rate = learning_rate(args.learning_rate, step, 200, args.steps);
        let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
        recent = if step == done { loss } else { recent * 0.98 + loss * 0.02 };
        run.log(
            "step,loss,gradient_norm,rate,latent_frames,causal",
            &[
                (step + 1) as f64,
                loss,
                norm,
                rate,
                batch.clips.size()[2] as f64,
                f64::from(u8::from(batch.causal)),
            ],
        )?;
        bar.set_message(format!("loss {recent:.4}"));
        bar.inc(1);
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
            bar.suspend(|| eprintln!("step {}: loss {recent:.4}", step + 1));
            let trained = parameters.flat.copy();
            tch::no_grad(|| parameters.flat.copy_(&adam.average));
            if let Some(validation) = &validation {
                let loss = validation.loss(&model, device);
                bar.suspend(|| eprintln!("step {}: validation loss {loss:.4}", step + 1));
                let compute = flops_per_step * (step + 1) as f64;
                run.log_to("validation.csv", "step,flop,loss", &[(step + 1) as f64, compute, loss])?;
            }
            let shift = |s: f64| 3.0 * s / (1.0 + 2.0 * s);
            let levels: Vec<f64> = (0..=12).rev().map(|i| shift(f64::from(i) / 12.0)).collect();
            let latents = model.sample(&samples, clips.shape()?, &levels, 3.0, device);
            tch::no_grad(|| parameters.flat.copy_(&trained));
            let rows = decode_rows(&vae, &latents, &configs.statistics);
            sheet::write(&run.file(&format!("sheet-{:06}.png", step + 1)), &rows)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Floating point operations of one clip, forward and backward: six for each weight of a matrix and each token
/// (arXiv 2001.08361, section 2.1), at the mean number of tokens. Attention scores are left out; they are under a
/// tenth at these lengths.
fn flops_per_clip(parameters: &Parameters, clips: &Clips, config: &TransformerConfig) -> f64 {
    let weights: i64 = parameters.hidden_matrices().iter().map(|m| m.rows * m.columns).sum();
    let tokens = |latents: &Tensor| {
        let (n, _, f, h, w) = latents.size5().expect("N C T H W");
        (n * f * (h / config.patch_size[1]) * (w / config.patch_size[2]), n)
    };
    let (tokens, n) = clips.latents.iter().map(tokens).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    6.0 * weights as f64 * tokens as f64 / n as f64
}

/// Takes the weights of a diffusers directory of the same sizes, the embedding rows by their pieces' spelling.
fn begin_at(parameters: &mut Parameters, init: &Path, tokenizer: &Path) -> anyhow::Result<()> {
    let open = |dir: &Path| {
        let path = dir.join("tokenizer.json");
        tokenizers::Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
    };
    let (old, new) = (open(&init.join("tokenizer"))?, open(tokenizer)?);
    parameters.begin_at(
        &init.join("transformer/diffusion_pytorch_model.safetensors"),
        "transformer.",
        &[],
    )?;
    let file = init.join("text_encoder/model.safetensors");
    parameters.begin_at(&file, "text_encoder.", &["shared.weight"])?;
    let tensors = Tensor::read_safetensors(&file)?;
    let table = &tensors.iter().find(|(name, _)| name == "shared.weight").context("no shared.weight")?.1;
    let _no_grad = tch::no_grad_guard();
    for (name, rows) in parameters.named(&parameters.flat) {
        if name == "text_encoder.shared.weight" {
            for (piece, id) in new.get_vocab(true) {
                if let Some(known) = old.token_to_id(&piece) {
                    rows.get(i64::from(id)).copy_(&table.get(i64::from(known)));
                }
            }
        }
    }
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

/// Pieces in a tokenizer folder.
pub(crate) fn vocabulary_size(dir: &std::path::Path) -> anyhow::Result<i64> {
    let path = dir.join("tokenizer.json");
    let tokenizer =
        tokenizers::Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    Ok(tokenizer.get_vocab_size(true) as i64)
}
