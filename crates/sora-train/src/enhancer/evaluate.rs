//! How well an enhancer writes, on scenes that no training draws from.

use std::collections::BTreeMap;

use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Enhancement, Reason, Writer};
use sora_diffusion::tokenizer::Tokenizer;
use sora_world::Domain;

use super::pairs::{Pair, Source, Tokens};
use crate::clips::encode;
use crate::data::{self, Purpose};
use crate::seeds::Seeds;

/// What is measured on one kind of prompts.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Figures {
    /// Which prompts of which scenes.
    name: &'static str,
    prompts: usize,
    /// Share of the tokens of the detailed caption that are the likeliest after those before them. Much of a
    /// caption is open (size, light, pace): 1 cannot be reached.
    token_accuracy: f64,
    /// Share of the prompts whose greedy expansion keeps to everything they say.
    greedily_kept: f64,
    /// The same when others are drawn where it does not.
    prompts_kept: f64,
    /// Share of the facts that are stated in the greedy expansion, all prompts together, whatever it states
    /// them of.
    facts_stated: f64,
    /// Kind of fact → how often the greedy expansion did not keep to it.
    lost: BTreeMap<String, usize>,
    /// Prompts whose greedy expansion was not well formed.
    garbled: usize,
    /// Words of prompts and of their expansions, mean.
    words: (f64, f64),
}

/// The sets that are measured: name, prompts, whether the combination of subject, colour and ground is held
/// out.
const SETS: [(&str, Source, bool); 5] = [
    ("short captions, unseen scenes", Source::Caption, false),
    ("short captions, held-out combinations", Source::Caption, true),
    ("open prompts, unseen scenes", Source::Prompt, false),
    ("open prompts, held-out combinations", Source::Prompt, true),
    ("detailed captions, unseen scenes", Source::Detailed, false),
];

/// Measures `count` prompts of each set.
pub(crate) fn evaluate(
    writer: &Writer,
    tokenizer: &Tokenizer,
    start: i64,
    count: u64,
    domain: &Domain,
) -> anyhow::Result<Vec<Figures>> {
    SETS.iter()
        .map(|&(name, source, held_out)| {
            let pairs: Vec<Pair> = (0..count)
                .map(|index| {
                    let scene = data::scene_of_split(SEED, Purpose::Evaluation, index, domain, held_out);
                    source.pair(&scene, Seeds::new(SEED, Purpose::Evaluation as u64, !index).next_u64())
                })
                .collect();
            figures(name, &pairs, writer, tokenizer, start)
        })
        .collect()
}

const SEED: u64 = 1;

fn figures(
    name: &'static str,
    pairs: &[Pair],
    writer: &Writer,
    tokenizer: &Tokenizer,
    start: i64,
) -> anyhow::Result<Figures> {
    let _no_grad = tch::no_grad_guard();
    let (mut hits, mut tokens) = (0, 0);
    for pairs in pairs.chunks(64) {
        let batch = Tokens::new(pairs, tokenizer, start)?;
        let states = writer.model().encode(&batch.input_ids, &batch.mask);
        let logits = writer.model().decode(&batch.decoder_input_ids, &states, &batch.mask);
        let (some_hits, some) = batch.hits(&logits);
        hits += some_hits;
        tokens += some;
    }
    let mut lost = BTreeMap::<String, usize>::new();
    let (mut greedily, mut drawn, mut garbled, mut facts, mut facts_stated) = (0, 0, 0, 0, 0);
    let (mut words_before, mut words_after) = (0, 0);
    for pair in pairs {
        let said = writer.lexicon().facts(&pair.prompt);
        let total = said.all().count();
        facts += total;
        let ids = encode(tokenizer, &pair.prompt)?;
        let expansion = match writer.attempt(tokenizer, &ids, &said, Decoding::Greedy)? {
            Enhancement::Expanded(expansion) => {
                greedily += 1;
                expansion
            }
            Enhancement::Unchanged(reason) => {
                let enhanced = writer.enhance(tokenizer, &pair.prompt, Decoding::Greedy)?;
                drawn += usize::from(matches!(enhanced, Enhancement::Expanded(_)));
                let Reason::Lost { fact, expansion } = reason else {
                    garbled += 1;
                    continue;
                };
                *lost.entry(fact.kind).or_default() += 1;
                expansion
            }
        };
        let stated = writer.lexicon().facts(&expansion);
        facts_stated += said.all().filter(|fact| stated.all().any(|other| other == *fact)).count();
        words_before += pair.prompt.split_whitespace().count();
        words_after += expansion.split_whitespace().count();
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let written = pairs.len() - garbled;
    Ok(Figures {
        name,
        prompts: pairs.len(),
        token_accuracy: hits as f64 / tokens.max(1) as f64,
        greedily_kept: share(greedily, pairs.len()),
        prompts_kept: share(greedily + drawn, pairs.len()),
        facts_stated: share(facts_stated, facts),
        lost,
        garbled,
        words: (share(words_before, written), share(words_after, written)),
    })
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} prompts of {:.1} words to {:.1}; token accuracy {:.1} %, facts stated {:.2} %, \
             everything kept in {:.2} %, with further draws {:.2} %, garbled {}",
            self.name,
            self.prompts,
            self.words.0,
            self.words.1,
            100.0 * self.token_accuracy,
            100.0 * self.facts_stated,
            100.0 * self.greedily_kept,
            100.0 * self.prompts_kept,
            self.garbled
        )?;
        if self.lost.is_empty() { Ok(()) } else { write!(f, ", lost {:?}", self.lost) }
    }
}
