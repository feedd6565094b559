//! What a stream remembers, and telling it another prompt.

use tch::Tensor;

use super::super::TextToVideoPipeline;
use super::fade::{Fade, Wording};
use crate::error::Result;
use crate::models::WanTransformer3DModel;
use crate::models::transformer_wan::{CacheLimits, KvCache, TextContext};

/// Keys and values under one prompt.
struct Branch {
    wording: Wording,
    context: TextContext,
    cache: KvCache,
}

/// The past of a stream: as latents, and as what the transformer made of them under each prompt.
pub(super) struct Memory {
    limits: CacheLimits,
    /// The latents behind the keys and values, oldest first: the sink's, then the window's. `[1, C, 1, H, W]`
    kept: Vec<Tensor>,
    conditional: Option<Branch>,
    /// Only with guidance.
    unconditional: Option<Branch>,
}

impl Memory {
    pub(super) fn new(limits: CacheLimits) -> Self {
        Self { limits, kept: Vec::new(), conditional: None, unconditional: None }
    }

    /// Latent frames.
    pub(super) fn len(&self) -> i64 {
        self.kept.len() as i64
    }

    fn keep(&mut self, latents: &Tensor) {
        self.kept.push(latents.copy());
        if self.len() > self.limits.frames {
            let oldest_of_window = self.limits.sink as usize;
            drop(self.kept.remove(oldest_of_window));
        }
    }

    /// Forgets the oldest frame, so that what was seen under one prompt does not hold on for ever: the next one takes
    /// its place in the sink.
    fn move_on(&mut self) {
        if self.kept.len() > 1 {
            drop(self.kept.remove(0));
            // Its keys and values are in there.
            self.unconditional = None;
        }
    }
}

impl Branch {
    fn remember(&mut self, transformer: &WanTransformer3DModel, latents: &Tensor) {
        let clean = Tensor::from_slice(&[0f32]).to_device(latents.device());
        transformer.remember_block(latents, &clean, &self.context, &mut self.cache);
    }
}

impl TextToVideoPipeline {
    /// Makes the memory one of these prompts: what was remembered under another is seen again under the new one, or
    /// forgotten. While a prompt fades into another, the past is kept, and forgotten frame by frame from its beginning.
    pub(super) fn tell_prompt(
        &self,
        memory: &mut Memory,
        prompt: &str,
        fade: Option<Fade<'_>>,
        negative: Option<&str>,
        keep_past: bool,
    ) -> Result<()> {
        let wording = Wording::new(prompt, fade);
        if memory.conditional.as_ref().is_none_or(|branch| branch.wording != wording) {
            if fade.is_some() {
                memory.move_on();
            } else if !keep_past {
                memory.kept.clear();
                memory.unconditional = None;
            }
            memory.conditional = Some(self.branch(memory, wording)?);
        }
        let negative = negative.map(|negative| Wording::new(negative, None));
        if memory.unconditional.as_ref().map(|branch| &branch.wording) != negative.as_ref() {
            memory.unconditional = negative.map(|negative| self.branch(memory, negative)).transpose()?;
        }
        Ok(())
    }

    fn branch(&self, memory: &Memory, wording: Wording) -> Result<Branch> {
        let embeds = self.encode_wording(&wording)?;
        let context = self.transformer.encode_context(&embeds.embeds, embeds.weights.as_ref());
        let cache = KvCache::new(&self.transformer, memory.limits);
        let mut branch = Branch { wording, context, cache };
        for latents in &memory.kept {
            branch.remember(&self.transformer, latents);
        }
        Ok(branch)
    }

    /// The velocity at noise level `sigma`, guided where there is a negative prompt.
    pub(super) fn block_velocity(
        &self,
        memory: &Memory,
        latents: &Tensor,
        sigma: f64,
        guidance_scale: f64,
    ) -> Tensor {
        let train_steps = self.dir.scheduler().num_train_timesteps as f64;
        let timestep = Tensor::from_slice(&[(sigma * train_steps) as f32]).to_device(self.device);
        let predict = |branch: &Branch| {
            self.transformer.forward_block(latents, &timestep, &branch.context, &branch.cache)
        };
        let conditional = predict(memory.conditional.as_ref().expect("tell_prompt comes first"));
        match &memory.unconditional {
            None => conditional,
            Some(negative) => {
                let unconditional = predict(negative);
                &unconditional + (conditional - &unconditional) * guidance_scale
            }
        }
    }

    /// Makes a finished block part of the memory.
    pub(super) fn remember(&self, memory: &mut Memory, latents: &Tensor) {
        if memory.limits.frames == 0 {
            return;
        }
        memory.keep(latents);
        for branch in [&mut memory.conditional, &mut memory.unconditional].into_iter().flatten() {
            branch.remember(&self.transformer, latents);
        }
    }
}
