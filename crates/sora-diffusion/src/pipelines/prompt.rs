use tch::{Kind, Tensor};

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

    /// A prompt on its way into `other`, position by position: `share` 0 is this one, 1 the other. The shorter one
    /// is continued by the padding that it has anyway.
    pub fn blend(&self, other: &Self, share: f64, max_sequence_length: i64) -> Self {
        let (own, other) = (self.tokens(), other.tokens());
        let length = own.size()[1].max(other.size()[1]);
        let padded = |tokens: &Tensor| {
            let (_, len, dim) = tokens.size3().expect("1 L text_dim");
            let zeros = Tensor::zeros([1, length - len, dim], (tokens.kind(), tokens.device()));
            Tensor::cat(&[tokens, &zeros], 1).to_kind(Kind::Float)
        };
        let blended = padded(&own) * (1.0 - share) + padded(&other) * share;
        Self::new(&blended.to_kind(own.kind()), max_sequence_length)
    }

    /// The real tokens, `[1, L, text_dim]`.
    fn tokens(&self) -> Tensor {
        let length = self.embeds.size()[1];
        self.embeds.narrow(1, 0, length - i64::from(self.weights.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blend_begins_as_the_one_and_ends_as_the_other() {
        let options = (Kind::Float, tch::Device::Cpu);
        let short = PromptEmbeds::new(&Tensor::ones([1, 2, 3], options), 8);
        let long = PromptEmbeds::new(&(Tensor::ones([1, 4, 3], options) * 3.0), 8);
        let half = short.blend(&long, 0.5, 8);
        assert_eq!(half.embeds.size(), [1, 5, 3]);
        let column = |embeds: &PromptEmbeds| {
            Vec::<f32>::try_from(embeds.embeds.narrow(2, 0, 1).reshape([-1])).expect("floats")
        };
        assert_eq!(column(&half), [2.0, 2.0, 1.5, 1.5, 0.0]);
        assert_eq!(column(&short.blend(&long, 1.0, 8)), [3.0, 3.0, 3.0, 3.0, 0.0]);
        assert_eq!(column(&short.blend(&long, 0.0, 8)), [1.0, 1.0, 0.0, 0.0, 0.0]);
        let weights = half.weights.expect("there is padding");
        assert_eq!(Vec::<f32>::try_from(weights.reshape([-1])).expect("floats"), [1.0, 1.0, 1.0, 1.0, 4.0]);
    }
}
