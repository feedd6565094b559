//! A network that reads clips: trained on renders whose attributes are known, it says what a generated clip
//! shows.
//!
//! What it reads later is softer and noisier than a render, so renders are blurred, tinted and made noisy, and
//! one scene in sixteen is also learned as a VAE gives it back. A run depends on its options alone: which clips a
//! step sees does not depend on how fast they are rendered.

pub(crate) mod accuracy;
pub(crate) mod augment;
pub(crate) mod clips;
pub(crate) mod file;
pub(crate) mod network;
pub(crate) mod questions;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::accuracy::{Tally, measure};
use self::augment::Batch;
use self::clips::{Clips, SHARD, Source};
use self::network::{MAPS, Probe, ProbeConfig};
use self::questions::Question;
use crate::data::{DomainChoice, Purpose};
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::Parameters;
use crate::run::{Compute, Run};
use crate::seeds::Seeds;
use crate::{checkpoint, origin, presets, progress};

/// Options of `sora-train probe`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued. Rendered clips are kept in its folder `clips`.
    #[arg(long, default_value = "runs/probe")]
    run: PathBuf,
    /// Folder of a trained probe of the same sizes to begin at; what that one was not told begins at zero.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Scenes to learn.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
    /// A VAE that some of the clips pass through: the run folder of `sora-train vae`, or the `vae` folder of a
    /// diffusers directory.
    #[arg(long, default_value = "models/sora-tiny/vae")]
    vae: PathBuf,
    /// Learn from renders alone, without a VAE.
    #[arg(long)]
    no_vae: bool,
    /// Scenes to render, a multiple of 100.
    #[arg(long, default_value_t = 6000)]
    clips: u64,
    /// Scenes that are only measured on, a multiple of 100.
    #[arg(long, default_value_t = 400)]
    held_out: u64,
    /// Steps in all.
    #[arg(long, default_value_t = 2000)]
    steps: u64,
    /// Clips per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    /// Channels at a quarter and an eighth of the side, multiples of 8.
    #[arg(long, value_delimiter = ',', default_values_t = ProbeConfig::default().channels)]
    channels: Vec<i64>,
    #[command(flatten)]
    compute: Compute,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 250, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
}

/// Share of a batch that went through the VAE.
const RECONSTRUCTED: usize = 4;

/// Clips of a batch that are drawn among those with marks on the ground, in the first two thirds of the steps: there is one in
/// twelve, of which it takes long to learn that trails are no shadows. In the end they are as rare as they are, so that
/// trails are read no more often than there are some.
const MARKED: usize = 2;

fn marked(step: u64, steps: u64) -> usize {
    if step < steps * 2 / 3 { MARKED } else { 0 }
}

/// What a marked cell weighs in the loss of the map of marks, which shows marks in one cell of a hundred: without it
/// the network does best by never drawing any.
pub(crate) const MARKED_WEIGHT: f64 = 30.0;

/// Share of what is known of a frame that a step does without.
const DROPOUT: f64 = 0.15;

/// The shards that a step may draw from: few at first, all of them after two thirds of the steps.
fn available(step: u64, steps: u64, shards: u64) -> u64 {
    (2 + step * 3 * shards / (2 * steps).max(1)).min(shards)
}

/// What decides what the shards of a run hold, `clips/origin.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct Origin {
    /// Digest of the weights of the VAE that some went through.
    vae: Option<String>,
    seed: u64,
    domain: String,
}

/// Clips that grow as a run goes on.
struct Pool {
    receiver: Receiver<anyhow::Result<Clips>>,
    shards: Vec<Clips>,
}

impl Pool {
    /// Waits until there are `count` shards.
    fn grow_to(&mut self, count: u64) -> anyhow::Result<()> {
        while (self.shards.len() as u64) < count {
            let shard = self.receiver.recv().context("the thread that renders clips ended")??;
            self.shards.push(shard);
        }
        Ok(())
    }

    /// `count` clips among rows of a kind, each from a shard of its own; of any kind where a shard has none of it.
    fn draw(&self, seeds: &mut Seeds, count: usize, kind: impl Fn(&Clips) -> Vec<i64>) -> Vec<Clips> {
        let draw = |_| {
            let shard = &self.shards[seeds.below(self.shards.len() as u64) as usize];
            let rows = kind(shard);
            let rows = if rows.is_empty() { shard.rows(false) } else { rows };
            shard.select(&[rows[seeds.below(rows.len() as u64) as usize]])
        };
        (0..count).map(draw).collect()
    }

