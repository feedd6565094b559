//! Videos that a student restyles as the product does it, and what it learns from how that differs from the target.
//!
//! A pair's source is restyled in the student's own steps, and the difference to the target goes back through all of
//! them. The style and the source say almost everything about the target, so there is little for a diffusion model to
//! choose from: this is image translation by the absolute difference and a critic of patches (pix2pix, Isola et al.,
//! arXiv 1611.07004).
//!
//! The frames before the one that is made are those of the target, or what the student makes of the source behind
//! these: its own slips, in two passes instead of one for each frame (scheduled sampling for transformers, Mihaylova and
//! Martins, arXiv 1906.07651).
//!
//! A walk costs as many passes as it has steps. Some commissions are of one step alone, from a place on the straight way
//! from the noisy source to the target, which a flow between pairs goes (Liu et al., arXiv 2209.03003): of these, more go
//! into the same time, and from the first place this is the walk's own first step.

use sora_diffusion::models::transformer_wan::CleanFrames;
use sora_diffusion::pipelines::source_levels;
use tch::{Device, Kind, Tensor};

use super::assignment::MEMORY;
use crate::clips::Clips;
use crate::seeds::Seeds;
use crate::transformer::{TextToLatents, euler};

/// Options of what a student restyles itself.
#[derive(clap::Args)]
pub(super) struct Restyling {
    /// Share of the steps of pairs in which the student restyles their sources itself, instead of following its teacher,
    /// 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = crate::transformer::share)]
    restyled: f64,
    /// Share of these in which it takes one step alone, 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = crate::transformer::share)]
    pub(super) single_steps: f64,
    /// Weight of the mean absolute difference to the targets, beside the loss of a lesson.
    #[arg(long, default_value_t = 1.0, value_parser = crate::transformer::weight)]
    pub(super) likeness_weight: f64,
}

impl Restyling {
    /// Whether step `step`, which is about pairs, has their sources restyled.
    pub(super) fn is_due(&self, seed: u64, step: u64) -> bool {
        f64::from(Seeds::new(seed, step, 11).unit()) < self.restyled
    }
}

/// Sources to restyle.
pub(super) struct Commission {
    /// Normalised latents `[B, C, F, h, w]`.
    source: Tensor,
    /// What they are to become, likewise.
    pub(super) target: Tensor,
    /// Noise of a frame, the same for all of them: `[B, C, 1, h, w]`.
    pub(super) noise: Tensor,
    /// How much is made anew, as of `soratransform`.
    strength: f64,
    /// What is to be made of them.
    way: Way,
    /// Seed of what a critic draws that looks at them.
    pub(super) seed: u64,
}

/// How a commission is carried out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// In all steps, behind frames of the target.
    Walk,
    /// In all steps, behind frames of the student's own.
    OwnWalk,
    /// Straight to the end from where one of the steps begins: which, as a share of them, 0 for the first.
    Step(f64),
}

/// The default of `soratransform`, which half of the commissions are of.
const STRENGTH: f64 = 0.75;
/// The least of the others.
const WEAKEST: f32 = 0.5;
/// Frames from the first on before any is forgotten: what the product remembers, and the one that is made.
const REMEMBERED: i64 = MEMORY.frames + 1;

