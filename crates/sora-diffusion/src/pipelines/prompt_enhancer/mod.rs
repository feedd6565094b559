//! Prompt enhancement: a short prompt becomes the detailed caption that the video model understands best.
//!
//! Video models learn from detailed captions, people type short ones; the report on Sora and the Wan models
//! put a language model between them. Here it is a small one of the model's own directory
//! ([`sora_model::PromptEnhancerDir`]). It may add what the prompt leaves open and must keep what it says:
//! every expansion is checked against the prompt by the enhancer's lexicon, and one that does not keep to
//! it is not used.

mod lexicon;

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use sora_model::PromptEnhancerDir;
use sora_model::config::LexiconConfig;
use tch::{Device, Kind, Tensor};

use crate::error::{DiffusionError, Result};
use crate::models::Umt5ForConditionalGeneration;
use crate::models::umt5::TOLERATED_KEYS_OF_BOTH;
use crate::noise::seeded_noise;
use crate::tokenizer::{Tokenizer, clean_prompt};
use crate::weights::{FileWeights, Layout, Weights};

pub use lexicon::{Fact, Facts, Lexicon, Noun};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decoding {
    /// The most likely one: the same prompt always becomes the same.
    #[default]
    Greedy,
    /// Drawn by the probabilities: one seed, one expansion.
    Sample {
        /// Seed of the draws.
        seed: u64,
        /// Above 0; 1 takes the probabilities as they are, less favours the likely.
        temperature: f64,
    },
}

/// Expansions that are tried: the first as asked for, the others drawn. What the network is unsure of
/// (which of two things is the red one) comes out right in some of them.
const ATTEMPTS: u64 = 8;

impl Decoding {
    /// Draws of another kind, the same for the same attempt.
    fn another(self, attempt: u64) -> Self {
        match self {
            Self::Greedy => Self::Sample { seed: attempt, temperature: 1.0 },
            Self::Sample { seed, temperature } => {
                Self::Sample { seed: seed ^ attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15), temperature }
            }
        }
    }
}

/// What became of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enhancement {
    /// The detailed prompt to use in its place.
    Expanded(String),
    /// The prompt is to be used as it is.
    Unchanged(Reason),
}

/// Why a prompt was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing was asked for.
    #[error("it is empty")]
    Empty,
    /// It says enough by itself.
    #[error("it has {tokens} tokens, more than the {limit} of a short prompt")]
    Long {
        /// Its tokens, the end marker counted.
        tokens: usize,
        /// The most that are expanded.
        limit: usize,
    },
    /// The enhancer would have to guess what these words mean.
    #[error("the enhancer does not know {}", quoted(.0))]
    UnknownWords(Vec<String>),
    /// The expansion did not keep to the prompt.
    #[error("the expansion \"{expansion}\" does not keep to it in the {fact}")]
    Lost {
        /// What was lost, or added to what had been said.
        fact: Fact,
        /// What is not used.
        expansion: String,
    },
    /// The expansion is no sentence.
    #[error("the expansion is not well formed")]
    Garbled {
        /// What is not used.
        expansion: String,
    },
}

/// The first few words and how many more there are.
fn quoted(words: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = words.iter().take(SHOWN).map(|word| format!("\"{word}\"")).collect();
    let more = words.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more words") } else { String::new() };
    shown.join(", ") + &more
}

/// A loaded enhancer.
pub struct PromptEnhancer {
    /// Also keeps the weight file mapped, which parameters may be views of.
    dir: PromptEnhancerDir,
    tokenizer: Tokenizer,
    writer: Writer,
}

// SAFETY: tch marks Tensor as not Sync because tensors can be written through a shared reference. Nothing
// writes to these after load, and libtorch allows concurrent reads.
unsafe impl Sync for PromptEnhancer {}