    /// `count` clips, `marked` of them with marks.
    fn batch(&self, seeds: &mut Seeds, count: usize, marked: usize) -> Batch {
        let reconstructed = count / RECONSTRUCTED;
        let marked = marked.min(count - reconstructed);
        let mut clips = self.draw(seeds, count - reconstructed - marked, |shard| shard.rows(false));
        clips.extend(self.draw(seeds, marked, Clips::marked_rows));
        clips.extend(self.draw(seeds, reconstructed, |shard| shard.rows(true)));
        Batch::augmented(&Clips::concatenate(&clips), seeds)
    }
}

/// −ln of what the right answers are given, and 1 where there is one, 0 where the label is −1. Logits `[…, classes]`,
/// labels and results `[…]`.
pub(crate) fn surprise(logits: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    let known = labels.clamp_min(0).unsqueeze(-1);
    let log = logits.log_softmax(-1, Kind::Float).gather(-1, &known, false).squeeze_dim(-1);
    (-log, labels.ge(0).to_kind(Kind::Float))
}

/// The mean of that over the answers there are.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let (surprise, weight) = surprise(logits, labels);
    (surprise * &weight).sum(Kind::Float) / weight.sum(Kind::Float).clamp_min(1.0)
}

/// Labels of `question` for every frame where enough of the subject is seen, two cells; −1 elsewhere. Labels
/// `[B, questions]`, maps in 0…1 `[B, T, MAPS, h, w]` → `[B, T]`.
pub(crate) fn frame_labels(labels: &Tensor, maps: &Tensor, question: Question) -> Tensor {
    let seen = maps.select(2, 0).sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float).ge(2.0);
    let label = labels.select(1, question as i64).unsqueeze(1); // [B, 1]
    label.expand_as(&seen).masked_fill(&seen.logical_not(), -1)
}

/// Losses of a batch: clip answers, frame answers, maps.
fn losses(probe: &Probe, batch: &Batch, dropout: f64) -> [Tensor; 3] {
    let reading = probe.forward_with_dropout(&batch.video, dropout);
    let device = batch.video.device();
    let mut answers = Tensor::zeros([], (Kind::Float, device));
    for (q, logits) in reading.answers.iter().enumerate() {
        answers += cross_entropy(logits, &batch.labels.select(1, q as i64));
    }
    let per_frame = |question| frame_labels(&batch.labels, &batch.maps, question);
    let frames = cross_entropy(&reading.frame_colour, &per_frame(Question::Colour))
        + cross_entropy(&reading.frame_subject, &per_frame(Question::Subject));
    let weights = Tensor::from_slice(&[1.0, 1.0, MARKED_WEIGHT as f32]).view([MAPS, 1, 1]).to_device(device);
    let maps = reading.maps.binary_cross_entropy_with_logits(
        &batch.maps,
        None::<&Tensor>,
        Some(&weights),
        tch::Reduction::Mean,
    );
    [answers, frames, maps]
}

