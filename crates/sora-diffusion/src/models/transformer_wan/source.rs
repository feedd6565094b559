//! A guess, from a source's latents and a prompt, of the latents of the video that is asked for.
//!
//! Restyling changes most of a picture near at hand: an outline is drawn where a colour ends, a wash is laid over what it
//! covers. Convolutions learn that in a fraction of the steps that a transformer's tokens of 16×16 pixels take. The guess
//! is what is likeliest on the whole, so it lacks what is a matter of chance, and it knows of no frame but its own; it goes
//! to the transformer beside the source, which makes a video of it.
//!
//! Residual blocks (He et al., arXiv 1603.05027) whose normalised channels are scaled and shifted by what the prompt says
//! (FiLM, Perez et al., arXiv 1709.07871), which one query reads from it by attention.

use sora_model::config::SourceEncoderConfig;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::nn::{Conv2d, Linear};
use crate::weights::Weights;

/// Timesteps of a whole way from noise to video.
const TIMESTEPS: f64 = 1000.0;
/// Noise level below which the way to a guess gets no steeper: next to none is left to go.
const LEAST: f64 = 0.02;

/// A velocity `[B, C, T, H, W]` mixed with the one that leads from noisy latents straight to a guess, both of that shape:
/// `share`, `[C]`, of each channel is the latter. `timestep` is `[B]` or `[B, G]`, as of the transformer.
pub(super) fn towards(
    velocity: &Tensor,
    share: &Tensor,
    (latents, guess): (&Tensor, &Tensor),
    timestep: &Tensor,
) -> Tensor {
    let (b, c, t, ..) = velocity.size5().expect("latents are B C T H W");
    let level = (timestep.to_kind(Kind::Float) / TIMESTEPS).clamp_min(LEAST).view([b, 1, -1, 1, 1]);
    let level = level.repeat_interleave_self_int(t / level.size()[2], 2, t);
    // x = (1 − σ)·video + σ·noise, and the velocity is noise − video: (x − video)/σ.
    let straight = (latents - guess).to_kind(Kind::Float) / level;
    let own = velocity.to_kind(Kind::Float);
    let share = share.to_kind(Kind::Float).view([1, c, 1, 1, 1]);
    (&own + (straight - &own) * share).to_kind(velocity.kind())
}

/// The network.
pub struct SourceEncoder {
    query: Tensor,
    style: Linear,
    modulation: Linear,
    conv_in: Conv2d,
    blocks: Vec<[Conv2d; 2]>,
    conv_out: Conv2d,
    channels: i64,
}

/// What a prompt says to it: scales and shifts of all its layers, `[B, layers + 1, 2, channels]`.
pub struct Style(Tensor);