impl PromptEnhancer {
    /// Loads the enhancer of a folder `prompt_enhancer`, with the tokenizer `model_tokenizer` (folder and
    /// class) unless it has its own. It computes on the CPU in f32 wherever the video model is: it is small,
    /// and the same prompt should become the same everywhere.
    ///
    /// # Errors
    /// Those of the strict loader ([`crate::weights`]) and [`DiffusionError::Tokenizer`];
    /// [`DiffusionError::Unsupported`] for a tokenizer of another model.
    pub fn load(dir: PromptEnhancerDir, model_tokenizer: (&Path, &str)) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let tokenizer = match dir.tokenizer_path() {
            Some(own) => Tokenizer::open(&own)?,
            None => Tokenizer::open_as(model_tokenizer.0, model_tokenizer.1)?,
        };
        if tokenizer.vocab_size() as i64 > dir.encoder().vocab_size {
            return Err(DiffusionError::Unsupported(format!(
                "the tokenizer has {} pieces, the prompt enhancer in {} knows {}: they belong to different models",
                tokenizer.vocab_size(),
                dir.path().display(),
                dir.encoder().vocab_size
            )));
        }
        let mut on_bytes = |_| ControlFlow::Continue(());
        let layout = Layout { device: Device::Cpu, kind: Kind::Float, keep_in_f32: &[], streamed: false };
        let source = Rc::new(FileWeights::new("prompt_enhancer", dir.weights(), layout, &mut on_bytes));
        let model =
            Umt5ForConditionalGeneration::new(&Weights::new(source.clone()), dir.encoder(), dir.decoder())?;
        source.finish(TOLERATED_KEYS_OF_BOTH)?;
        let writer = Writer::new(
            model,
            (dir.decoder().decoder_start_token_id, dir.decoder().eos_token_id),
            dir.lexicon(),
        );
        Ok(Self { dir, tokenizer, writer })
    }

    /// The folder it was loaded from.
    pub fn dir(&self) -> &PromptEnhancerDir {
        &self.dir
    }

    /// Expands a prompt, or says why it is better left alone; see [`Reason`]. Where the first expansion does
    /// not keep to the prompt, seven more are drawn, always the same, and the first that does is taken.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`], and [`DiffusionError::Request`] for a temperature out of bounds.
    pub fn enhance(&self, prompt: &str, decoding: Decoding) -> Result<Enhancement> {
        self.writer.enhance(&self.tokenizer, prompt, decoding)
    }
}

/// A network that expands prompts, with its rules: what `sora-train` evaluates while it trains, too.
pub struct Writer {
    model: Umt5ForConditionalGeneration,
    start_and_end: (i64, i64),
    lexicon: Lexicon,
    max_prompt_tokens: usize,
    max_new_tokens: usize,
}

impl Writer {
    /// From a network, its start and end tokens, and its lexicon.
    pub fn new(
        model: Umt5ForConditionalGeneration,
        start_and_end: (i64, i64),
        lexicon: &LexiconConfig,
    ) -> Self {
        Self {
            model,
            start_and_end,
            lexicon: Lexicon::new(lexicon),
            max_prompt_tokens: lexicon.max_prompt_tokens,
            max_new_tokens: lexicon.max_new_tokens,
        }
    }

    /// The network.
    pub fn model(&self) -> &Umt5ForConditionalGeneration {
        &self.model
    }

    /// The lexicon.
    pub fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    /// [`PromptEnhancer::enhance`].
    ///
    /// # Errors
    /// As there.
    pub fn enhance(&self, tokenizer: &Tokenizer, prompt: &str, decoding: Decoding) -> Result<Enhancement> {
        let unchanged = |reason| Ok(Enhancement::Unchanged(reason));
        if let Decoding::Sample { temperature, .. } = decoding
            && !(temperature.is_finite() && temperature > 0.0)
        {
            return Err(DiffusionError::Request {
                what: "temperature",
                value: temperature.to_string(),
                bound: "it must be a finite number above 0".into(),
            });
        }
        let cleaned = clean_prompt(prompt);
        if cleaned.is_empty() {
            return unchanged(Reason::Empty);
        }
        let facts = self.lexicon.facts(&cleaned);
        if !facts.unknown.is_empty() {
            return unchanged(Reason::UnknownWords(facts.unknown));
        }
        let ids = tokenizer.encode(&cleaned, usize::MAX)?.ids;
        if ids.len() > self.max_prompt_tokens {
            return unchanged(Reason::Long { tokens: ids.len(), limit: self.max_prompt_tokens });
        }
        let first = self.attempt(tokenizer, &ids, &facts, decoding)?;
        if matches!(first, Enhancement::Expanded(_)) {
            return Ok(first);
        }
        for attempt in 1..ATTEMPTS {
            let another = decoding.another(attempt);
            let drawn = self.attempt(tokenizer, &ids, &facts, another)?;
            if matches!(drawn, Enhancement::Expanded(_)) {
                return Ok(drawn);
            }
        }
        Ok(first)
    }