/// One step of a training, and its line in the tables.
pub(crate) fn learn(
    run: &Run,
    bar: &indicatif::ProgressBar,
    (probe, parameters, adam): (&Probe, &mut Parameters, &mut AdamW),
    batch: &Batch,
    (step, rate): (u64, f64),
) -> anyhow::Result<()> {
    let [answers, frames, maps] = losses(probe, batch, DROPOUT);
    (&answers + &frames * 0.3 + &maps * 5.0).backward();
    let gradient = parameters.take_gradients();
    let norm = adam.step(&mut parameters.flat, &gradient, rate)?;
    let [answers, frames, maps] = [&answers, &frames, &maps].map(|t| t.double_value(&[]));
    run.log(
        "step,answers,frames,maps,gradient_norm,rate",
        &[(step + 1) as f64, answers, frames, maps, norm, rate],
    )?;
    bar.set_message(format!("answers {answers:.3} maps {maps:.4}"));
    bar.inc(1);
    Ok(())
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let check = |what: &str, value: u64| {
        anyhow::ensure!(
            value > 0 && value.is_multiple_of(SHARD),
            "{what} is {value}, it must be a multiple of {SHARD}"
        );
        Ok(())
    };
    check("clips", args.clips)?;
    check("held-out", args.held_out)?;
    anyhow::ensure!(
        args.batch >= RECONSTRUCTED,
        "batch is {}, it must be at least {RECONSTRUCTED}",
        args.batch
    );
    let channels: [i64; 2] = args.channels.as_slice().try_into().context("channels are two numbers")?;
    anyhow::ensure!(
        channels.iter().all(|c| *c > 0 && c % 8 == 0),
        "channels are {channels:?}, they must be multiples of 8"
    );
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let config = presets::settle(&args.run, ProbeConfig { channels, ..ProbeConfig::default() })?;
    let (mut parameters, probe) = Parameters::build(device, args.compute.seed, |w| Probe::new(w, &config))?;
    if let Some(init) = &args.init {
        parameters.begin_at_less(&init.join(file::WEIGHTS))?;
    }
    let mut adam = AdamW::new(&parameters.flat, 0.05, 0.99).with_muon(parameters.hidden_matrices());
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    eprintln!("probe: {} parameters, {done} of {} steps done", parameters.len(), args.steps);

    let dir = run.file("clips");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let vae = if args.no_vae { None } else { Some(origin::digest(&args.vae)?) };
    let begun = Origin { vae, seed: args.compute.seed, domain: args.domain.name() };
    origin::settle(&dir.join("origin.json"), begun, "clips")?;
    let source = |purpose, name| Source {
        domain: args.domain,
        seed: args.compute.seed,
        purpose,
        name,
        small: name != "held-out",
    };
    let vae = || if args.no_vae { Ok(None) } else { file::open_vae(&args.vae).map(Some) };
    let held_out = source(Purpose::Evaluation, "held-out").shards(dir.clone(), args.held_out / SHARD, vae()?);
    let mut held_out = Pool { receiver: held_out, shards: Vec::new() };
    let shards = args.clips / SHARD;
    let receiver = source(Purpose::Probe, "clips").shards(dir, shards, vae()?);
    let mut pool = Pool { receiver, shards: Vec::new() };

    let bar = progress::bar(args.steps, done);
    for step in done..args.steps {
        pool.grow_to(available(step, args.steps, shards))?;
        let mut seeds = Seeds::new(args.compute.seed, step, 8);
        let batch = pool.batch(&mut seeds, args.batch, marked(step, args.steps)).on(device);
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        learn(&run, &bar, (&probe, &mut parameters, &mut adam), &batch, (step, rate))?;
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            held_out.grow_to(args.held_out / SHARD)?;
            let clips = Clips::concatenate(&held_out.shards);
            let average = adam.average.copy();
            let report = || report(&parameters, &average, &clips, &config, (args, step + 1));
            bar.suspend(report)?;
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
        }
    }
    bar.finish();
    Ok(())
}

/// Measures the averaged parameters and writes them.
fn report(
    parameters: &Parameters,
    values: &Tensor,
    held_out: &Clips,
    config: &ProbeConfig,
    (args, step): (&Args, u64),
) -> anyhow::Result<()> {
    let (mut copy, probe) = Parameters::build(Device::Cpu, 0, |w| Probe::new(w, config))?;
    tch::no_grad(|| copy.flat.copy_(values));
    let accuracy = |reconstructed| measure(&probe, held_out, &held_out.rows(reconstructed));
    let (renders, reconstructions) = (accuracy(false), accuracy(true));
    eprintln!("step {step}: unseen renders: {}", renders.line());
    eprintln!("step {step}: through the VAE: {}", reconstructions.line());
    if step == args.steps {
        for line in renders.confusions(12) {
            eprintln!("  {line}");
        }
    }
    let named = |tallies: &[Tally]| {
        Question::ALL.iter().zip(tallies).map(|(q, tally)| (q.name().to_owned(), *tally)).collect()
    };
    let card = file::Card {
        config: config.clone(),
        domain: args.domain.name(),
        steps: step,
        marked_weight: MARKED_WEIGHT,
        renders: named(&renders.tallies),
        reconstructions: named(&reconstructions.tallies),
    };
    file::write(&args.run, parameters, values, &card)
}
