//! What a stream remembers, and telling it another prompt.

use sora_model::config::Rotation;
use tch::Tensor;

use super::super::{OnProgress, TextToVideoPipeline};
use super::fade::{Fade, Wording};
use crate::error::Result;
use crate::models::WanTransformer3DModel;
use crate::models::transformer_wan::{CacheLimits, KvCache, TextContext};

/// Which network a block is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// The transformer as it is.
    Plain,
    /// The one for blocks that are shown their source.
    Restyler,
}

/// Keys and values under one prompt.
struct Branch {
    wording: Wording,
    network: Network,
    context: TextContext,
    cache: KvCache,
    /// The source of the block that is being made, as its network is shown it under its prompt.
    shown: Option<Tensor>,
}

/// What a memory is to be told.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) prompt: &'a str,
    pub(super) fade: Option<Fade<'a>>,
    /// Only with guidance.
    pub(super) negative: Option<&'a str>,
    pub(super) keep_past: bool,
    pub(super) network: Network,
}

/// The past of a stream: as latents, and as what the transformer made of them under each prompt.
pub(super) struct Memory {
    limits: CacheLimits,
    rotation: Rotation,
    /// The latents behind the keys and values, oldest first: the sink's, then the window's, in the blocks that they
    /// were made in. `[1, C, T, H, W]`, or `[1, 2·C, T, H, W]` with those of a source that was shown after them.
    kept: Vec<Tensor>,
    /// The latents of the source of the block that is being made, if it is shown.
    shown: Option<Tensor>,
    /// Latent frames since the beginning, those that are forgotten among them.
    seen: i64,
    conditional: Option<Branch>,
    /// Only with guidance.
    unconditional: Option<Branch>,
}

impl Memory {
    pub(super) fn new(limits: CacheLimits, rotation: Rotation) -> Self {
        Self {
            limits,
            rotation,
            kept: Vec::new(),
            shown: None,
            seen: 0,
            conditional: None,
            unconditional: None,
        }
    }

    /// Latent frames.
    pub(super) fn len(&self) -> i64 {
        self.kept.iter().map(|latents| latents.size()[2]).sum()
    }

    /// Whether this is the prompt that it was told last.
    pub(super) fn is_told(&self, prompt: &str) -> bool {
        self.conditional.as_ref().is_some_and(|branch| branch.wording == Wording::new(prompt, None))
    }

    /// The position of the next latent frame.
    pub(super) fn next_position(&self) -> i64 {
        self.conditional.as_ref().map_or(0, |branch| branch.cache.next_position())
    }

    fn keep(&mut self, latents: &Tensor) {
        self.seen += latents.size()[2];
        self.kept.push(beside(latents, self.shown.as_ref()).copy());
        forget(&mut self.kept, self.limits);
    }

    /// Forgets the oldest block, so that what was seen under one prompt does not hold on for ever: the next one takes
    /// its place in the sink.
    fn move_on(&mut self) {
        if self.kept.len() > 1 {
            drop(self.kept.remove(0));
            // Its keys and values are in there.
            self.unconditional = None;
        }
    }
}

/// Drops what is older than the window and younger than the sink.
fn forget(kept: &mut Vec<Tensor>, limits: CacheLimits) {
    let frames: i64 = kept.iter().map(|latents| latents.size()[2]).sum();
    let (mut first, mut left) = (0, frames - limits.frames);
    let mut at = 0;
    while left > 0 && at < kept.len() {
        let latents = &kept[at];
        let length = latents.size()[2];
        // The block's own part of the sink, then what goes of it, then what stays of it.
        let sink = (limits.sink - first).clamp(0, length);
        let gone = left.min(length - sink);
        let parts = [latents.narrow(2, 0, sink), latents.narrow(2, sink + gone, length - sink - gone)];
        first += length;
        left -= gone;
        if gone == 0 {
            at += 1;
            continue;
        }
        let parts: Vec<Tensor> = parts.iter().filter(|part| part.size()[2] > 0).map(Tensor::copy).collect();
        let count = parts.len();
        kept.splice(at..=at, parts);
        at += count;
    }
}

/// Latents with the channels of a source after theirs, if it is shown.
fn beside(latents: &Tensor, source: Option<&Tensor>) -> Tensor {
    source.map_or_else(|| latents.shallow_clone(), |source| Tensor::cat(&[latents, source], 1))
}

impl Branch {
    /// The source of the block that comes next, if it is shown: once, for all of its steps.
    fn show(&mut self, transformer: &WanTransformer3DModel, source: Option<&Tensor>) {
        self.shown = source.map(|source| {
            let _span = tracing::debug_span!("guess").entered();
            transformer.encode_source(source, &self.context)
        });
    }

    /// `noise` is the timestep of finished frames, which the model was trained to find in its context.
    fn remember(&mut self, transformer: &WanTransformer3DModel, latents: &Tensor, noise: f64) {
        let clean = Tensor::from_slice(&[noise as f32]).to_device(latents.device());
        let seen = beside(latents, self.shown.as_ref());
        transformer.remember_block(&seen, &clean, &self.context, &mut self.cache);
    }
}

