//! Block by block generation over a cache of keys and values.
//!
//! A causal model makes a few latent frames at a time. What earlier frames mean to later ones is in the keys
//! and values of every self-attention, which are kept: of the first frames (the *sink*) and of the last ones
//! (the *window*), so that time and memory do not grow. Keys are kept as they are before the rotary
//! embedding and rotated where they are read: by their place in the cache (as LongLive does; see
//! arXiv 2509.22622), so that positions never leave the range that training saw, however long the stream is; or by
//! the number of their frame in the stream, as the Self-Forcing code does (arXiv 2506.08009). The two differ only in
//! how far the sink seems to be from the window.

use sora_model::config::Rotation;
use tch::{Device, Kind, Tensor};

use super::{TextContext, WanTransformer3DModel, block_causal_mask, mask_of};

/// Which frames a stream remembers, in latent frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// First frames, kept for ever.
    pub sink: i64,
    /// Frames in all, the sink's among them; the block that is being made comes on top.
    pub frames: i64,
}

/// Keys and values of the frames that are kept, for every block of the network.
pub struct KvCache {
    limits: CacheLimits,
    rotation: Rotation,
    layers: Vec<Option<LayerCache>>,
    tokens_per_frame: i64,
    /// Frames that lay between the sink and the window.
    forgotten: i64,
}

/// `[B, M, heads, head_dim]` each, keys not rotated.
struct LayerCache {
    key: Tensor,
    value: Tensor,
}

/// What a cache holds, to be written down and put into another one ([`KvCache::remembered`], [`KvCache::put_back`]).
pub struct Remembered {
    /// Keys and values for every block of the network, `[B, M, heads, head_dim]` each; none if it holds no frame.
    pub layers: Vec<(Tensor, Tensor)>,
    /// Tokens of a latent frame: M is a multiple of it.
    pub tokens_per_frame: i64,
    /// Frames that lay between the sink and the window.
    pub forgotten: i64,
}

/// Keys and values of the frames of whole clips, for every block of the network.
pub struct CleanFrames {
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache for `model`.
    pub fn new(model: &WanTransformer3DModel, limits: CacheLimits) -> Self {
        let layers = (0..model.blocks.count()).map(|_| None).collect();
        Self { limits, rotation: Rotation::Relative, layers, tokens_per_frame: 0, forgotten: 0 }
    }

    /// The same, with positions as `rotation` says, and `forgotten` frames that lay between the sink and what it is to
    /// hold of the window.
    #[must_use]
    pub fn with_rotation(mut self, rotation: Rotation, forgotten: i64) -> Self {
        (self.rotation, self.forgotten) = (rotation, forgotten);
        self
    }

    /// The position of the next block's first frame. With those of the block it must stay below the transformer's
    /// `rope_max_seq_len`.
    pub fn next_position(&self) -> i64 {
        let past_sink = self.len() >= self.limits.sink;
        self.len() + if past_sink && self.rotation == Rotation::Absolute { self.forgotten } else { 0 }
    }

    /// Runs of positions, first and length, of the frames that it holds.
    fn positions(&self) -> Vec<(i64, i64)> {
        let len = self.len();
        match self.rotation {
            Rotation::Relative => vec![(0, len)],
            Rotation::Absolute => {
                let sink = self.limits.sink.min(len);
                vec![(0, sink), (sink + self.forgotten, len - sink)]
            }
        }
    }

