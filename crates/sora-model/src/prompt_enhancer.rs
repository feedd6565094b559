//! The optional folder `prompt_enhancer` of a model directory.

use std::path::{Path, PathBuf};

use crate::config::{Config, LexiconConfig, TextDecoderConfig, TextEncoderConfig};
use crate::weights::WeightFiles;
use crate::{ConfigError, ModelError};

/// A small language model that makes a short prompt a detailed one: a folder `prompt_enhancer` with
/// `config.json` and `model.safetensors` of a `UMT5ForConditionalGeneration`, as transformers saves it, and
/// `lexicon.json` ([`LexiconConfig`]). It reads the tokens of the model's own `tokenizer/`, unless it has a
/// `tokenizer/` in its folder.
#[derive(Debug, Clone)]
pub struct PromptEnhancerDir {
    path: PathBuf,
    encoder: TextEncoderConfig,
    decoder: TextDecoderConfig,
    lexicon: LexiconConfig,
    weights: WeightFiles,
}

impl PromptEnhancerDir {
    /// Opens and checks the folder `prompt_enhancer` of the model directory `model`: configs and weight
    /// headers. No weight data is read.
    ///
    /// # Errors
    /// [`ModelError::Missing`] for a model that has none, else [`ModelError`] naming the file that is
    /// missing, broken or not supported.
    pub fn open(model: &Path) -> Result<Self, ModelError> {
        let path = model.join("prompt_enhancer");
        if !path.is_dir() {
            return Err(ModelError::Missing { path, what: "this model has no prompt enhancer".into() });
        }
        Self::open_folder(&path)
    }

    /// [`PromptEnhancerDir::open`] for the folder itself.
    ///
    /// # Errors
    /// As for [`PromptEnhancerDir::open`].
    pub fn open_folder(path: &Path) -> Result<Self, ModelError> {
        let config = path.join("config.json");
        let encoder = TextEncoderConfig::open(&config)?;
        let decoder = TextDecoderConfig::open(&config)?;
        let refuse = |problem| ModelError::Config { path: config.clone(), problem };
        for (key, id) in [
            ("decoder_start_token_id", decoder.decoder_start_token_id),
            ("eos_token_id", decoder.eos_token_id),
        ] {
            if id >= encoder.vocab_size {
                let bound = format!("below {}, the vocab_size", encoder.vocab_size);
                return Err(refuse(ConfigError::new(key, id, bound)));
            }
        }
        // The decoder has all buckets for one direction: its logarithmic part begins later than the encoder's.
        let exact = encoder.relative_attention_num_buckets / 2;
        if encoder.relative_attention_max_distance <= exact {
            let key = "relative_attention_max_distance";
            let bound = format!("above {exact}, half of relative_attention_num_buckets");
            return Err(refuse(ConfigError::new(key, encoder.relative_attention_max_distance, bound)));
        }
        let lexicon = LexiconConfig::open(&path.join("lexicon.json"))?;
        let weights = WeightFiles::open(path)?;
        let (wanted, held) =
            (encoder.num_parameters() + decoder.num_parameters(&encoder), weights.total_elements());
        if wanted > held.saturating_mul(2) {
            let bound = format!("{held}, which is what the weight files beside it hold");
            return Err(refuse(ConfigError::new("number of parameters", wanted, bound)));
        }
        Ok(Self { path: path.to_path_buf(), encoder, decoder, lexicon, weights })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The sizes, and the encoder.
    pub fn encoder(&self) -> &TextEncoderConfig {
        &self.encoder
    }

    /// The decoder.
    pub fn decoder(&self) -> &TextDecoderConfig {
        &self.decoder
    }

    /// The words it was trained on.
    pub fn lexicon(&self) -> &LexiconConfig {
        &self.lexicon
    }

    /// Its weights.
    pub fn weights(&self) -> &WeightFiles {
        &self.weights
    }

    /// The folder of its own tokenizer, if it has one.
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        let path = self.path.join("tokenizer");
        path.is_dir().then_some(path)
    }
}
