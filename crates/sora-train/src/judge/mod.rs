//! A network that reads latents: the probe's, on what the transformer makes instead of on pictures.
//!
//! A student is taught by it to show what its prompt says (`distil --judge`). It shares neither weights nor scenes
//! nor its view with the probe that reads the finished clips for the evaluation.

mod complaint;
#[cfg(test)]
mod tests;
pub(crate) mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::truth::{Origin, Truth};
use crate::data::{DomainChoice, Purpose};
use crate::latents::{Dataset, Statistics};
use crate::optimizer::{AdamW, learning_rate};
use crate::parameters::Parameters;
use crate::probe::accuracy::{Accuracy, CHUNK, Tally};
use crate::probe::augment::Batch;
use crate::probe::file;
use crate::probe::network::{Input, Probe, ProbeConfig};
use crate::probe::questions::Question;
use crate::probe::{MARKED_WEIGHT, learn};
use crate::run::{Compute, Run};
use crate::seeds::Seeds;
use crate::{checkpoint, json, presets, progress};

/// Options of `sora-train judge`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folder; a checkpoint in it is continued.
    #[arg(long, default_value = "runs/judge")]
    run: PathBuf,
    /// Folder of `sora-train latents`.
    #[arg(long, default_value = "runs/latents")]
    latents: PathBuf,
    /// Seed that they were drawn with.
    #[arg(long, default_value_t = 1)]
    latents_seed: u64,
    /// Folder of `sora-train latents --validation`, to measure on.
    #[arg(long, default_value = "runs/validation")]
    validation: PathBuf,
    /// Seed that these were drawn with.
    #[arg(long, default_value_t = 1)]
    validation_seed: u64,
    /// Scenes of both.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
    /// Channels at the size of the latents and at half of it, multiples of 8.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128])]
    channels: Vec<i64>,
    /// Steps in all.
    #[arg(long, default_value_t = 2000)]
    steps: u64,
    /// Clips per step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 4e-3, value_parser = crate::run::rate)]
    learning_rate: f64,
    #[command(flatten)]
    compute: Compute,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 250, value_parser = crate::run::at_least_one::<u64>)]
    every: u64,
}

/// The config of a run, `config.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    probe: ProbeConfig,
    /// What its latents are normalised by.
    statistics: Statistics,
}

/// Clips of one shape.
struct Encoded {
    /// As the VAE gives them, `[N, C, T, h, w]`.
    latents: Tensor,
    labels: Tensor,
    maps: Tensor,
}

/// What a folder of latents holds, and what is true of it.
fn known(data: Dataset, origin: Origin) -> anyhow::Result<Vec<Encoded>> {
    let bar = progress::bar(data.len() as u64, 0);
    bar.set_message("scenes");
    let known = data.buckets.into_iter().map(|bucket| {
        let truth = Truth::of(&bucket, origin)?;
        let size: [i64; 3] = bucket.latents.size()[2..].try_into().context("latents are N C T H W")?;
        Ok(Encoded { maps: truth.maps(size, || bar.inc(1)), labels: truth.labels, latents: bucket.latents })
    });
    let known = known.collect();
    bar.finish_and_clear();
    known
}

impl Encoded {
    /// These rows as the network sees them.
    fn batch(&self, rows: &[i64], statistics: &Statistics, device: Device) -> Batch {
        let rows = Tensor::from_slice(rows);
        let latents = statistics.normalise(&self.latents.index_select(0, &rows));
        Batch {
            video: latents.transpose(1, 2).contiguous().to_device(device),
            maps: (self.maps.index_select(0, &rows).to_kind(Kind::Float) / 255.0).to_device(device),
            labels: self.labels.index_select(0, &rows).to_device(device),
        }
    }
}

