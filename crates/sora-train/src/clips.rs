//! Encoded clips with their captions, and what one step of a training draws from them.

use anyhow::Context;
use sora_diffusion::models::WanTransformer3DModel;
use sora_diffusion::models::transformer_wan::block_causal_mask;
use sora_diffusion::tokenizer::Tokenizer;
use tch::{Device, Kind, Tensor};

use crate::latents::{Dataset, Statistics};
use crate::seeds::Seeds;
use crate::transformer::{END_ONLY, MAX_SEQUENCE_LENGTH};

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

/// What one step learns from; everything `[B, …]`, on the device.
pub(crate) struct Batch {
    /// Normalised latents `[B, C, F, H, W]`.
    pub(crate) clips: Tensor,
    /// The clips that the model is shown while it makes them, of that shape.
    pub(crate) source: Option<Tensor>,
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

    /// The mask of the step's attention in `model`.
    pub(crate) fn mask(&self, model: &WanTransformer3DModel) -> Option<Tensor> {
        let (_, _, f, h, w) = self.clips.size5().expect("B C F H W");
        let [_, p_h, p_w] = model.config().patch_size;
        let tokens = (h / p_h) * (w / p_w);
        self.causal.then(|| block_causal_mask(f, tokens, 1, self.clips.device()).to_kind(model.kind()))
    }

    /// Keeps the first frames.
    pub(crate) fn truncate(&mut self, frames: i64) {
        for (tensor, dim) in
            [(&mut self.clips, 2), (&mut self.noise, 2), (&mut self.sigma, 1), (&mut self.weight, 1)]
        {
            *tensor = tensor.narrow(dim, 0, frames);
        }
        self.source = self.source.as_ref().map(|source| source.narrow(2, 0, frames));
    }

