//! What an enhancer learns from: what people may type, and the detailed caption of a scene that it fits.

use sora_diffusion::tokenizer::Tokenizer;
use sora_world::{Domain, Scene};
use tch::{Kind, Tensor};

use crate::clips::encode;
use crate::data::{self, Purpose};
use crate::seeds::Seeds;

/// A prompt and its expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) prompt: String,
    pub(crate) detailed: String,
}

/// Where prompts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The short caption.
    Caption,
    /// A prompt that leaves things open.
    Prompt,
    /// The detailed caption, which is to stay as it is.
    Detailed,
}

impl Source {
    /// The pair of a scene.
    pub(crate) fn pair(self, scene: &Scene, variant: u64) -> Pair {
        let detailed = scene.detailed_caption();
        let prompt = match self {
            Self::Caption => scene.caption(),
            Self::Prompt => scene.prompt(variant),
            Self::Detailed => detailed.clone(),
        };
        Pair { prompt, detailed }
    }
}

/// The pairs of one step: of scenes that are not held out; a step depends on its seeds alone.
pub(crate) fn draw(seed: u64, step: u64, batch: usize, domain: &Domain) -> Vec<Pair> {
    (0..batch as u64)
        .map(|i| {
            let index = step * batch as u64 + i;
            let scene = data::scene_of_split(seed, Purpose::Enhancer, index, domain, false);
            let mut seeds = Seeds::new(seed, Purpose::Enhancer as u64, !index);
            // Detailed captions, twice as long as the others, come in steps of their own: less padding.
            let source = match (step % 10, seeds.below(2)) {
                (9, _) => Source::Detailed,
                (_, 0) => Source::Caption,
                _ => Source::Prompt,
            };
            source.pair(&scene, seeds.next_u64())
        })
        .collect()
}

/// Pairs as tensors, all i64.
pub(crate) struct Tokens {
    /// Prompts `[B, L]`, padded with 0.
    pub(crate) input_ids: Tensor,
    /// 1 for a token, 0 for padding, `[B, L]`.
    pub(crate) mask: Tensor,
    /// What has been written before each token, `[B, M]`: the start token, then the expansion.
    pub(crate) decoder_input_ids: Tensor,
    /// The tokens to write `[B, M]`, [`IGNORED`] at padding.
    pub(crate) labels: Tensor,
}

/// Marks labels that do not count, as torch's cross entropy does.
pub(crate) const IGNORED: i64 = -100;

impl Tokens {
    /// Tokens of some pairs; `start` is the token before the first.
    pub(crate) fn new(pairs: &[Pair], tokenizer: &Tokenizer, start: i64) -> anyhow::Result<Self> {
        let encoded = |text: fn(&Pair) -> &str| -> anyhow::Result<Vec<Vec<i64>>> {
            pairs.iter().map(|pair| encode(tokenizer, text(pair))).collect()
        };
        let (prompts, labels) = (encoded(|p| &p.prompt)?, encoded(|p| &p.detailed)?);
        let written = labels.iter().map(|ids| [&[start], &ids[..ids.len() - 1]].concat()).collect::<Vec<_>>();
        let input_ids = padded(&prompts, 0);
        let ones: Vec<Vec<i64>> = prompts.iter().map(|ids| vec![1; ids.len()]).collect();
        Ok(Self {
            mask: padded(&ones, 0),
            input_ids,
            decoder_input_ids: padded(&written, 0),
            labels: padded(&labels, IGNORED),
        })
    }

    /// Logits `[B, M, V]` → the mean cross entropy of the tokens to write, in nats.
    pub(crate) fn loss(&self, logits: &Tensor) -> Tensor {
        let vocabulary = logits.size()[2];
        logits.view([-1, vocabulary]).cross_entropy_loss::<Tensor>(
            &self.labels.view([-1]),
            None,
            tch::Reduction::Mean,
            IGNORED,
            0.0,
        )
    }

    /// How many of the tokens to write are the likeliest, and how many there are.
    pub(crate) fn hits(&self, logits: &Tensor) -> (i64, i64) {
        let counts = self.labels.ne(IGNORED);
        let hits = logits.argmax(-1, false).eq_tensor(&self.labels).logical_and(&counts);
        let sum = |t: &Tensor| t.sum(Kind::Int64).int64_value(&[]);
        (sum(&hits), sum(&counts))
    }
}

fn padded(rows: &[Vec<i64>], padding: i64) -> Tensor {
    let len = rows.iter().map(Vec::len).max().unwrap_or(0);
    let flat: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(padding, len - row.len())))
        .collect();
    Tensor::from_slice(&flat).view([rows.len() as i64, len as i64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::is_held_out;

    #[test]
    fn a_step_is_drawn_again_the_same_and_no_other_is() {
        let domain = Domain::core();
        assert_eq!(draw(1, 5, 16, &domain), draw(1, 5, 16, &domain));
        assert_ne!(draw(1, 5, 16, &domain), draw(1, 6, 16, &domain));
        let detailed = |step| draw(1, step, 20, &domain).iter().filter(|p| p.prompt == p.detailed).count();
        assert_eq!((detailed(8), detailed(9)), (0, 20));
    }

    #[test]
    fn what_is_held_out_is_not_learned_from() {
        let domain = Domain::core();
        for index in 0..500 {
            let scene = data::scene_of_split(1, Purpose::Enhancer, index, &domain, false);
            assert!(!is_held_out(scene.attributes()));
        }
    }

    #[test]
    fn rows_are_padded_to_the_longest() {
        let rows = padded(&[vec![5, 1], vec![7, 8, 1]], 0);
        let flat = Vec::<i64>::try_from(rows.view([-1])).expect("integers");
        assert_eq!(flat, [5, 1, 0, 7, 8, 1]);
    }
}
