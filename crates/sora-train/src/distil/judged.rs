//! Who reads what a student draws: a judge, of what it shows, and a critic, of how it looks.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tch::{Device, Tensor};

use super::assignment::{Assignment, Streams};
use super::critic::{Critic, Frames};
use crate::checkpoint::{self, Beside};
use crate::data::{DomainChoice, Purpose};
use crate::judge::Judge;
use crate::judge::truth::{Origin, Truth};
use crate::latents::{Dataset, Statistics};
use crate::optimizer::AdamW;
use crate::parameters::{Leaves, Parameters};
use crate::transformer::TextToLatents;

/// A judge that some of the steps ask.
#[derive(clap::Args)]
pub(super) struct Judging {
    /// Run folder of `sora-train judge`: with it some steps teach what it misses in clips that the student drew.
    #[arg(long)]
    judge: Option<PathBuf>,
    /// Share of the steps that do, 0 to 1.
    #[arg(long, default_value_t = 0.6, value_parser = crate::transformer::share)]
    pub(super) judged: f64,
    /// Share of those that are about streams, 0 to 1.
    #[arg(long, default_value_t = 0.4, value_parser = crate::transformer::share)]
    pub(super) streams: f64,
    /// Weight of what it misses, beside the loss of a lesson.
    #[arg(long, default_value_t = 0.15, value_parser = crate::transformer::weight)]
    judge_weight: f64,
    /// Weight of what a critic sees that learns to tell drawn latents from encoded ones; 0 for none.
    #[arg(long, default_value_t = 0.0, value_parser = crate::transformer::weight)]
    pub(super) critic_weight: f64,
    /// Peak learning rate of the critic.
    #[arg(long, default_value_t = 5e-4, value_parser = crate::run::rate)]
    critic_learning_rate: f64,
    /// Seed that the latents were drawn with.
    #[arg(long, default_value_t = 1)]
    latents_seed: u64,
    /// Their scenes.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
}

impl Judging {
    /// What the captions of the latents name, a tensor for each bucket; none without a judge.
    pub(super) fn named(&self, data: &Dataset) -> anyhow::Result<Vec<Tensor>> {
        if self.judge.is_none() {
            return Ok(Vec::new());
        }
        let origin = Origin { seed: self.latents_seed, purpose: Purpose::Latents, domain: self.domain };
        data.buckets.iter().map(|bucket| Ok(Truth::of(bucket, origin)?.named)).collect()
    }

    /// The readers of one pupil.
    pub(super) fn readers(
        &self,
        critic: Option<&Training>,
        channels: i64,
        device: Device,
    ) -> anyhow::Result<Option<Readers>> {
        if self.judge.is_none() && critic.is_none() {
            return Ok(None);
        }
        let of_source = critic.map_or(0, |critic| critic.of_source);
        let critic = critic.map(|critic| critic.parameters.replica(|w| Critic::new(w, channels + of_source)));
        Ok(Some(Readers {
            judge: self.judge.as_ref().map(|dir| Judge::open(dir, channels, device)).transpose()?,
            critic: critic.transpose()?,
            of_source,
            streams: Streams::default(),
            complaints: [0.0; 3],
        }))
    }

    /// The critic to be, if one is wanted; it goes on where the run was left, of whose checkpoint at `path` these are. It
    /// looks at latents of so many channels, and at so many more of what is shown of sources.
    pub(super) fn critic(
        &self,
        (path, beside): (&Path, &mut Beside),
        (channels, of_source): (i64, i64),
        device: Device,
        seed: u64,
    ) -> anyhow::Result<Option<Training>> {
        if self.critic_weight == 0.0 {
            return Ok(None);
        }
        let (mut parameters, _) = Parameters::build(device, seed, |w| Critic::new(w, channels + of_source))?;
        let mut adam = AdamW::new(&parameters.flat, 0.0, 0.99);
        checkpoint::restore((path, beside, PREFIX), &mut parameters, &mut adam).context("the critic")?;
        Ok(Some(Training { parameters, adam, rate: self.critic_learning_rate, of_source }))
    }
}

/// Begins the names of what a checkpoint keeps of a critic.
const PREFIX: &str = "critic.";

/// A critic's parameters and its optimizer.
pub(super) struct Training {
    parameters: Parameters,
    adam: AdamW,
    rate: f64,
    /// Channels of sources.
    of_source: i64,
}

/// Its steps until its word has its full weight.
const CREDIT: f64 = 60.0;