    /// Clips `start` to `start + len`.
    pub(crate) fn part(&self, start: i64, len: i64) -> Self {
        let part = |t: &Tensor| t.narrow(0, start, len);
        Self {
            clips: part(&self.clips),
            source: self.source.as_ref().map(part),
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

/// What a step draws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    /// Whole clips; of beginnings as many more as they are shorter.
    pub(crate) batch: usize,
    /// Share of the steps that are block-causal.
    pub(crate) causal: f64,
    /// Which captions.
    pub(crate) captions: CaptionChoice,
    /// Shift of the noise levels, as in a flow-matching scheduler: above 1, more of them are high.
    pub(crate) shift: f64,
}

/// σ → s·σ / (1 + (s − 1)·σ), as in arXiv 2403.03206, equation 23.
fn shifted(sigma: &Tensor, shift: f64) -> Tensor {
    sigma * shift / (sigma * (shift - 1.0) + 1.0)
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

/// One of the two captions of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caption {
    /// The clip's place in its bucket.
    pub(crate) row: usize,
    /// Which of the two.
    pub(crate) detailed: bool,
}

/// The clips of a dataset, normalised and with their captions as tokens.
pub(crate) struct Clips {
    pub(crate) latents: Vec<Tensor>,
    pub(crate) sources: Vec<Option<Tensor>>,
    pub(crate) tokens: Vec<Vec<[Vec<i64>; 2]>>,
    statistics: Statistics,
}

impl Clips {
    pub(crate) fn new(data: Dataset, statistics: &Statistics, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let mut tokens = Vec::new();
        let mut latents = Vec::new();
        let mut sources = Vec::new();
        for bucket in data.buckets {
            let pairs: anyhow::Result<Vec<_>> = bucket
                .captions
                .iter()
                .map(|(short, detailed)| Ok([encode(tokenizer, short)?, encode(tokenizer, detailed)?]))
                .collect();
            tokens.push(pairs?);
            latents.push(bucket.latents);
            sources.push(bucket.sources);
        }
        Ok(Self { latents, sources, tokens, statistics: statistics.clone() })
    }

    /// Draws the clips and captions of one step; a step depends on its seeds alone.
    pub(crate) fn draw(&self, seeds: &mut Seeds, draw: &Draw, device: Device) -> (Batch, Vec<&[i64]>) {
        let bucket = self.draw_bucket(seeds);
        let causal = f64::from(seeds.unit()) < draw.causal;
        // Mostly whole clips, sometimes their beginnings.
        let (frames, batch) = self.draw_length(bucket, seeds, (draw.batch, 2));
        let mut indices = Vec::new();
        let mut tokens: Vec<&[i64]> = Vec::new();
        for _ in 0..batch {
            let index = seeds.below(self.tokens[bucket].len() as u64);
            indices.push(index as i64);
            let [short, detailed] = &self.tokens[bucket][index as usize];
            tokens.push(match (seeds.below(10), draw.captions) {
                (0, _) => END_ONLY,
                (1..=3, CaptionChoice::Both) | (_, CaptionChoice::Detailed) => detailed,
                _ => short,
            });
        }
        let indices = Tensor::from_slice(&indices);
        let chosen = |latents: &Tensor| {
            self.normalise(&latents.index_select(0, &indices).narrow(2, 0, frames)).to_device(device)
        };
        let clips = chosen(&self.latents[bucket]);
        let source = self.sources[bucket].as_ref().map(chosen);
        tch::manual_seed(seeds.next_u64() as i64);
        let noise = clips.randn_like();
        let b = batch as i64;
        let (sigma, weight) = if causal {
            let sigma = shifted(&Tensor::randn([b, frames], (Kind::Float, device)).sigmoid(), draw.shift);
            forced_levels(&sigma, seeds)
        } else {
            let sigma = shifted(&Tensor::randn([b, 1], (Kind::Float, device)).sigmoid(), draw.shift);
            let sigma = sigma.expand([b, frames], false);
            let ones = sigma.ones_like();
            (sigma, ones)
        };
        (Batch { clips, source, noise, sigma, weight, causal }, tokens)
    }

    /// Draws a shape, as often as its clips are many; a batch is of one.
    pub(crate) fn draw_bucket(&self, seeds: &mut Seeds) -> usize {
        seeds.one_of(self.tokens.iter().map(Vec::len))
    }

    /// Draws how many latent frames of a bucket's clips a step learns from, and of how many clips: all, of `batch`, or
    /// beginnings, since the VAE is causal and these are clips as well: `single` times in ten the first frame, in two of ten
    /// half of them.
    pub(crate) fn draw_length(
        &self,
        bucket: usize,
        seeds: &mut Seeds,
        (batch, single): (usize, u64),
    ) -> (i64, usize) {
        let latent_frames = self.latents[bucket].size()[2];
        let frames = match seeds.below(10) {
            n if n < single => 1,
            n if n < single + 2 => 1 + (latent_frames - 1) / 2,
            _ => latent_frames,
        };
        // As many tokens in every step: of single pictures, which say what and where, more go into one.
        (frames, batch * (latent_frames / frames) as usize)
    }

    /// Draws clips of a bucket for their captions, of which one in three is detailed.
    pub(crate) fn draw_captions(&self, bucket: usize, seeds: &mut Seeds, batch: usize) -> Vec<Caption> {
        let count = self.tokens[bucket].len() as u64;
        let rows: Vec<u64> = (0..batch).map(|_| seeds.below(count)).collect();
        rows.into_iter().map(|row| Caption { row: row as usize, detailed: seeds.below(3) == 0 }).collect()
    }

    /// The rows of these clips in their bucket, and the tokens of the captions.
    pub(crate) fn read_captions(&self, bucket: usize, captions: &[Caption]) -> (Tensor, Vec<&[i64]>) {
        let rows: Vec<i64> = captions.iter().map(|caption| caption.row as i64).collect();
        let tokens = captions.iter().map(|caption| {
            let [short, detailed] = &self.tokens[bucket][caption.row];
            if caption.detailed { detailed.as_slice() } else { short }
        });
        (Tensor::from_slice(&rows), tokens.collect())
    }

    pub(crate) fn normalise(&self, latents: &Tensor) -> Tensor {
        self.statistics.normalise(latents)
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

    /// Latents `[N, C, …]` of a VAE, in f32 and normalised.
    pub(crate) fn normalise(&self, latents: &Tensor) -> Tensor {
        let (mean, std) = self.tensors();
        (latents.to_kind(Kind::Float) - mean) / std
    }
}

/// Tokens of a prompt.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<Vec<i64>> {
    Ok(tokenizer.encode(text, MAX_SEQUENCE_LENGTH as usize)?.ids)
}