impl Commission {
    /// Draws pairs and their prompts: as many as [`Clips::draw_length`] says for `batch`.
    pub(super) fn draw<'a>(
        pairs: &'a Clips,
        seeds: &mut Seeds,
        (batch, single_steps): (usize, f64),
        device: Device,
    ) -> (Self, Vec<&'a [i64]>) {
        let bucket = pairs.draw_bucket(seeds);
        let (way, batch) = match f64::from(seeds.unit()) < single_steps {
            // What the first step makes is most of the way.
            true if seeds.below(2) == 0 => (Way::Step(0.0), 2 * batch),
            true => (Way::Step(seeds.unit().into()), 2 * batch),
            false if seeds.below(2) == 0 => (Way::OwnWalk, batch),
            false => (Way::Walk, batch),
        };
        // Half are pictures: what a style does to one is most of what there is to learn.
        let (frames, batch) = pairs.draw_length(bucket, seeds, (batch, 5));
        let frames = frames.min(REMEMBERED);
        let (rows, tokens) = pairs.read_captions(bucket, &pairs.draw_captions(bucket, seeds, batch));
        let latents =
            |of: &Tensor| pairs.normalise(&of.index_select(0, &rows).narrow(2, 0, frames)).to_device(device);
        let source = pairs.sources[bucket].as_ref().map(latents).expect("pairs have sources");
        let target = latents(&pairs.latents[bucket]);
        let strength = if seeds.below(2) == 0 { STRENGTH } else { f64::from(seeds.range(WEAKEST, 1.0)) };
        let (b, c, _, h, w) = source.size5().expect("B C F h w");
        let noise = sora_diffusion::noise::seeded_noise(seeds.next_u64(), &[b, c, 1, h, w]).to_device(device);
        (Self { source, target, noise, strength, way, seed: seeds.next_u64() }, tokens)
    }

    /// As the product restyles them, but that frames are made behind those that were made behind the targets.
    pub(super) fn to_look_at(source: &Tensor, target: &Tensor) -> Self {
        let frames = target.size()[2].min(REMEMBERED);
        let [source, target] = [source, target].map(|latents| latents.narrow(2, 0, frames));
        let (b, c, _, h, w) = source.size5().expect("B C F h w");
        let noise = sora_diffusion::noise::seeded_noise(7, &[b, c, 1, h, w]).to_device(source.device());
        Self { source, target, noise, strength: STRENGTH, way: Way::OwnWalk, seed: 0 }
    }

    #[cfg(test)]
    pub(super) fn of(source: Tensor, target: Tensor, (strength, way): (f64, Way)) -> Self {
        Self {
            noise: Seeds::new(1, 0, 0).normal(&source.narrow(2, 0, 1).size()),
            source,
            target,
            strength,
            way,
            seed: 0,
        }
    }

    /// Mean absolute difference of what was made to the targets.
    pub(super) fn difference(&self, made: &Tensor) -> Tensor {
        (made - &self.target).abs().mean(Kind::Float)
    }

    pub(super) fn part(&self, start: i64, len: i64) -> Self {
        let part = |t: &Tensor| t.narrow(0, start, len);
        let Self { source, target, noise, strength, way, seed } = self;
        Self {
            source: part(source),
            target: part(target),
            noise: part(noise),
            strength: *strength,
            way: *way,
            seed: seed.wrapping_add(start as u64),
        }
    }

    /// What the student makes of the sources, `[B, C, F, h, w]`, where a whole schedule has `steps` steps: each frame over
    /// what it remembers of the finished frames before it, all frames at once. Gradients go back through all steps of a
    /// frame, not through what is remembered. Beside it what the student was shown of the sources, `[B, …, F, h, w]`.
    pub(super) fn restyle(
        &self,
        student: &TextToLatents,
        tokens: &[&[i64]],
        (steps, flow_shift): (u32, f64),
    ) -> (Tensor, Tensor) {
        let levels = source_levels(self.strength, steps.into(), flow_shift);
        let context = student.context(tokens, self.source.device());
        let clean = Tensor::zeros([self.source.size()[0]], (Kind::Float, self.source.device()));
        // An encoder has learned before.
        let shown = tch::no_grad(|| student.transformer.encode_source(&self.source, &context));
        let beside = |x: &Tensor| Tensor::cat(&[x, &shown], 1);
        let begin = &self.source + (&self.noise - &self.source) * levels[0];
        // A single frame has no past.
        let is_clip = self.source.size()[2] > 1;
        let past = |of: &Tensor| {
            let look = || student.transformer.clean_frames(&beside(of), &clean, &context);
            is_clip.then(|| tch::no_grad(look))
        };
        let walk = |x: Tensor, levels: &[f64], past: &Option<CleanFrames>| {
            euler(x, levels, |x, sigma| match past {
                Some(past) => {
                    student.transformer.forward_frames(&beside(x), &(sigma * 1000.0), &context, past)
                }
                None => student.velocity(&beside(x), sigma, &context, None),
            })
        };
        let behind = past(&self.target);
        let made = match self.way {
            Way::OwnWalk if is_clip => {
                let made = tch::no_grad(|| walk(begin.shallow_clone(), &levels, &behind));
                walk(begin, &levels, &past(&made))
            }
            Way::Walk | Way::OwnWalk => walk(begin, &levels, &behind),
            Way::Step(share) => {
                let level = levels[(share * (levels.len() - 1) as f64) as usize];
                let x = &self.target + (begin - &self.target) * (level / levels[0]);
                walk(x, &[level, 0.0], &behind)
            }
        };
        (made, shown)
    }
}
