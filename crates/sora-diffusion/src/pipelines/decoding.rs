//! Latents become frames: by the large VAE or by the tiny one.

use sora_model::weights::WeightFiles;
use tch::Tensor;

use super::TextToVideoPipeline;
use crate::models::Taehv;
use crate::models::autoencoder_kl_wan::FeatureCache;
use crate::models::taehv::FrameMemory;

/// A tiny VAE, and its weight file, which must stay mapped.
pub(super) struct TinyVae {
    pub(super) model: Taehv,
    pub(super) _weights: WeightFiles,
}

/// What a decoder keeps of the frames before, from chunk to chunk of one clip.
#[derive(Default)]
pub(super) struct DecoderMemory {
    large: FeatureCache,
    tiny: FrameMemory,
}

impl TextToVideoPipeline {
    /// The next frames of a clip, `[1, 3, T, H, W]` in −1…1, of latents as the transformer makes them, `[1, C, T', H',
    /// W']` in f32.
    pub(super) fn decode_chunk(&self, latents: &Tensor, memory: &mut DecoderMemory) -> Tensor {
        match &self.tiny_vae {
            Some(tiny) => tiny.model.decode_chunk(latents, &mut memory.tiny),
            None => {
                let z = self.vae.denormalize_latents(&latents.to_kind(self.kinds.vae));
                self.vae.decode_chunk(&z, &mut memory.large)
            }
        }
    }
}
