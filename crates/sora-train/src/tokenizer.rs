//! Stage 1: a byte pair tokenizer (arXiv 1508.07909) for captions, with the special tokens of T5.
//!
//! The real models use Unigram; on a language of some hundred words its trainer spells words as short as
//! "red" letter by letter, while merging pairs makes every frequent word one piece.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use sora_world::{Domain, Scene};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence as Split;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::checkpoint::write_whole;
use crate::run::Run;
use crate::seeds::Seeds;

/// Options of `sora-train tokenizer`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to write tokenizer.json and tokenizer_config.json to.
    #[arg(long, default_value = "runs/tokenizer")]
    run: PathBuf,
    /// Captions to learn from.
    #[arg(long, default_value_t = 20_000)]
    captions: u64,
    /// Size of the vocabulary at the most.
    #[arg(long, default_value_t = 512)]
    vocabulary: usize,
    /// Seed of the captions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// As T5 has them: padding 0, end 1, unknown 2.
const SPECIAL: [&str; 3] = ["<pad>", "</s>", "<unk>"];

/// Words people use that captions do not hold; the tokenizer should not fall to pieces over them.
const PLAIN_ENGLISH: &str = "the a an of and in on with at to from by is are was it its this that video clip \
    picture photo slowly quickly fast slow big small large little bright dark light day evening morning \
    camera view close wide background foreground moving moves move still up down left right over under";

/// Trains and writes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    Run::create(&args.run, Some(args.seed))?;
    let lines = (0..args.captions).flat_map(|i| {
        let mut seeds = Seeds::new(args.seed, 3, i);
        // What sora-tiny learns it must know by heart; the words of the full domain follow.
        let domain = if i % 2 == 0 { Domain::core() } else { Domain::full() };
        let scene = Scene::sample(seeds.next_u64(), &domain);
        [scene.caption(), scene.detailed_caption()]
    });
    let letters = ('a'..='z').chain('0'..='9').chain("-.,!?:;'\"()/&%+".chars()).map(String::from);
    let lines = lines.chain(letters.map(|l| format!("{l} {l}"))).chain(vec![PLAIN_ENGLISH.to_owned(); 20]);

    let to_error = |e: tokenizers::Error| anyhow!("tokenizer: {e}");
    let special: Vec<AddedToken> = SPECIAL.iter().map(|t| AddedToken::from(*t, true)).collect();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(args.vocabulary)
        .min_frequency(2)
        .special_tokens(special)
        .initial_alphabet(('a'..='z').chain('0'..='9').chain(".,!?:;'\"()-/&%+▁".chars()).collect())
        .build();
    let model = BPE::builder().unk_token("<unk>".into()).build().map_err(to_error)?;
    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    let template = TemplateProcessing::builder()
        .try_single("$A </s>")
        .map_err(|e| anyhow!("tokenizer: {e}"))?
        .special_tokens(vec![("</s>", 1u32)])
        .build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(NormalizerWrapper::Sequence(Sequence::new(vec![Lowercase.into()]))))
        // "grass." is the word "grass" and a full stop.
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Split::new(vec![
            PreTokenizerWrapper::Metaspace(metaspace.clone()),
            PreTokenizerWrapper::Punctuation(Punctuation::default()),
        ]))))
        .with_decoder(Some(DecoderWrapper::Metaspace(metaspace)))
        .with_post_processor(Some(PostProcessorWrapper::Template(template)));
    tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), lines).map_err(to_error)?;
    for (id, token) in SPECIAL.iter().enumerate() {
        anyhow::ensure!(tokenizer.token_to_id(token) == Some(id as u32), "{token} did not get id {id}");
    }

    let json = tokenizer.to_string(true).map_err(to_error)?;
    write_whole(&args.run.join("tokenizer.json"), |path| Ok(std::fs::write(path, json)?))?;
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "unk_token": SPECIAL[2],
        "model_max_length": 512,
        "clean_up_tokenization_spaces": false,
    });
    let text = serde_json::to_string_pretty(&config)?;
    write_whole(&args.run.join("tokenizer_config.json"), |path| Ok(std::fs::write(path, text)?))?;
    println!("{} pieces in {}", tokenizer.get_vocab_size(true), args.run.display());
    Ok(())
}

/// Pieces in a tokenizer folder.
pub(crate) fn vocabulary_size(dir: &Path) -> anyhow::Result<i64> {
    let path = dir.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    Ok(tokenizer.get_vocab_size(true) as i64)
}
