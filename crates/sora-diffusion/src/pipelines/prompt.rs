use tch::Tensor;

/// What the text encoder makes of one prompt, without the padding.
///
/// The reference pads with zero vectors to `max_sequence_length` and masks nothing, so the padding does
/// take part in the cross-attention. All padded positions are equal; one of them with a weight stands
/// for all (see [`crate::models::WanTransformer3DModel::encode_context`]).
pub struct PromptEmbeds {
    /// `[1, L, text_dim]`, or `[1, L + 1, text_dim]` with a zero vector at the end if there is padding.
    pub(super) embeds: Tensor,
    /// How often each position counts, `[1, L + 1]`; `None` if there is no padding.
    pub(super) weights: Option<Tensor>,
}

// SAFETY: tch marks Tensor as not Sync because tensors can be written through a shared reference. Nothing
// writes to these after `new`, and libtorch allows concurrent reads.
unsafe impl Sync for PromptEmbeds {}

impl PromptEmbeds {
    /// From the encoder's output `[1, L, text_dim]` for the real tokens only.
    pub fn new(hidden: &Tensor, max_sequence_length: i64) -> Self {
        let (_, len, dim) = hidden.size3().expect("1 L text_dim");
        let padding = max_sequence_length - len;
        if padding <= 0 {
            return Self { embeds: hidden.shallow_clone(), weights: None };
        }
        let zero = Tensor::zeros([1, 1, dim], (hidden.kind(), hidden.device()));
        let mut weights = vec![1f32; len as usize];
        weights.push(padding as f32);
        Self {
            embeds: Tensor::cat(&[hidden, &zero], 1),
            weights: Some(Tensor::from_slice(&weights).unsqueeze(0).to_device(hidden.device())),
        }
    }

    /// For [`crate::models::WanTransformer3DModel::encode_context`].
    pub fn embeds(&self) -> &Tensor {
        &self.embeds
    }

    /// For [`crate::models::WanTransformer3DModel::encode_context`].
    pub fn weights(&self) -> Option<&Tensor> {
        self.weights.as_ref()
    }
}
