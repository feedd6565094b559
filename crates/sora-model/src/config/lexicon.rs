//! `prompt_enhancer/lexicon.json`: the words that an enhancer was trained on, and what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Config, in_range};
use crate::ConfigError;

/// What an enhancer's prompts and expansions may be made of. A format of this project: transformers has
/// nothing of the kind.
///
/// A *fact* is a kind and one of its values ("colour", "red"). Phrases are lower-case words with single
/// spaces between; the longest that fits is taken. A text with a word that is in no phrase and no filler is
/// outside the lexicon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LexiconConfig {
    /// The kind of fact that a thing is ("subject").
    pub noun: String,
    /// Kinds of facts that belong to the noun they stand before ("colour").
    pub attached: Vec<String>,
    /// Words that say nothing by themselves.
    pub fillers: Vec<String>,
    /// Kind → value → the phrases that mean it.
    pub facts: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Prompts of more tokens than this, the end marker counted, are left as they are.
    pub max_prompt_tokens: usize,
    /// An expansion that has not ended after so many tokens is thrown away.
    pub max_new_tokens: usize,
}

/// No sentence of a prompt has so many tokens; the time that an expansion takes grows with the square.
const MAX_TOKENS: i64 = 512;

impl LexiconConfig {
    fn kinds(&self) -> impl Iterator<Item = &String> {
        self.attached.iter().chain(std::iter::once(&self.noun))
    }
}

impl Config for LexiconConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(kind) = self.kinds().find(|kind| !self.facts.contains_key(*kind)) {
            return Err(ConfigError::new("noun, attached", kind, "kinds that `facts` has"));
        }
        let phrases = self.facts.values().flat_map(BTreeMap::values).flatten();
        if let Some(phrase) = phrases.chain(&self.fillers).find(|phrase| !is_plain(phrase)) {
            return Err(ConfigError::new(
                "facts, fillers",
                format!("\"{phrase}\""),
                "lower-case words with single spaces between",
            ));
        }
        let tokens = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        in_range("max_prompt_tokens", tokens(self.max_prompt_tokens), 2, MAX_TOKENS)?;
        in_range("max_new_tokens", tokens(self.max_new_tokens), 2, MAX_TOKENS)
    }
}

fn is_plain(phrase: &str) -> bool {
    let words = phrase.split_whitespace().collect::<Vec<_>>().join(" ");
    !phrase.is_empty() && words == *phrase && phrase.to_lowercase() == *phrase
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon(facts: &str) -> Result<LexiconConfig, crate::ModelError> {
        LexiconConfig::from_json(&format!(
            r#"{{"noun": "subject", "attached": ["colour"], "fillers": ["a"], "facts": {facts},
                "max_prompt_tokens": 64, "max_new_tokens": 96}}"#
        ))
    }

    #[test]
    fn kinds_and_phrases_are_checked() {
        lexicon(r#"{"subject": {"ball": ["ball"]}, "colour": {"red": ["red"]}}"#).expect("it is fine");
        let missing = lexicon(r#"{"subject": {"ball": ["ball"]}}"#).expect_err("no colour").to_string();
        assert!(missing.contains("colour"), "{missing}");
        for phrase in ["", "Ball", "a  ball", " ball"] {
            let facts = format!(r#"{{"subject": {{"ball": ["{phrase}"]}}, "colour": {{}}}}"#);
            let error = lexicon(&facts).expect_err("no plain phrase").to_string();
            assert!(error.contains(&format!("\"{phrase}\"")), "{error}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let error = LexiconConfig::default().check().expect_err("there is no noun").to_string();
        assert!(error.contains("noun"), "{error}");
        let text = r#"{"noun": "s", "facts": {"s": {}}, "max_prompt_tokens": 64, "max_new_tokens": 100000}"#;
        let error = LexiconConfig::from_json(text).expect_err("too long").to_string();
        assert!(error.contains("max_new_tokens") && error.contains("512"), "{error}");
    }
}
