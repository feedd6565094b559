//! The diffusion transformer of the Wan family, `WanTransformer3DModel`.
//!
//! Follows `models/transformers/transformer_wan.py` of diffusers 0.42 (Wan 2.1, arXiv 2503.20314; the
//! idea of a transformer on latent patches is DiT's, arXiv 2212.09748). Modulation, residuals, norms and
//! the time embedding are in f32 whatever the weights are in, as there; or, for checkpoints that were trained so, in
//! the format of the weights, with angles in f64, as in `wan/modules/causal_model.py` of Self-Forcing
//! ([`Numerics`]).
//!
//! Letters: B batch, C channels, T H W latent frames, height, width; F h w the same in patches;
//! N = F·h·w tokens; D = heads × head dim; G groups of tokens that share a timestep; L text positions.

mod attention;
mod block;
mod causal;
mod embeddings;
mod positions;
mod rope;
mod source;

use sora_model::config::{Numerics, SourceEncoderConfig, TransformerConfig};
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::nn::{LayerNorm, Layers, Linear};
use crate::weights::Weights;

pub use attention::TextKeyValues;
use attention::WanAttention;
use block::{Modulation, WanTransformerBlock, modulated_in};
pub use causal::{CacheLimits, CleanFrames, KvCache, Remembered};
use embeddings::{TextEmbedder, TimeEmbedder};
use rope::RotaryPosEmbed;
pub use source::{SourceEncoder, Style};

/// Modules whose parameters stay in f32 (`_keep_in_fp32_modules`).
pub const KEEP_IN_F32: &[&str] = &["rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"];

/// Modules whose parameters stay in f32 with these numerics.
pub fn keep_in_f32(numerics: Numerics) -> &'static [&'static str] {
    match numerics {
        Numerics::Diffusers => KEEP_IN_F32,
        Numerics::SelfForcing => &[],
    }
}

/// Keys that official checkpoints carry and nobody uses (`_keys_to_ignore_on_load_unexpected`).
pub const TOLERATED_KEYS: &[&str] = &["norm_added_q"];

/// A prompt as the transformer sees it: the keys and values of every block's cross-attention.
///
/// They depend on the prompt alone, so they are computed once and not at every denoising step.
pub struct TextContext {
    blocks: Vec<TextKeyValues>,
    /// What it says to the source encoder, where there is one.
    style: Option<Style>,
}

/// The network that predicts the velocity `noise − video` of a noisy latent.
pub struct WanTransformer3DModel {
    config: TransformerConfig,
    rope: RotaryPosEmbed,
    patch_embedding: Linear,
    source_embedding: Option<Linear>,
    source_encoder: Option<SourceEncoder>,
    /// How much of what it makes is the guess of the source encoder, `[C]`.
    guess_share: Option<Tensor>,
    time_embedder: TimeEmbedder,
    text_embedder: TextEmbedder,
    blocks: Layers<WanTransformerBlock>,
    norm_out: LayerNorm,
    proj_out: Linear,
    scale_shift_table: Tensor,
    numerics: Numerics,
}