impl TextToVideoPipeline {
    /// Makes the memory one of these prompts: what was remembered under another is seen again under the new one, or
    /// forgotten. What another network remembered is seen again by this one. While a prompt fades into another, the past is kept, and forgotten block by block from its beginning.
    pub(super) fn tell_prompt(
        &self,
        memory: &mut Memory,
        Told { prompt, fade, negative, keep_past, network }: Told<'_>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<()> {
        let wording = Wording::new(prompt, fade);
        if memory.conditional.as_ref().is_none_or(|branch| branch.wording != wording) {
            if fade.is_some() {
                memory.move_on();
            } else if !keep_past {
                memory.kept.clear();
                memory.seen = 0;
                memory.unconditional = None;
            }
            memory.conditional = None;
        }
        if memory.conditional.as_ref().is_none_or(|branch| branch.network != network) {
            memory.conditional = Some(self.branch(memory, (wording, network), on_progress)?);
        }
        let negative = negative.map(|negative| (Wording::new(negative, None), network));
        let told = memory.unconditional.as_ref().map(|branch| (&branch.wording, branch.network));
        if told != negative.as_ref().map(|(wording, network)| (wording, *network)) {
            memory.unconditional =
                negative.map(|negative| self.branch(memory, negative, on_progress)).transpose()?;
        }
        Ok(())
    }

    fn branch(
        &self,
        memory: &Memory,
        (wording, network): (Wording, Network),
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Branch> {
        let embeds = self.encode_wording(&wording, on_progress)?;
        let transformer = self.network(network)?;
        let context = transformer.encode_context(&embeds.embeds, embeds.weights.as_ref());
        let cache = KvCache::new(transformer, memory.limits)
            .with_rotation(memory.rotation, memory.seen - memory.len());
        let mut branch = Branch { wording, network, context, cache, shown: None };
        let channels = transformer.config().in_channels;
        for kept in &memory.kept {
            let rest = kept.size()[1] - channels;
            let source = (rest > 0).then(|| kept.narrow(1, channels, rest));
            branch.show(transformer, source.as_ref());
            branch.remember(transformer, &kept.narrow(1, 0, channels), self.dir.causal().context_noise);
        }
        Ok(branch)
    }

    fn network(&self, network: Network) -> Result<&WanTransformer3DModel> {
        match network {
            Network::Plain => Ok(&self.transformer),
            Network::Restyler => self.restyler(),
        }
    }

    /// Shows the memory the source of the block that comes next, `[1, C, T, H, W]`, or that there is none to be seen.
    pub(super) fn show_source(&self, memory: &mut Memory, source: Option<&Tensor>) -> Result<()> {
        memory.shown = source.map(Tensor::shallow_clone);
        for branch in [&mut memory.conditional, &mut memory.unconditional].into_iter().flatten() {
            branch.show(self.network(branch.network)?, source);
        }
        Ok(())
    }

    /// The velocity at noise level `sigma`, guided where there is a negative prompt.
    pub(super) fn block_velocity(
        &self,
        memory: &Memory,
        latents: &Tensor,
        sigma: f64,
        guidance_scale: f64,
    ) -> Result<Tensor> {
        let train_steps = self.dir.scheduler().num_train_timesteps as f64;
        let timestep = Tensor::from_slice(&[(sigma * train_steps) as f32]).to_device(self.device);
        let predict = |branch: &Branch| -> Result<Tensor> {
            let transformer = self.network(branch.network)?;
            let seen = beside(latents, branch.shown.as_ref());
            Ok(transformer.forward_block(&seen, &timestep, &branch.context, &branch.cache))
        };
        let conditional = predict(memory.conditional.as_ref().expect("tell_prompt comes first"))?;
        match &memory.unconditional {
            None => Ok(conditional),
            Some(negative) => {
                let unconditional = predict(negative)?;
                Ok(&unconditional + (conditional - &unconditional) * guidance_scale)
            }
        }
    }

    /// Makes a finished block part of the memory.
    pub(super) fn remember(&self, memory: &mut Memory, latents: &Tensor) -> Result<()> {
        if memory.limits.frames == 0 {
            return Ok(());
        }
        memory.keep(latents);
        for branch in [&mut memory.conditional, &mut memory.unconditional].into_iter().flatten() {
            branch.remember(self.network(branch.network)?, latents, self.dir.causal().context_noise);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latents whose only value is the number of their frame.
    fn block(frames: std::ops::Range<i64>) -> Tensor {
        Tensor::from_slice(&frames.collect::<Vec<_>>()).view([1, 1, -1, 1, 1])
    }

    fn kept(blocks: &[std::ops::Range<i64>], sink: i64, frames: i64) -> Vec<Vec<i64>> {
        let mut kept = Vec::new();
        for frames_of_block in blocks {
            kept.push(block(frames_of_block.clone()));
            forget(&mut kept, CacheLimits { sink, frames });
        }
        kept.iter().map(|latents| Vec::<i64>::try_from(latents.view([-1])).expect("numbers")).collect()
    }

    #[test]
    fn the_sink_and_the_last_frames_are_kept_in_their_blocks() {
        assert_eq!(kept(&[0..1, 1..2, 2..3, 3..4, 4..5], 1, 3), [[0], [3], [4]]);
        assert_eq!(kept(&[0..3, 3..6, 6..9, 9..12], 3, 6), [[0, 1, 2], [9, 10, 11]]);
        assert_eq!(kept(&[0..3, 3..6, 6..9], 2, 4), [vec![0, 1], vec![7, 8]]);
        assert_eq!(kept(&[0..3, 3..6, 6..9], 0, 4), [vec![5], vec![6, 7, 8]]);
        assert_eq!(kept(&[0..1, 1..4, 4..7], 2, 5), [vec![0], vec![1], vec![4, 5, 6]]);
        assert_eq!(kept(&[0..3, 3..6], 3, 3), [[0, 1, 2]]);
    }
}