/// Slips of a generator: noise, of one strength in all frames, on half of the clips; on one in four the frames run into
/// each other.
fn degraded(latents: &Tensor, seeds: &mut Seeds) -> Tensor {
    let (b, t, _, _, _) = latents.size5().expect("B T C H W");
    let mut strength = || if seeds.below(2) == 0 { 0.0 } else { seeds.range(0.0, 0.5) };
    let noise: Vec<f32> = (0..b).map(|_| strength()).collect();
    let smear: Vec<f32> =
        (0..b).map(|_| if seeds.below(4) == 0 { seeds.range(0.0, 0.3) } else { 0.0 }).collect();
    let per_clip =
        |values: &[f32]| Tensor::from_slice(values).view([b, 1, 1, 1, 1]).to_device(latents.device());
    tch::manual_seed(seeds.next_u64() as i64);
    let before = Tensor::cat(&[latents.narrow(1, 0, 1), latents.narrow(1, 0, t - 1)], 1);
    latents + (before - latents) * per_clip(&smear) + latents.randn_like() * per_clip(&noise)
}

/// Trains until `steps`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let channels: [i64; 2] = args.channels.as_slice().try_into().context("channels are two numbers")?;
    anyhow::ensure!(
        channels.iter().all(|c| *c > 0 && c % 8 == 0),
        "channels are {channels:?}, they must be multiples of 8"
    );
    anyhow::ensure!(args.batch > 0, "batch is 0, it must be at least 1");
    let run = Run::create(&args.run, Some(args.compute.seed))?;
    let device = args.compute.begin()?;
    let data = Dataset::open(&args.latents)?;
    let input = Input::Latents(data.buckets[0].latents.size()[1]);
    let probe = ProbeConfig { channels, input, ..ProbeConfig::default() };
    // A run keeps what it was begun with, also when the data has grown since.
    let statistics =
        presets::held::<Config>(&args.run)?.map_or_else(|| data.statistics(), |held| held.statistics);
    let config = presets::settle(&args.run, Config { probe, statistics })?;
    let origin = |seed, purpose| Origin { seed, purpose, domain: args.domain };
    let clips = known(data, origin(args.latents_seed, Purpose::Latents))?;
    let unseen = known(Dataset::open(&args.validation)?, origin(args.validation_seed, Purpose::Validation))?;

    let (mut parameters, probe) =
        Parameters::build(device, args.compute.seed, |w| Probe::new(w, &config.probe))?;
    let mut adam = AdamW::new(&parameters.flat, 0.05, 0.99).with_muon(parameters.hidden_matrices());
    let done = checkpoint::resume(&run.checkpoint(), &mut parameters, &mut adam)?;
    run.drop_rows_after(done)?;
    eprintln!("judge: {} parameters, {done} of {} steps done", parameters.len(), args.steps);
    let bar = progress::bar(args.steps, done);
    for step in done..args.steps {
        let mut seeds = Seeds::new(args.compute.seed, step, 10);
        // A batch is of one shape; a shape is drawn as often as its clips are many.
        let known = &clips[seeds.one_of(clips.iter().map(|known| known.latents.size()[0] as usize))];
        let n = known.latents.size()[0] as u64;
        let rows: Vec<i64> = (0..args.batch).map(|_| seeds.below(n) as i64).collect();
        let mut batch = known.batch(&rows, &config.statistics, device);
        batch.video = degraded(&batch.video, &mut seeds);
        let rate = learning_rate(args.learning_rate, step, 50, args.steps);
        learn(&run, &bar, (&probe, &mut parameters, &mut adam), &batch, (step, rate))?;
        if (step + 1) % args.every == 0 || step + 1 == args.steps {
            let average = adam.average.copy();
            let accuracy =
                parameters.with_values(&average, || measure(&probe, &unseen, &config.statistics, device));
            bar.suspend(|| eprintln!("step {}: unseen clips: {}", step + 1, accuracy.line()));
            let rows = Question::ALL.iter().zip(accuracy.tallies).zip(commonest(&unseen));
            let known = rows.map(|((q, tally), commonest)| (q.name().to_owned(), Known { tally, commonest }));
            let card = file::Card {
                config: config.probe.clone(),
                domain: args.domain.name(),
                steps: step + 1,
                marked_weight: MARKED_WEIGHT,
                renders: Default::default(),
                reconstructions: Default::default(),
            };
            file::write(&args.run, &parameters, &average, &card)?;
            json::write(&run.file(KNOWLEDGE), &known.collect::<Knowledge>())?;
            // Last: a run that is killed before takes the steps again, and writes again what belongs to them.
            checkpoint::save(&run.checkpoint(), &parameters, &adam)?;
        }
    }
    bar.finish();
    Ok(())
}

