//! Block by block generation over a cache of keys and values.
//!
//! A causal model makes a few latent frames at a time. What earlier frames mean to later ones is in the keys
//! and values of every self-attention, which are kept: of the first frames (the *sink*) and of the last ones
//! (the *window*), so that time and memory do not grow. Keys are kept as they are before the rotary
//! embedding and rotated where they are read, by their place in the cache (as LongLive does; see
//! arXiv 2509.22622): positions never leave the range that training saw, however long the stream is.

use tch::Tensor;

use super::{TextContext, WanTransformer3DModel};

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
    layers: Vec<Option<LayerCache>>,
    tokens_per_frame: i64,
}

/// `[B, M, heads, head_dim]` each, keys not rotated.
struct LayerCache {
    key: Tensor,
    value: Tensor,
}

impl KvCache {
    /// An empty cache for `model`.
    pub fn new(model: &WanTransformer3DModel, limits: CacheLimits) -> Self {
        let layers = (0..model.blocks.len()).map(|_| None).collect();
        Self { limits, layers, tokens_per_frame: 0 }
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

    /// Drops what is older than the window and younger than the sink.
    fn trim(&mut self) {
        let (frames, limit) = (self.len(), self.limits.frames.max(self.limits.sink));
        if frames <= limit {
            return;
        }
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
        let mut fresh = Vec::with_capacity(self.blocks.len());
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
        let [p_t, p_h, p_w] = self.config.patch_size;
        let (_, _, t, h, w) = hidden_states.size5().expect("latents are B C T H W");
        debug_assert_eq!(t % p_t, 0);
        cache.tokens_per_frame = (h / p_h) * (w / p_w);
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
        let [p_t, p_h, p_w] = self.config.patch_size;
        let (_, _, t, h, w) = hidden_states.size5().expect("latents are B C T H W");
        let (f, h, w) = (t / p_t, h / p_h, w / p_w);
        let start = cache.len();
        let all = self.rope.forward(0, start + f, h, w, hidden_states.device());
        let own = self.rope.forward(start, f, h, w, hidden_states.device());
        self.run(hidden_states, timestep, context, |i, attention, x| {
            let past = cache.layers[i].as_ref().map(|layer| (&layer.key, &layer.value));
            let (out, key, value) = attention.causal_attention(x, &own, &all, past);
            keep(i, key, value);
            out
        })
    }
}