impl Training {
    /// How much its word counts by now, 0 to 1.
    pub(super) fn credit(&self) -> f64 {
        (self.adam.step as f64 / CREDIT).min(1.0)
    }

    pub(super) fn len(&self) -> i64 {
        self.parameters.len()
    }

    /// One step, the run being at its step `of_run`.
    pub(super) fn step(&mut self, gradient: &Tensor, of_run: u64) -> anyhow::Result<()> {
        self.adam.step(&mut self.parameters.flat, gradient, self.rate).with_context(|| {
            format!("step {of_run} of the run: the critic, which counts steps of its own")
        })?;
        Ok(())
    }

    /// What a checkpoint keeps of it.
    pub(super) fn kept(&self) -> Beside {
        let state = checkpoint::state(&self.parameters, &self.adam);
        state.into_iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)).collect()
    }
}

/// A judge and a critic that read what one pupil draws; at least one of them.
pub(super) struct Readers {
    pub(super) judge: Option<Judge>,
    critic: Option<(Leaves, Critic)>,
    /// Channels of sources that the critic looks at.
    of_source: i64,
    pub(super) streams: Streams,
    /// Of the last assignment: what the judge missed, how drawn it seemed to the critic, and what that got wrong itself.
    pub(super) complaints: [f64; 3],
}

impl Readers {
    /// Has an assignment drawn and read. Returns the student's loss, and its gradient with that of the critic behind it,
    /// where there is one.
    pub(super) fn read(
        &mut self,
        assignment: &Assignment,
        (student, leaves): (&TextToLatents, &mut Leaves),
        tokens: &[&[i64]],
        (judging, levels, statistics, credit): (&Judging, &[f64], &Statistics, f64),
    ) -> (f64, Tensor) {
        let drawn = assignment.draw(student, &mut self.streams, tokens, levels);
        let judge = self.judge.as_ref().expect("there is a judge where there are assignments");
        let named = &assignment.named;
        // Of a stream the last frame alone is the student's to change, and is not its first.
        let (complaint, seen, frames) = match &assignment.stream {
            None => (judge.complaint(&drawn, named, statistics), drawn, Frames::All),
            Some(_) => {
                let last = drawn.narrow(2, drawn.size()[2] - 2, 2);
                (judge.complaint_of_last(&drawn, named, statistics), last, Frames::Later)
            }
        };
        let missed = complaint.double_value(&[]);
        let loss = (complaint * judging.judge_weight, missed);
        let latents = (&assignment.encoded, &seen);
        let of = (judging.critic_weight * credit, assignment.seed);
        self.criticise(loss, leaves, (latents, None, frames), of)
    }

    /// Adds to a loss what the critic sees in drawn latents, and has it learn from them and encoded ones. Returns the
    /// student's loss, and its gradient with that of the critic behind it, where there is one. `missed` is what the judge
    /// missed, if it was asked; `shown` what both were made of, `[B, of_source, F, h, w]`, if they were made of a source; `seed`
    /// that of what the critic draws.
    pub(super) fn criticise(
        &mut self,
        (mut loss, missed): (Tensor, f64),
        leaves: &mut Leaves,
        ((encoded, seen), shown, frames): ((&Tensor, &Tensor), Option<&Tensor>, Frames),
        (weight, seed): (f64, u64),
    ) -> (f64, Tensor) {
        self.complaints = [missed, 0.0, 0.0];
        let with_shown = |latents: &Tensor| {
            let mut size = latents.size();
            size[1] = self.of_source;
            let shown = shown.map_or_else(
                || Tensor::zeros(size, (latents.kind(), latents.device())),
                Tensor::shallow_clone,
            );
            Tensor::cat(&[latents, &shown], 1)
        };
        let (encoded, seen) = (&with_shown(encoded), &with_shown(seen));
        let Some((critics, critic)) = &mut self.critic else {
            loss.backward();
            return (loss.double_value(&[]), leaves.take_gradients());
        };
        let complaint = critic.complaint(seen, frames);
        self.complaints[1] = complaint.double_value(&[]);
        loss += complaint * weight;
        loss.backward();
        let gradient = leaves.take_gradients();
        // What the student's loss left at the critic is not for it to learn.
        let _ = critics.take_gradients();
        let wrong = critic.lesson((encoded, seen), frames, seed);
        self.complaints[2] = wrong.double_value(&[]);
        wrong.backward();
        (loss.double_value(&[]), Tensor::cat(&[gradient, critics.take_gradients()], 0))
    }
}