/// How often the network is right about unseen clips.
fn measure(probe: &Probe, unseen: &[Encoded], statistics: &Statistics, device: Device) -> Accuracy {
    let _no_grad = tch::no_grad_guard();
    let mut accuracy = Accuracy::default();
    for known in unseen {
        let rows: Vec<i64> = (0..known.latents.size()[0]).collect();
        for rows in rows.chunks(CHUNK) {
            let batch = known.batch(rows, statistics, device);
            accuracy.count(probe, &batch.video, &batch.labels);
        }
    }
    accuracy
}

/// How often the commonest answer to each question is right.
fn commonest(unseen: &[Encoded]) -> Vec<f64> {
    let labels: Vec<&Tensor> = unseen.iter().map(|clips| &clips.labels).collect();
    let labels = Tensor::cat(&labels, 0);
    let share = |question: Question| {
        let answers = Vec::<i64>::try_from(labels.select(1, question as i64)).expect("a list of numbers");
        let count = |class| answers.iter().filter(|answer| **answer == class).count();
        let most = (0..question.classes()).map(count).max().unwrap_or(0);
        most as f64 / answers.iter().filter(|answer| **answer >= 0).count().max(1) as f64
    };
    Question::ALL.into_iter().map(share).collect()
}

/// What a judge knows of one question, from clips it did not learn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    /// Its own answers.
    tally: Tally,
    /// Share of right answers of one that always gives the commonest.
    commonest: f64,
}

impl Known {
    /// Whether it may teach this: right on most answers, and on most of those that the commonest is not.
    fn is_trusted(self) -> bool {
        let share = self.tally.share();
        share >= TRUSTED && share - self.commonest >= (1.0 - self.commonest) / 2.0
    }
}

/// By the names of the questions.
type Knowledge = BTreeMap<String, Known>;

/// The file in the run folder that holds it.
const KNOWLEDGE: &str = "knowledge.json";

/// A trained judge.
pub(crate) struct Judge {
    probe: Probe,
    /// Questions that it answers rightly often enough to teach.
    trusted: Vec<Question>,
    statistics: Statistics,
}

/// Share of right answers from which on a judge is trusted with a question.
const TRUSTED: f64 = 0.8;

impl Judge {
    /// Opens a run folder of `sora-train judge`, for latents of so many channels.
    ///
    /// # Errors
    /// If there is none, it reads others, or it can be trusted with nothing.
    pub(crate) fn open(dir: &Path, channels: i64, device: Device) -> anyhow::Result<Self> {
        let config: Config = presets::read(dir)?;
        anyhow::ensure!(
            config.probe.input == Input::Latents(channels),
            "the judge in {} reads {:?}, these latents have {channels} channels",
            dir.display(),
            config.probe.input
        );
        let (probe, _) = file::open(dir, device)?;
        let path = dir.join(KNOWLEDGE);
        let known: Knowledge = json::read(&path)?;
        let is_trusted = |q: &Question| known.get(q.name()).is_some_and(|known| known.is_trusted());
        let trusted: Vec<Question> = Question::ALL.into_iter().filter(is_trusted).collect();
        anyhow::ensure!(
            !trusted.is_empty(),
            "the judge in {} is right on less than {TRUSTED} of the answers to every question, or hardly more often than \
             one that always gives the commonest: train it further",
            dir.display()
        );
        Ok(Self { probe, trusted, statistics: config.statistics })
    }

    /// One that has learned nothing, for latents of so many channels.
    #[cfg(test)]
    pub(crate) fn untrained(channels: i64, trusted: Vec<Question>) -> Self {
        let input = Input::Latents(channels);
        let config =
            ProbeConfig { channels: [8, 16], token: 32, feature: 16, close: true, compares: true, input };
        let (_, probe) = Parameters::build(Device::Cpu, 1, |w| Probe::new(w, &config)).expect("a probe");
        let count = channels as usize;
        Self { probe, trusted, statistics: Statistics { mean: vec![0.0; count], std: vec![1.0; count] } }
    }

    /// What it may be asked.
    pub(crate) fn trusted(&self) -> &[Question] {
        &self.trusted
    }
}
