//! What a student is asked to draw, and how it draws it.
//!
//! A clip is drawn in the student's few steps, and what its judges miss goes back through all of them: direct reward
//! fine-tuning (Clark et al., arXiv 2309.17400) of a few-step model between its distillation lessons (as in
//! T2V-Turbo, arXiv 2405.18750), which keep it near its teacher. A stream is drawn frame by frame over the cache of keys
//! and values of its own earlier frames, as the product does (Self-Forcing, arXiv 2506.08009); it goes on from step to
//! step of the training, up to a minute, so that the frames that are judged are as old as those that are watched.

use sora_diffusion::models::transformer_wan::{CacheLimits, KvCache, TextContext};
use tch::{Device, Kind, Tensor};

use crate::clips::{Caption, Clips};
use crate::seeds::Seeds;
use crate::transformer::{TextToLatents, euler};

/// What a stream of the product remembers (`Pipeline::default_memory` for five latent frames, one of them new).
pub(super) const MEMORY: CacheLimits = CacheLimits { sink: 1, frames: 4 };
/// Streams that go on beside each other, times the batch.
const COHORTS: usize = 4;
/// Latent frames after which a stream ends, at most: a minute at 8 frames a second.
const LONGEST: u64 = 120;

/// Clips or frames of streams that a student is to draw.
pub(super) struct Assignment {
    /// What the prompts name, −1 for what they do not; `[B, questions]`.
    pub(super) named: Tensor,
    /// Encoded clips of these prompts, `[B, C, F, h, w]`, normalised.
    pub(super) encoded: Tensor,
    /// The stream that goes on; `None` for whole clips.
    pub(super) stream: Option<Stretch>,
    pub(super) seed: u64,
}

/// A few frames of a stream, of which the last is judged.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    cohort: usize,
    /// Whether it begins here.
    begins: bool,
    /// Frames before the one that is judged.
    unjudged: i64,
}

/// Which streams there are, and how old they are.
pub(super) struct Plans<'a> {
    pub(super) plans: Vec<Plan<'a>>,
}

#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) age: u64,
    pub(super) limit: u64,
    pub(super) prompts: Option<Prompts<'a>>,
}

/// Prompts of one batch, with what is known of them.
pub(super) struct Prompts<'a> {
    pub(super) bucket: usize,
    pub(super) captions: Vec<Caption>,
    tokens: Vec<&'a [i64]>,
    named: Tensor,
    encoded: Tensor,
}

