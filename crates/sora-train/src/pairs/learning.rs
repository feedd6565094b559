//! Learning from encoded pairs: which steps do, and a look at what has been learned.

use std::path::{Path, PathBuf};

use sora_diffusion::models::AutoencoderKlWan;
use sora_diffusion::tokenizer::Tokenizer;
use tch::{Device, Tensor};

use crate::clips::Clips;
use crate::latents::{Dataset, Statistics};
use crate::seeds::Seeds;
use crate::transformer::{Configs, decode_rows};

/// Pairs to learn restyling from.
#[derive(clap::Args)]
pub(crate) struct PairsArgs {
    /// Folder of `sora-train latents --pairs`: with it the transformer also learns to restyle what it is shown.
    #[arg(long)]
    pairs: Option<PathBuf>,
    /// Share of the steps that learn from pairs, 0 to 1.
    #[arg(long, default_value_t = 0.35, value_parser = crate::transformer::share)]
    restyling: f64,
}

impl PairsArgs {
    /// Whether restyling is to be learned.
    pub(crate) fn are_given(&self) -> bool {
        self.pairs.is_some()
    }

    /// The pairs, for a network that sees sources.
    pub(crate) fn open(&self, configs: &Configs, tokenizer: &Tokenizer) -> anyhow::Result<Option<Pairs>> {
        let Some(dir) = &self.pairs else { return Ok(None) };
        anyhow::ensure!(configs.sources, "the run was begun without pairs: its network sees no sources");
        Pairs::open(dir, &configs.statistics, tokenizer).map(Some)
    }

    /// The pairs, if step `step` learns from them.
    pub(crate) fn of_step<'a>(&self, pairs: Option<&'a Pairs>, seed: u64, step: u64) -> Option<&'a Clips> {
        let Pairs(pairs) = pairs?;
        (f64::from(Seeds::new(seed, step, 6).unit()) < self.restyling).then_some(pairs)
    }
}

/// Encoded pairs.
pub(crate) struct Pairs(Clips);

/// Pairs that a sheet shows.
const SAMPLE_PAIRS: i64 = 8;

impl Pairs {
    /// Reads a folder of pairs.
    pub(crate) fn open(dir: &Path, statistics: &Statistics, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let data = Dataset::open(dir)?;
        anyhow::ensure!(
            data.buckets.iter().all(|bucket| bucket.sources.is_some()),
            "{} holds single clips, not pairs",
            dir.display()
        );
        Ok(Self(Clips::new(data, statistics, tokenizer)?))
    }

    /// Draws single frames of pairs of one size and their captions: normalised latents `[B, C, 1, h, w]` of sources and of
    /// targets, and tokens. One frame in three is the first of its clip, which stands for a picture and not for four.
    pub(crate) fn draw_frames(
        &self,
        seeds: &mut Seeds,
        batch: usize,
        device: Device,
    ) -> (Tensor, Tensor, Vec<&[i64]>) {
        let Self(pairs) = self;
        let bucket = pairs.draw_bucket(seeds);
        let (rows, tokens) = pairs.read_captions(bucket, &pairs.draw_captions(bucket, seeds, batch));
        let targets = &pairs.latents[bucket];
        let last = targets.size()[2] as u64;
        let frames: Vec<i64> =
            (0..batch).map(|_| if seeds.below(3) == 0 { 0 } else { seeds.below(last) as i64 }).collect();
        let frames = Tensor::from_slice(&frames);
        let of = |latents: &Tensor| {
            let chosen = latents.transpose(1, 2).index(&[Some(&rows), Some(&frames)]);
            pairs.normalise(&chosen.unsqueeze(2)).to_device(device)
        };
        (of(pairs.sources[bucket].as_ref().expect("pairs have sources")), of(targets), tokens)
    }

    /// Three rows for each of the first pairs: what is shown, what `restyle` makes of it, what was to be made. It is given
    /// the prompts, the sources and the targets, normalised latents `[N, C, F, h, w]`.
    pub(crate) fn sheet(
        &self,
        (vae, statistics): (&AutoencoderKlWan, &Statistics),
        device: Device,
        restyle: impl FnOnce(&[Vec<i64>], &Tensor, &Tensor) -> Tensor,
    ) -> Vec<Tensor> {
        let Self(pairs) = self;
        let first =
            |latents: &Tensor| pairs.normalise(&latents.narrow(0, 0, SAMPLE_PAIRS.min(latents.size()[0])));
        let target = first(&pairs.latents[0]).to_device(device);
        let source = pairs.sources[0].as_ref().map(first).expect("pairs have sources").to_device(device);
        let prompts: Vec<Vec<i64>> =
            pairs.tokens[0].iter().take(target.size()[0] as usize).map(|[short, _]| short.clone()).collect();
        let made = restyle(&prompts, &source, &target);
        // It may be only the beginning.
        let frames = made.size()[2];
        let [shown, made, wanted] = [&source, &made, &target]
            .map(|latents| decode_rows(vae, &latents.narrow(2, 0, frames), statistics));
        shown.into_iter().zip(made).zip(wanted).flat_map(|((a, b), c)| [a, b, c]).collect()
    }
}