    /// Latent frames it holds.
    pub fn len(&self) -> i64 {
        match self.layers.first() {
            Some(Some(layer)) => layer.key.size()[1] / self.tokens_per_frame,
            _ => 0,
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds.
    pub fn remembered(&self) -> Remembered {
        let layer = |layer: &LayerCache| (layer.key.shallow_clone(), layer.value.shallow_clone());
        Remembered {
            layers: self.layers.iter().flatten().map(layer).collect(),
            tokens_per_frame: self.tokens_per_frame,
            forgotten: self.forgotten,
        }
    }

    /// Holds from now on what another cache did: of the same network, with the same limits.
    ///
    /// # Panics
    /// If there is a layer for some of the network's blocks and for others not.
    pub fn put_back(&mut self, remembered: Remembered) {
        let Remembered { layers, tokens_per_frame, forgotten } = remembered;
        assert!(
            layers.is_empty() || layers.len() == self.layers.len(),
            "{} layers for {} blocks",
            layers.len(),
            self.layers.len()
        );
        let mut layers = layers.into_iter();
        self.layers.fill_with(|| layers.next().map(|(key, value)| LayerCache { key, value }));
        (self.tokens_per_frame, self.forgotten) = (tokens_per_frame, forgotten);
    }

    /// Drops what is older than the window and younger than the sink.
    fn trim(&mut self) {
        let (frames, limit) = (self.len(), self.limits.frames.max(self.limits.sink));
        if frames <= limit {
            return;
        }
        self.forgotten += frames - limit;
        let sink = self.limits.sink.min(frames) * self.tokens_per_frame;
        let last = limit * self.tokens_per_frame - sink;
        let keep = |t: &Tensor| {
            let n = t.size()[1];
            Tensor::cat(&[t.narrow(1, 0, sink), t.narrow(1, n - last, last)], 1)
        };
        for layer in self.layers.iter_mut().flatten() {
            *layer = LayerCache { key: keep(&layer.key), value: keep(&layer.value) };
        }
    }
}

impl WanTransformer3DModel {
    /// Predicts the velocity of a block of frames that follows what `cache` holds; see [`Self::forward`] for
    /// the shapes. Tokens of the block see one another and the cache.
    pub fn forward_block(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        cache: &KvCache,
    ) -> Tensor {
        self.causal(hidden_states, timestep, context, cache, |_, _, _| {})
    }

    /// Makes a finished block part of `cache`: one more pass, over the clean frames (`timestep` 0, or the
    /// little noise that the model was trained to find in its context).
    pub fn remember_block(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        cache: &mut KvCache,
    ) {
        let mut fresh = Vec::with_capacity(self.blocks.count());
        // Its velocity is of no use: only the keys and values are kept.
        let _ =
            self.causal(hidden_states, timestep, context, cache, |_, key, value| fresh.push((key, value)));
        for (layer, (key, value)) in cache.layers.iter_mut().zip(fresh) {
            let (key, value) = match layer {
                None => (key, value),
                Some(old) => (Tensor::cat(&[&old.key, &key], 1), Tensor::cat(&[&old.value, &value], 1)),
            };
            *layer = Some(LayerCache { key, value });
        }
        debug_assert_eq!(hidden_states.size()[2] % self.config.patch_size[0], 0);
        let (_, h, w) = self.grid_of(hidden_states);
        cache.tokens_per_frame = h * w;
        cache.trim();
    }

    /// The network with the cache's keys and values before the block's own, which `keep` is handed.
    fn causal(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        cache: &KvCache,
        mut keep: impl FnMut(usize, Tensor, Tensor),
    ) -> Tensor {
        let (f, h, w) = self.grid_of(hidden_states);
        let rotations = |(start, len)| self.rope.forward(start, len, h, w, Device::Cpu);
        let own = rotations((cache.next_position(), f));
        let past = cache.positions().into_iter().filter(|(_, len)| *len > 0).map(rotations);
        let all: Vec<Tensor> = past.chain([own.shallow_clone()]).collect();
        let device = hidden_states.device();
        let (own, all) = (own.to_device(device), Tensor::cat(&all, 1).to_device(device));
        self.run(hidden_states, timestep, context, |i, attention, x| {
            let past = cache.layers[i].as_ref().map(|layer| (&layer.key, &layer.value));
            let (out, key, value) = attention.causal_attention(x, &own, &all, past, None);
            keep(i, key, value);
            out
        })
    }

    /// Looks at finished clips, each frame and those before it: what [`Self::forward_frames`] looks back at.
    pub fn clean_frames(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
    ) -> CleanFrames {
        let (rotations, f, tokens) = self.positions_of(hidden_states);
        let mask = block_causal_mask(f, tokens, 1, hidden_states.device()).to_kind(self.kind());
        let mut layers = Vec::with_capacity(self.blocks.count());
        let _ = self.run(hidden_states, timestep, context, |_, attention, x| {
            let (out, key, value) = attention.causal_attention(x, &rotations, &rotations, None, Some(&mask));
            layers.push(LayerCache { key, value });
            out
        });
        CleanFrames { layers }
    }

    /// Predicts the velocities of all frames of clips at once, each frame as [`Self::forward_block`] gives it over a cache
    /// of the clean frames before it that has forgotten none. A clip's frames are so learned from in one pass (teacher
    /// forcing, as in Self-Forcing, arXiv 2506.08009, section 3.1), and are noisy without seeing each other's noise.
    pub fn forward_frames(
        &self,
        hidden_states: &Tensor,
        timestep: &Tensor,
        context: &TextContext,
        past: &CleanFrames,
    ) -> Tensor {
        let (own, f, tokens) = self.positions_of(hidden_states);
        let all = Tensor::cat(&[&own, &own], 1);
        let device = hidden_states.device();
        let frame = Tensor::arange(f * tokens, (Kind::Int64, device)).floor_divide_scalar(tokens);
        let (row, column) = (frame.unsqueeze(1), frame.unsqueeze(0));
        let hidden = Tensor::cat(&[column.ge_tensor(&row), column.not_equal_tensor(&row)], 1);
        let mask = mask_of(&hidden).to_kind(self.kind());
        self.run(hidden_states, timestep, context, |i, attention, x| {
            let LayerCache { key, value } = &past.layers[i];
            attention.causal_attention(x, &own, &all, Some((key, value)), Some(&mask)).0
        })
    }

    /// Rotary positions of latents from the first frame on, how many frames they are and of how many tokens each.
    fn positions_of(&self, hidden_states: &Tensor) -> (Tensor, i64, i64) {
        let (f, h, w) = self.grid_of(hidden_states);
        (self.rope.forward(0, f, h, w, hidden_states.device()), f, h * w)
    }
}