impl<'a> Prompts<'a> {
    /// `named` are the answers for each of the clips' buckets.
    fn draw((clips, named): (&'a Clips, &[Tensor]), seeds: &mut Seeds, batch: usize, device: Device) -> Self {
        let bucket = clips.draw_bucket(seeds);
        Self::of((clips, named), bucket, clips.draw_captions(bucket, seeds, batch), device)
    }

    /// Those of these captions.
    pub(super) fn of(
        (clips, named): (&'a Clips, &[Tensor]),
        bucket: usize,
        captions: Vec<Caption>,
        device: Device,
    ) -> Self {
        let (rows, tokens) = clips.read_captions(bucket, &captions);
        Self {
            bucket,
            captions,
            tokens,
            named: named[bucket].index_select(0, &rows).to_device(device),
            encoded: clips.normalise(&clips.latents[bucket].index_select(0, &rows)).to_device(device),
        }
    }
}

impl<'a> Plans<'a> {
    pub(super) fn new() -> Self {
        Self { plans: (0..COHORTS).map(|_| Plan::default()).collect() }
    }

    /// What the next step is to draw: whole clips, or a stretch of streams (`streams` is their share).
    pub(super) fn next(
        &mut self,
        (clips, named): (&'a Clips, &[Tensor]),
        seeds: &mut Seeds,
        (batch, streams): (usize, f64),
        device: Device,
    ) -> (Assignment, Vec<&'a [i64]>) {
        if f64::from(seeds.unit()) >= streams {
            let Prompts { tokens, named, encoded, .. } = Prompts::draw((clips, named), seeds, batch, device);
            return (Assignment { named, encoded, stream: None, seed: seeds.next_u64() }, tokens);
        }
        let cohort = seeds.below(COHORTS as u64) as usize;
        let plan = &mut self.plans[cohort];
        // One that has none yet is at its limit of 0.
        let begins = plan.age >= plan.limit;
        if begins {
            plan.prompts = Some(Prompts::draw((clips, named), seeds, batch, device));
            (plan.age, plan.limit) = (0, 4 + seeds.below(LONGEST - 3));
        }
        let unjudged = 1 + seeds.below(3) as i64;
        plan.age += unjudged as u64 + 1;
        let prompts = plan.prompts.as_ref().expect("drawn above");
        let assignment = Assignment {
            named: prompts.named.shallow_clone(),
            encoded: prompts.encoded.shallow_clone(),
            stream: Some(Stretch { cohort, begins, unjudged }),
            seed: seeds.next_u64(),
        };
        (assignment, prompts.tokens.clone())
    }
}

/// Frames of streams that one pupil draws.
#[derive(Default)]
pub(super) struct Streams(pub(super) Vec<Option<Stream>>);

pub(super) struct Stream {
    pub(super) cache: KvCache,
    /// The last frames, four at most, `[B, C, F, h, w]`.
    pub(super) last: Tensor,
}

impl Assignment {
    #[cfg(test)]
    pub(super) fn whole(named: Tensor, encoded: Tensor, seed: u64) -> Self {
        Self { named, encoded, stream: None, seed }
    }

    #[cfg(test)]
    pub(super) fn stretch(
        named: Tensor,
        encoded: Tensor,
        (begins, unjudged): (bool, i64),
        seed: u64,
    ) -> Self {
        Self { stream: Some(Stretch { cohort: 0, begins, unjudged }), ..Self::whole(named, encoded, seed) }
    }

    pub(super) fn part(&self, start: i64, len: i64) -> Self {
        let part = |t: &Tensor| t.narrow(0, start, len);
        Self {
            named: part(&self.named),
            encoded: part(&self.encoded),
            stream: self.stream,
            seed: self.seed.wrapping_add(start as u64),
        }
    }

    /// Draws between `levels`: whole clips `[B, C, F, h, w]`, or the last frames of streams, four and the one that is judged,
    /// or as many as there are.
    pub(super) fn draw(
        &self,
        student: &TextToLatents,
        streams: &mut Streams,
        tokens: &[&[i64]],
        levels: &[f64],
    ) -> Tensor {
        let device = self.encoded.device();
        let mut seeds = Seeds::new(self.seed, 0, 0);
        let context = student.context(tokens, device);
        let mut noise = |frames: i64| {
            let mut size = self.encoded.size();
            size[2] = frames;
            // Not the process's generator: replicas draw beside each other.
            let size: [i64; 5] = size.try_into().expect("B C F h w");
            sora_diffusion::noise::seeded_noise(seeds.next_u64(), &size).to_device(device)
        };
        let Some(stretch) = self.stream else {
            return euler(noise(self.encoded.size()[2]), levels, |x, sigma| {
                student.velocity(x, sigma, &context, None)
            });
        };
        streams.0.resize_with(COHORTS, || None);
        let mut frame = |stream: &Stream| {
            euler(noise(1), levels, |x, sigma| {
                student.transformer.forward_block(x, &(sigma * 1000.0), &context, &stream.cache)
            })
        };
        let fresh = || Stream {
            cache: KvCache::new(&student.transformer, MEMORY),
            last: self.encoded.narrow(2, 0, 0),
        };
        let mut stream = streams.0[stretch.cohort].take().filter(|_| !stretch.begins).unwrap_or_else(fresh);
        for _ in 0..stretch.unjudged {
            let _no_grad = tch::no_grad_guard();
            let drawn = frame(&stream);
            stream.remember(student, &context, &drawn);
        }
        let drawn = frame(&stream);
        let seen = Tensor::cat(&[&stream.last, &drawn], 2);
        tch::no_grad(|| stream.remember(student, &context, &drawn.detach()));
        streams.0[stretch.cohort] = Some(stream);
        seen
    }
}

impl Stream {
    fn remember(&mut self, student: &TextToLatents, context: &TextContext, frame: &Tensor) {
        let clean = Tensor::zeros([frame.size()[0]], (Kind::Float, frame.device()));
        student.transformer.remember_block(frame, &clean, context, &mut self.cache);
        let last = Tensor::cat(&[&self.last, frame], 2);
        let frames = last.size()[2];
        let kept = frames.min(MEMORY.frames);
        self.last = last.narrow(2, frames - kept, kept);
    }
}