    /// One expansion of a prompt that can be expanded, used or not as it keeps to `facts`.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`].
    pub fn attempt(
        &self,
        tokenizer: &Tokenizer,
        ids: &[i64],
        facts: &Facts,
        decoding: Decoding,
    ) -> Result<Enhancement> {
        let written = self.write(ids, decoding);
        let ended = written.last() == Some(&self.start_and_end.1);
        let expansion = tokenizer.decode(&written)?;
        let said = self.lexicon.facts(&expansion);
        Ok(if !ended || expansion.is_empty() || !said.unknown.is_empty() {
            Enhancement::Unchanged(Reason::Garbled { expansion })
        } else {
            match facts.lost_in(&said) {
                Some(fact) => Enhancement::Unchanged(Reason::Lost { fact, expansion }),
                None => Enhancement::Expanded(expansion),
            }
        })
    }

    /// Token ids of a prompt → those of its expansion, at most `max_new_tokens`; the end marker is the last
    /// if it came to an end.
    pub fn write(&self, prompt: &[i64], decoding: Decoding) -> Vec<i64> {
        let _no_grad = tch::no_grad_guard();
        let (start, end) = self.start_and_end;
        let prompt = Tensor::from_slice(prompt).unsqueeze(0);
        let mask = prompt.ones_like();
        let states = self.model.encode(&prompt, &mask);
        let mut chance = Chance::new(decoding, self.max_new_tokens);
        let mut ids = vec![start];
        while ids.len() <= self.max_new_tokens {
            let logits = self.model.decode(&Tensor::from_slice(&ids).unsqueeze(0), &states, &mask);
            let next = chance.pick(&logits.get(0).get(ids.len() as i64 - 1));
            ids.push(next);
            if next == end {
                break;
            }
        }
        ids.split_off(1)
    }
}

/// Chooses tokens.
struct Chance {
    temperature: f64,
    /// One number in [0, 1) for each token to come; none where nothing is drawn.
    draws: std::vec::IntoIter<f64>,
}

impl Chance {
    fn new(decoding: Decoding, tokens: usize) -> Self {
        let (temperature, draws) = match decoding {
            Decoding::Greedy => (1.0, Vec::new()),
            Decoding::Sample { seed, temperature } => {
                // Normal numbers are what every seed here means; their distribution function makes them
                // uniform.
                let normal = seeded_noise(seed, &[tokens as i64]).to_kind(Kind::Double);
                let uniform = (normal / std::f64::consts::SQRT_2).erf() * 0.5 + 0.5;
                (temperature, Vec::<f64>::try_from(&uniform).expect("a vector of doubles"))
            }
        };
        Self { temperature, draws: draws.into_iter() }
    }

    /// Logits `[vocab_size]` → a token.
    fn pick(&mut self, logits: &Tensor) -> i64 {
        let likeliest = || logits.argmax(0, false).int64_value(&[]);
        let Some(draw) = self.draws.next() else { return likeliest() };
        let probabilities = (logits.to_kind(Kind::Double) / self.temperature).softmax(0, Kind::Double);
        let below = probabilities.cumsum(0, Kind::Double).le(draw).to_kind(Kind::Int64);
        // Rounding can leave the sum a little below 1.
        below.sum(Kind::Int64).int64_value(&[]).min(logits.size()[0] - 1)
    }
}
