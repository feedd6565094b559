//! Prompts become token ids: cleaned as the reference's pipeline cleans them, then cut into pieces by
//! `tokenizer/tokenizer.json`.
//!
//! Which pieces depends on the tokenizer's class as well. `T5Tokenizer` of transformers 5, which the
//! Wan directories name (also as `T5TokenizerFast`), takes from `tokenizer.json` the pieces with their
//! scores, the `Precompiled` normalizer and the added tokens; the rest it sets itself, and so does
//! [`Tokenizer`]: an unknown character is piece 2 and never bytes, words are split at white space, and
//! `</s>` is put at the end. Every other class takes the file as it is.

mod badness;
mod clean;
mod fix_text;
mod html;
mod mojibake;

use std::path::Path;

use serde::Deserialize;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{ModelWrapper, PostProcessor, TruncationDirection};

use crate::error::{DiffusionError, Result};

pub use clean::clean_prompt;

/// `<unk>` for [`Unigram`] in transformers' `T5Tokenizer`, whatever the file says.
const T5_UNK_ID: usize = 2;
/// The tokenizer of UMT5-XXL has 17 MB.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// Cuts prompts into token ids.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: std::path::PathBuf,
}

/// The token ids of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// The ids, the end marker last, no padding.
    pub ids: Vec<i64>,
    /// Whether the prompt was longer than allowed and its end was cut off.
    pub truncated: bool,
}

impl Tokenizer {
    /// Reads the folder `tokenizer` of a model directory, as the class that its
    /// `tokenizer_config.json` names.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`] for a file that is missing or broken.
    pub fn open(dir: &Path) -> Result<Self> {
        let class = Settings::read(dir)?.tokenizer_class;
        Self::open_as(dir, class.as_deref().unwrap_or("TokenizersBackend"))
    }

    /// Reads the folder `tokenizer` as `class`, the one that `model_index.json` names: the reference
    /// heeds that one.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`] for a file that is missing or broken.
    pub fn open_as(dir: &Path, class: &str) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let refuse = |reason: String| DiffusionError::Tokenizer { path: path.clone(), reason };
        let bytes = read_bounded(&path)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| refuse(error.to_string()))?;
        if class.starts_with("T5Tokenizer") {
            let eos_token = Settings::read(dir)?.eos_token();
            as_t5(&mut inner, &eos_token).map_err(|error| refuse(error.to_string()))?;
        }
        // Files keep the cutting and padding of the call before they were saved.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { inner, path })
    }

    /// Cleans `prompt` ([`clean_prompt`]) and cuts it into at most `max_length` ids, the end marker
    /// among them, which stays when the end is cut off.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`] for a character that the tokenizer has no piece for, not even an
    /// unknown one.
    pub fn encode(&self, prompt: &str, max_length: usize) -> Result<TokenIds> {
        let encode = || -> tokenizers::Result<TokenIds> {
            let mut encoding = self.inner.encode(clean_prompt(prompt), false)?;
            let processor = self.inner.get_post_processor();
            let added = processor.map_or(0, |processor| processor.added_tokens(false));
            let room = max_length.saturating_sub(added);
            let truncated = encoding.len() > room;
            encoding.truncate(room, 0, TruncationDirection::Right);
            let encoding = self.inner.post_process(encoding, None, true)?;
            let ids = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
            Ok(TokenIds { ids, truncated })
        };
        encode()
            .map_err(|error| DiffusionError::Tokenizer { path: self.path.clone(), reason: error.to_string() })
    }

    /// The text of token ids, without the markers of padding and end.
    ///
    /// # Errors
    /// [`DiffusionError::Tokenizer`] where the tokenizer's file has a decoder that fails.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        let text = self.inner.decode(&ids, true).map_err(|error| DiffusionError::Tokenizer {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(text.trim().to_owned())
    }

    /// Number of pieces, added tokens among them; all ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// Sets what transformers' `T5Tokenizer` sets.
fn as_t5(tokenizer: &mut tokenizers::Tokenizer, eos_token: &str) -> tokenizers::Result<()> {
    let ModelWrapper::Unigram(unigram) = tokenizer.get_model() else {
        return Err("its model is not Unigram, which a T5Tokenizer has".into());
    };
    let pieces = unigram.iter().map(|(piece, score)| (piece.clone(), *score)).collect();
    let model = Unigram::from(pieces, Some(T5_UNK_ID), false)?;
    tokenizer.with_model(model);

    let is_precompiled =
        |normalizer: &&NormalizerWrapper| matches!(normalizer, NormalizerWrapper::Precompiled(_));
    let precompiled = match tokenizer.get_normalizer() {
        Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().iter().find(is_precompiled).cloned(),
        other => other.filter(|normalizer| is_precompiled(normalizer)).cloned(),
    };
    tokenizer.with_normalizer(precompiled);

    let metaspace = Metaspace::new('▁', PrependScheme::Always, true);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![WhitespaceSplit.into(), metaspace.into()])));

    let Some(eos) = tokenizer.token_to_id(eos_token) else {
        return Err(format!("it has no piece `{eos_token}`, the end of a prompt").into());
    };
    let template = TemplateProcessing::builder()
        .try_single(format!("$A {eos_token}"))
        .map_err(tokenizers::Error::from)?
        .special_tokens(vec![(eos_token, eos)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    tokenizer_class: Option<String>,
    #[serde(default)]
    eos_token: Option<Token>,
}

/// A token is written as text or as an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Settings {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = read_bounded(&path)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| DiffusionError::Tokenizer { path, reason: error.to_string() })
    }

    fn eos_token(self) -> String {
        match self.eos_token {
            Some(Token::Text(content) | Token::Object { content }) => content,
            None => "</s>".into(),
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let refuse = |reason: String| DiffusionError::Tokenizer { path: path.to_path_buf(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(refuse(format!("it is not a file of at most {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read(path).map_err(|error| refuse(error.to_string()))
}
