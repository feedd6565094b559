//! A prompt that fades into another.

use std::sync::Arc;

use super::super::{OnProgress, PromptEmbeds, TextToVideoPipeline};
use crate::error::Result;

/// What a prompt is fading into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fade<'a> {
    /// The prompt at the end of the fade.
    pub to: &'a str,
    /// How far it has come: 0 (not at all) to 1 (all the way).
    pub share: f64,
}

/// What a memory was told, by value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wording {
    prompt: String,
    fade: Option<(String, f64)>,
}

impl Wording {
    /// A fade that has not begun is its first prompt, and one that is over its second.
    pub(super) fn new(prompt: &str, fade: Option<Fade<'_>>) -> Self {
        match fade {
            Some(Fade { to, share }) if share >= 1.0 => Self { prompt: to.to_owned(), fade: None },
            Some(Fade { to, share }) if share > 0.0 && to != prompt => {
                Self { prompt: prompt.to_owned(), fade: Some((to.to_owned(), share)) }
            }
            _ => Self { prompt: prompt.to_owned(), fade: None },
        }
    }
}

impl TextToVideoPipeline {
    /// Embeddings of a prompt, or of what lies between two: linear, position by position.
    pub(super) fn encode_wording(
        &self,
        wording: &Wording,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Arc<PromptEmbeds>> {
        let embeds = self.encode_prompt(&wording.prompt, on_progress)?;
        let Some((to, share)) = &wording.fade else { return Ok(embeds) };
        let to = self.encode_prompt(to, on_progress)?;
        Ok(Arc::new(embeds.blend(&to, *share, self.max_sequence_length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fade_begins_as_its_first_prompt_and_ends_as_its_second() {
        let at = |share| Wording::new("a", Some(Fade { to: "b", share }));
        assert_eq!(at(0.0), Wording::new("a", None));
        assert_eq!(at(1.0), Wording::new("b", None));
        assert_ne!(at(0.5), at(0.25));
        let itself = Fade { to: "a", share: 0.5 };
        assert_eq!(Wording::new("a", Some(itself)), Wording::new("a", None));
    }
}
