//! What a prompt says, as far as an enhancer's lexicon can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sora_model::config::LexiconConfig;

/// The phrases of a [`LexiconConfig`], ready to be looked up.
#[derive(Clone, Debug)]
pub struct Lexicon {
    noun: String,
    attached: BTreeSet<String>,
    fillers: BTreeSet<String>,
    /// Words of a phrase → what it means.
    phrases: BTreeMap<Vec<String>, Fact>,
    longest: usize,
}

/// A kind of fact and its value: ("colour", "red").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// What it is about.
    pub kind: String,
    /// What is said.
    pub value: String,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind, self.value)
    }
}

/// What a text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The things it names, in its order, each with what stands before it.
    pub nouns: Vec<Noun>,
    /// Everything else.
    pub others: BTreeSet<Fact>,
    /// Words of no meaning to the lexicon.
    pub unknown: Vec<String>,
}

/// A thing with its colour and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noun {
    /// What it is.
    pub fact: Fact,
    /// What stands before it.
    pub attached: BTreeSet<Fact>,
}

impl Lexicon {
    /// From a config that has been checked.
    pub fn new(config: &LexiconConfig) -> Self {
        let mut phrases = BTreeMap::new();
        for (kind, values) in &config.facts {
            for (value, spellings) in values {
                for spelling in spellings {
                    let fact = Fact { kind: kind.clone(), value: value.clone() };
                    phrases.insert(words(spelling), fact);
                }
            }
        }
        Self {
            noun: config.noun.clone(),
            attached: config.attached.iter().cloned().collect(),
            fillers: config.fillers.iter().cloned().collect(),
            longest: phrases.keys().map(Vec::len).max().unwrap_or(0),
            phrases,
        }
    }

    /// Reads a text from left to right, at each place the longest phrase that fits.
    pub fn facts(&self, text: &str) -> Facts {
        let words = words(text);
        let mut facts = Facts::default();
        let mut waiting = BTreeSet::new();
        let mut at = 0;
        while at < words.len() {
            let longest = (1..=self.longest.min(words.len() - at)).rev();
            let found = longest.filter_map(|n| Some((n, self.phrases.get(&words[at..at + n])?))).next();
            let Some((n, fact)) = found else {
                if !self.fillers.contains(&words[at]) {
                    facts.unknown.push(words[at].clone());
                }
                // What stands before a filler belongs to no noun after it: "red and white ball".
                facts.others.append(&mut waiting);
                at += 1;
                continue;
            };
            at += n;
            if self.attached.contains(&fact.kind) {
                waiting.insert(fact.clone());
            } else if fact.kind == self.noun {
                facts.nouns.push(Noun { fact: fact.clone(), attached: std::mem::take(&mut waiting) });
            } else {
                facts.others.append(&mut waiting);
                facts.others.insert(fact.clone());
            }
        }
        facts.others.append(&mut waiting);
        facts
    }
}

impl Facts {
    /// The first fact of `self` that `expansion` does not state in the same way; `None` where it keeps all.
    ///
    /// The things must be the same in the same order, and no others. What is said of a thing must be said
    /// of the same thing. Of a kind of which anything is said (a sky), the same must be said and nothing
    /// else; kinds of which nothing is said are free.
    pub fn lost_in(&self, expansion: &Facts) -> Option<Fact> {
        for (i, noun) in self.nouns.iter().enumerate() {
            match expansion.nouns.get(i) {
                Some(other) if other.fact == noun.fact => {
                    if let Some(lost) = lost(&noun.attached, &other.attached) {
                        return Some(lost);
                    }
                }
                _ => return Some(noun.fact.clone()),
            }
        }
        if let (false, Some(added)) = (self.nouns.is_empty(), expansion.nouns.get(self.nouns.len())) {
            return Some(added.fact.clone());
        }
        lost(&self.others, &expansion.others)
    }

    /// All facts, those of things among them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Fact> {
        let nouns = self.nouns.iter().flat_map(|noun| std::iter::once(&noun.fact).chain(&noun.attached));
        nouns.chain(&self.others)
    }
}

/// The first of `wanted` that is not in `found`, or the first of `found` that contradicts it.
fn lost(wanted: &BTreeSet<Fact>, found: &BTreeSet<Fact>) -> Option<Fact> {
    let kinds: BTreeSet<&str> = wanted.iter().map(|fact| fact.kind.as_str()).collect();
    let missing = wanted.iter().find(|fact| !found.contains(fact));
    let added = || found.iter().find(|fact| kinds.contains(fact.kind.as_str()) && !wanted.contains(fact));
    missing.or_else(added).cloned()
}

/// Lower-case words; punctuation is no part of them.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || ",.;:!?\"()".contains(c))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon() -> Lexicon {
        let config: LexiconConfig = serde_json::from_str(
            r#"{"noun": "subject", "attached": ["colour"], "fillers": ["a", "the", "on", "and", "of"],
                "facts": {
                    "subject": {"ball": ["ball"], "cube": ["cube"]},
                    "colour": {"red": ["red"], "blue": ["blue"], "white": ["white"]},
                    "motion": {"rolls": ["rolls", "rolling"], "passes": ["passes behind", "passing behind"]},
                    "heading": {"left": ["left", "to the left"], "right": ["to the right"]},
                    "light": {"left": ["light from the left"]},
                    "ground": {"grass": ["grass"], "snow": ["snow", "snow of a white plain"]}}}"#,
        )
        .expect("valid");
        Lexicon::new(&config)
    }

    fn lost(prompt: &str, expansion: &str) -> Option<String> {
        let lexicon = lexicon();
        lexicon.facts(prompt).lost_in(&lexicon.facts(expansion)).map(|fact| fact.to_string())
    }

    #[test]
    fn other_words_for_the_same_facts_keep_them() {
        let expansion = "a red ball rolls to the left on the snow of a white plain, light from the left";
        for prompt in [
            "a red ball rolling left on snow",
            "Red BALL.",
            "snow",
            "ball",
            "",
            "on the snow, a red ball rolls to the left",
        ] {
            assert_eq!(lost(prompt, expansion), None, "{prompt}");
        }
    }

    #[test]
    fn what_is_lost_or_contradicted_is_named() {
        for (prompt, expansion, named) in [
            ("a red ball", "a blue ball", "colour \"red\""),
            ("a red ball", "a ball", "colour \"red\""),
            ("a red ball", "a red cube", "subject \"ball\""),
            ("a red ball", "a red ball passes behind a blue cube", "subject \"cube\""),
            ("a ball on the grass", "a ball on the grass and snow", "ground \"snow\""),
            // The light's side is not where the ball goes.
            ("a ball rolls left", "a ball rolls to the right, light from the left", "heading \"left\""),
            // Which is red, and which is behind?
            (
                "a red ball passing behind a blue cube",
                "a blue ball passes behind a red cube",
                "colour \"red\"",
            ),
            ("a ball passing behind a cube", "a cube passes behind a ball", "subject \"ball\""),
            // No noun follows.
            ("a red and white ball", "a white ball", "colour \"red\""),
        ] {
            assert_eq!(lost(prompt, expansion).as_deref(), Some(named), "{prompt} -> {expansion}");
        }
    }

    #[test]
    fn words_outside_the_lexicon_are_told() {
        let facts = lexicon().facts("a red dragon on the grass 🐉 left-handed");
        assert_eq!(facts.unknown, ["dragon", "🐉", "left-handed"]);
    }
}