impl WanTransformer3DModel {
    /// Builds the network from the weights of `config`'s architecture, with the numerics of diffusers.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn new(weights: &Weights, config: &TransformerConfig) -> Result<Self> {
        Self::with_numerics(weights, config, Numerics::Diffusers)
    }

    /// [`Self::new`] with other numerics. The weights should be laid out accordingly, see [`keep_in_f32`].
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn with_numerics(weights: &Weights, config: &TransformerConfig, numerics: Numerics) -> Result<Self> {
        let dim = config.inner_dim();
        let embedder = weights.pp("condition_embedder");
        let blocks = Layers::new(&weights.pp("blocks"), config.num_layers, |weights| {
            WanTransformerBlock::new(weights, config, numerics)
        })?;
        let patch: i64 = config.patch_size.iter().product();
        Ok(Self {
            rope: RotaryPosEmbed::new(config.attention_head_dim, config.rope_max_seq_len, numerics),
            patch_embedding: Linear::from_conv(
                &weights.pp("patch_embedding"),
                config.in_channels,
                dim,
                &config.patch_size,
            )?,
            source_embedding: None,
            source_encoder: None,
            guess_share: None,
            time_embedder: TimeEmbedder::new(&embedder, config.freq_dim, dim, numerics)?,
            text_embedder: TextEmbedder::new(&embedder.pp("text_embedder"), config.text_dim, dim)?,
            blocks,
            norm_out: LayerNorm::plain(dim, config.eps),
            proj_out: Linear::new(&weights.pp("proj_out"), dim, config.out_channels() * patch)?,
            scale_shift_table: weights.get("scale_shift_table", &[1, 2, dim])?,
            config: config.clone(),
            numerics,
        })
    }

    /// Has what it sees of a source go through an encoder first, see [`Self::encode_source`]. The
    /// [source embedding](Self::with_source_embedding) comes after it.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn with_source_encoder(mut self, weights: &Weights, config: &SourceEncoderConfig) -> Result<Self> {
        let TransformerConfig { in_channels, text_dim, .. } = self.config;
        self.source_encoder = Some(SourceEncoder::new(weights, config, in_channels, text_dim)?);
        Ok(self)
    }

    /// Lets it see the latents of a source video beside the noisy ones: a second patch embedding, whose tokens are added
    /// to those of the first. It is no part of `WanTransformer3DModel`, which computes as ever where there is no source.
    ///
    /// Behind a source encoder the velocity is a mixture, of what the network says and of what leads straight to the guess,
    /// `guess_share` of each channel: the network corrects a guess instead of making its details anew.
    ///
    /// # Errors
    /// Those of [`Weights::get`].
    pub fn with_source_embedding(mut self, weights: &Weights) -> Result<Self> {
        let TransformerConfig { in_channels, patch_size, .. } = &self.config;
        let dim = self.config.inner_dim();
        let mut seen = *in_channels;
        if self.source_encoder.is_some() {
            self.guess_share = Some(weights.get("guess_share", &[seen])?);
            seen *= 2;
        }
        self.source_embedding = Some(Linear::from_conv(weights, seen, dim, patch_size)?);
        Ok(self)
    }

    /// A source as [`Self::forward`] is shown it: its latents `[B, C, T, H, W]`, and after their channels the source
    /// encoder's guess of what the prompt makes of them, `[B, 2·C, T, H, W]`; the latents alone, where there is no encoder.
    pub fn encode_source(&self, source: &Tensor, context: &TextContext) -> Tensor {
        match (&self.source_encoder, &context.style) {
            (Some(encoder), Some(style)) => Tensor::cat(&[source, &encoder.forward(source, style)], 1),
            _ => source.shallow_clone(),
        }
    }

    /// Whether it can be shown a source.
    pub fn sees_sources(&self) -> bool {
        self.source_embedding.is_some()
    }

    /// The config it was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Number format of the large parameters, in which inputs are expected.
    pub fn kind(&self) -> Kind {
        self.proj_out.kind()
    }

    /// Embeds a prompt once for many steps.
    ///
    /// `prompt_embeds` is `[B, L, text_dim]`. `weights_of_positions`, if given, is `[B, L]`: how often each
    /// position counts. The reference pads prompts with zero vectors to 512 positions *without a mask*;
    /// hundreds of equal positions are one position with a weight, which is the same sum in the softmax
    /// and far less work. 0 takes a position out.
    pub fn encode_context(
        &self,
        prompt_embeds: &Tensor,
        weights_of_positions: Option<&Tensor>,
    ) -> TextContext {
        let (embeds, bias) = match (weights_of_positions, self.numerics) {
            (None, _) => (prompt_embeds.shallow_clone(), None),
            (Some(weights), Numerics::SelfForcing) => {
                positions::repeated(prompt_embeds, weights, self.kind())
            }
            (Some(weights), Numerics::Diffusers) => {
                let (embeds, bias) = positions::spread(prompt_embeds, weights, self.kind());
                (embeds, Some(bias))
            }
        };
        let bias = bias.map(|bias| bias.unsqueeze(1).unsqueeze(1)); // [B, L] → [B, 1, 1, L]
        // [B, L, text_dim] → [B, L, D]
        let text = self.text_embedder.forward(&embeds.to_kind(self.kind()));
        let blocks = (0..self.blocks.count())
            .map(|i| self.with_block(i, |block| block.attn2.keys_values(&text, bias.as_ref())))
            .collect();
        let style = self.source_encoder.as_ref().map(|encoder| encoder.read(prompt_embeds));
        TextContext { blocks, style }
    }

    /// Predicts the velocity.
    ///
    /// * `hidden_states`: noisy latents `[B, C, T, H, W]`; T, H, W multiples of the patch size. Or, for a network that
    ///   [sees sources](Self::sees_sources), `[B, 2·C, T, H, W]`: after the channels of the noisy latents those of the
    ///   source, which are clean; or `[B, 3·C, T, H, W]`, those of [`Self::encode_source`].
    /// * `timestep`: 0 (clean) to 1000 (noise), `[B]`, or `[B, G]` with one value per group of N/G
    ///   consecutive tokens (G = F gives every latent frame its own).
    ///
    /// Returns `[B, out_channels, T, H, W]` in the kind of the weights.
    pub fn forward(&self, hidden_states: &Tensor, timestep: &Tensor, context: &TextContext) -> Tensor {
        self.forward_masked(hidden_states, timestep, context, None)
    }

    /// [`Self::forward`] where `mask`, `[N, N]`, is added to the scores of self-attention: 0 where the row's
    /// token may look at the column's, −∞ where not. See [`block_causal_mask`].
    pub fn forward_masked(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        mask: Option<&Tensor>,
    ) -> Tensor {
        let (f, h, w) = self.grid_of(hidden_states);
        let rotary_emb = self.rope.forward(0, f, h, w, hidden_states.device());
        self.run(hidden_states, timestep, context, |_, attention, x| {
            attention.self_attention(x, &rotary_emb, mask)
        })
    }

    /// Has block `i` compute.
    fn with_block<T>(&self, i: usize, compute: impl FnOnce(&WanTransformerBlock) -> T) -> T {
        let build = |weights: &Weights| WanTransformerBlock::new(weights, &self.config, self.numerics);
        self.blocks.with(i, build, compute)
    }

    /// Patches of latents along time, height and width.
    fn grid_of(&self, latents: &Tensor) -> (i64, i64, i64) {
        let [p_t, p_h, p_w] = self.config.patch_size;
        let (_, _, t, h, w) = latents.size5().expect("latents are B C T H W");
        (t / p_t, h / p_h, w / p_w)
    }

    /// The network around its self-attention, which is given the number of the block, the layer and the
    /// normed tokens.
    fn run(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        mut self_attention: impl FnMut(usize, &WanAttention, &Tensor) -> Tensor,
    ) -> Tensor {
        let [p_t, p_h, p_w] = self.config.patch_size;
        let (b, c, t, h, w) = hidden_states.size5().expect("latents are B C T H W");
        let (f, h, w) = (t / p_t, h / p_h, w / p_w);
        let n = f * h * w;
        let dim = self.config.inner_dim();

        // 1. Patches → tokens, as a linear layer over the flattened patch: B C T H W → B N D
        let patches = |first: i64, channels: i64| {
            hidden_states
                .narrow(1, first, channels)
                .to_kind(self.kind())
                .reshape([b, channels, f, p_t, h, p_h, w, p_w])
                .permute([0, 2, 4, 6, 1, 3, 5, 7])
                .reshape([b, n, channels * p_t * p_h * p_w])
        };
        let noisy = self.config.in_channels;
        let mut x = self.patch_embedding.forward(&patches(0, noisy));
        if c > noisy {
            let embedding =
                self.source_embedding.as_ref().expect("a source is for networks that see sources");
            x += embedding.forward(&patches(noisy, c - noisy));
        }

        // 2. Conditions
        let (temb, timestep_proj) = self.time_embedder.forward(timestep, self.kind());

        // 3. Blocks
        for (i, text) in context.blocks.iter().enumerate() {
            x = self.with_block(i, |block| {
                block.forward(&x, &timestep_proj, text, |layer, x| self_attention(i, layer, x))
            });
        }

        // 4. Output norm and projection; note temb here, not timestep_proj
        let wide = modulated_in(self.numerics, self.kind());
        let table = self.scale_shift_table.unsqueeze(0).to_kind(wide) + temb.unsqueeze(2); // [B, G, 2, D]
        let m = Modulation::new(&table.select(2, 0), &table.select(2, 1));
        let x = m.apply(&self.norm_out.forward(&x)).to_kind(self.kind());
        debug_assert_eq!(x.size(), [b, n, dim]);

        // 5. Tokens → latents; the channel is the innermost axis of the projection
        let velocity = self
            .proj_out
            .forward(&x)
            .reshape([b, f, h, w, p_t, p_h, p_w, -1])
            .permute([0, 7, 1, 4, 2, 5, 3, 6])
            .reshape([b, -1, f * p_t, h * p_h, w * p_w]);

        // 6. A guess, if it is shown one
        match &self.guess_share {
            Some(share) if c == 3 * noisy => {
                let [latents, guess] = [0, 2].map(|part| hidden_states.narrow(1, part * noisy, noisy));
                source::towards(&velocity, share, (&latents, &guess), timestep)
            }
            _ => velocity,
        }
    }
}

/// The mask of block-causal attention over `frames` latent frames of `tokens_per_frame` tokens each: every
/// token sees its own block of `block` frames and those before it. f32 `[N, N]`, 0 or −∞.
pub fn block_causal_mask(frames: i64, tokens_per_frame: i64, block: i64, device: Device) -> Tensor {
    let n = frames * tokens_per_frame;
    let block_of = Tensor::arange(n, (Kind::Int64, device)).floor_divide_scalar(tokens_per_frame * block);
    let hidden = block_of.unsqueeze(0).gt_tensor(&block_of.unsqueeze(1));
    mask_of(&hidden)
}

/// What is added to scores, where some are `hidden`: f32 of that shape, 0 or −∞.
fn mask_of(hidden: &Tensor) -> Tensor {
    Tensor::zeros(hidden.size(), (Kind::Float, hidden.device())).masked_fill(hidden, f64::NEG_INFINITY)
}