impl SourceEncoder {
    /// For latents of `latent_channels`, and prompts whose positions have `text_dim` numbers.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn new(
        weights: &Weights,
        config: &SourceEncoderConfig,
        latent_channels: i64,
        text_dim: i64,
    ) -> Result<Self> {
        let SourceEncoderConfig { channels, num_layers } = *config;
        let conv = |name: &str, inputs, outputs| Conv2d::new(&weights.pp(name), inputs, outputs, 1, 1);
        let block = |i: i64| {
            let conv = |part: &str| conv(&format!("blocks.{i}.{part}"), channels, channels);
            Ok([conv("conv1")?, conv("conv2")?])
        };
        Ok(Self {
            query: weights.get("query", &[text_dim])?,
            style: Linear::new(&weights.pp("style"), text_dim, channels)?,
            modulation: Linear::new(&weights.pp("modulation"), channels, (num_layers + 1) * 2 * channels)?,
            conv_in: conv("conv_in", latent_channels, channels)?,
            blocks: (0..num_layers).map(block).collect::<Result<_>>()?,
            conv_out: conv("conv_out", channels, latent_channels)?,
            channels,
        })
    }

    /// Reads a prompt, `[B, L, text_dim]`. Positions of zeros are padding and are not read.
    pub fn read(&self, prompt_embeds: &Tensor) -> Style {
        let embeds = prompt_embeds.to_kind(self.query.kind());
        let is_padding = embeds.abs().amax([-1i64].as_slice(), false).eq(0.0);
        let scale = (embeds.size()[2] as f64).sqrt();
        // Of a prompt of padding alone nothing is read, rather than not-a-numbers.
        let scores = (embeds.matmul(&self.query) / scale).masked_fill(&is_padding, -1e4);
        let shares = scores.softmax(-1, Kind::Float).to_kind(embeds.kind());
        let read = (shares.unsqueeze(-1) * embeds).sum_dim_intlist([1i64].as_slice(), false, None);
        let style = self.modulation.forward(&self.style.forward(&read).silu());
        Style(style.view([-1, self.blocks.len() as i64 + 1, 2, self.channels]))
    }

    /// The guess: latents `[B, C, T, H, W]` → the same shape and kind.
    pub fn forward(&self, source: &Tensor, style: &Style) -> Tensor {
        let (b, c, t, h, w) = source.size5().expect("latents are B C T H W");
        // B C T H W → (B T) C H W: frames know nothing of each other.
        let frames = source.to_kind(self.query.kind()).transpose(1, 2).reshape([b * t, c, h, w]);
        let Style(style) = style;
        let style = style.repeat_interleave_self_int(t, 0, b * t).unsqueeze(-1).unsqueeze(-1);
        let modulated = |x: &Tensor, layer: i64| {
            let [scale, shift] = [0, 1].map(|part| style.select(1, layer).select(1, part));
            let normed =
                x.group_norm(SourceEncoderConfig::GROUPS, None::<&Tensor>, None::<&Tensor>, 1e-5, false);
            (normed * (scale + 1.0) + shift).silu()
        };
        let mut x = self.conv_in.forward(&frames);
        for (layer, [conv1, conv2]) in self.blocks.iter().enumerate() {
            let inner = conv1.forward(&modulated(&x, layer as i64)).silu();
            // Not in place: the norm needs what it was given for its gradient.
            x = conv2.forward(&inner) + &x;
        }
        let change = self.conv_out.forward(&modulated(&x, self.blocks.len() as i64));
        (frames + change).view([b, t, c, h, w]).transpose(1, 2).to_kind(source.kind()).contiguous()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_velocity_towards_a_guess_ends_there_from_any_level() {
        tch::manual_seed(1);
        let random = || Tensor::randn([2, 3, 2, 4, 4], (Kind::Float, Device::Cpu));
        let (velocity, latents, guess) = (random(), random(), random());
        // A level for each clip, and one for each frame.
        for (timesteps, shape) in
            [(&[900.0f32, 30.0][..], &[2i64][..]), (&[900.0, 500.0, 750.0, 100.0], &[2, 2])]
        {
            let timestep = Tensor::from_slice(timesteps).view(shape);
            let level = (&timestep / TIMESTEPS).view([2, 1, -1, 1, 1]);
            let end = |share: [f32; 3]| {
                let share = Tensor::from_slice(&share);
                &latents - towards(&velocity, &share, (&latents, &guess), &timestep) * &level
            };
            let own = &latents - &velocity * &level;
            let far = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            assert!(far(&end([1.0; 3]), &guess) < 1e-5);
            assert!(far(&end([0.0; 3]), &own) < 1e-5);
            // Each channel its own share.
            let mixed = end([0.0, 0.5, 1.0]);
            let channel = |t: &Tensor, c| t.select(1, c);
            assert!(far(&channel(&mixed, 0), &channel(&own, 0)) < 1e-5);
            assert!(far(&channel(&mixed, 1), &channel(&((&own + &guess) / 2.0), 1)) < 1e-5);
            assert!(far(&channel(&mixed, 2), &channel(&guess, 2)) < 1e-5);
        }
    }

    #[test]
    fn next_to_no_noise_is_no_division_by_zero() {
        let one = Tensor::ones([1, 1, 1, 1, 1], (Kind::Float, Device::Cpu));
        let velocity = towards(&one, &one.view(1), (&one, &-&one), &Tensor::from_slice(&[0.0f32]));
        assert_eq!(velocity.double_value(&[0, 0, 0, 0, 0]), 2.0 / LEAST);
    }
}
