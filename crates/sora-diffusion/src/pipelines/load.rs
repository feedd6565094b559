//! A model directory becomes a pipeline.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use sora_model::ModelDir;
use sora_model::config::{Numerics, TinyVaeConfig, TransformerConfig};
use sora_model::weights::WeightFiles;
use tch::{Device, Kind};

use super::decoding::TinyVae;
use super::prompt_cache::PromptCache;
use super::text_to_video::report;
use super::{OnProgress, Progress, PromptCacheChoice, TextToVideoPipeline};
use crate::device::{DeviceChoice, DtypeChoice, Kinds};
use crate::error::Result;
use crate::lora::LoraWeights;
use crate::models::{
    AutoencoderKlWan, Taehv, Umt5EncoderModel, WanTransformer3DModel, transformer_wan, umt5,
};
use crate::nn::Fp8Weights;
use crate::tokenizer::Tokenizer;
use crate::weights::{FileWeights, Layout, Weights};

/// How often somebody who waits for another's loading is asked whether it is still wanted.
const POLL: Duration = Duration::from_millis(20);

/// How to load a model directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadOptions {
    /// Where to compute.
    pub device: DeviceChoice,
    /// In which number format.
    pub dtype: DtypeChoice,
    /// A single safetensors file in place of the directory's transformer, with diffusers keys or
    /// original Wan keys.
    pub transformer_file: Option<PathBuf>,
    /// A safetensors file with a tiny VAE (TAEHV), which decodes instead of the directory's VAE.
    pub tiny_vae_file: Option<PathBuf>,
    /// Whether prompts that were embedded before are found on disk.
    pub prompt_cache: PromptCacheChoice,
    /// Whether transformer and text encoder are brought to the device layer by layer each time they compute, instead of
    /// staying there: from pinned memory to a GPU, and on the CPU from the mapped file, where other formats are wanted
    /// than that of the file. Results are the same.
    pub low_memory: bool,
}

impl LoadOptions {
    /// The number formats that `dir` will be loaded in. Computes nothing, but where they have to be measured first
    /// ([`DtypeChoice::Auto`] on a CPU).
    ///
    /// # Errors
    /// As [`TextToVideoPipeline::load`], for what configs and headers show.
    pub fn kinds(&self, dir: &Path) -> Result<Kinds> {
        Ok(self.dtype.resolve(self.device.resolve()?, &self.open_dir(dir)?))
    }

    fn open_dir(&self, dir: &Path) -> Result<ModelDir> {
        let dir = ModelDir::open(dir)?;
        Ok(match &self.transformer_file {
            Some(file) => dir.with_transformer_file(file)?,
            None => dir,
        })
    }
}

impl TextToVideoPipeline {
    /// Loads a diffusers directory. Nothing is allocated before configs and headers are checked.
    ///
    /// # Errors
    /// [`crate::DiffusionError::Model`] for a directory that is not usable,
    /// [`crate::DiffusionError::Device`], and those of the strict loader; see [`crate::weights`].
    pub fn load(dir: &Path, options: &LoadOptions, on_progress: &mut OnProgress<'_>) -> Result<Self> {
        let _span = tracing::debug_span!("load").entered();
        let dir = options.open_dir(dir)?;
        let device = options.device.resolve()?;
        let kinds = options.dtype.resolve(device, &dir);
        let tiny = options.tiny_vae_file.as_deref().map(|file| TinyVaeConfig::open(file, dir.vae()));
        let tiny = tiny.transpose()?;
        let _no_grad = tch::no_grad_guard();
        if device.is_cuda() {
            // A clip's chunks are all of one shape, but for the first: looking for the fastest convolutions pays.
            tch::Cuda::cudnn_set_benchmark(true);
        }

        let vae_weights = tiny.as_ref().map_or(dir.vae_weights(), |(_, weights)| weights);
        // With it, the encoder waits for a prompt that is not known yet.
        let prompt_cache = PromptCache::new(&options.prompt_cache, dir.text_encoder_weights(), kinds, device);
        let eager = prompt_cache.is_none().then_some(dir.text_encoder_weights());
        let total_bytes = total_bytes(&dir, vae_weights, eager);
        let low_memory = options.low_memory;
        let mut loader = Loader { device, low_memory, done_bytes: Cell::new(0), total_bytes, on_progress };
        let tokenizer = Tokenizer::open_as(&dir.tokenizer_path(), dir.tokenizer_class())?;
        let text_encoder = OnceLock::new();
        if eager.is_some() {
            let loaded = loader.text_encoder(&dir, kinds)?;
            let _ = text_encoder.set(loaded);
        }
        let numerics = dir.causal().numerics;
        let mut transformer = |part| loader.transformer(part, None, (kinds, numerics));
        let mut first = transformer(("transformer", dir.transformer_weights(), dir.transformer()))?;
        let second = match (dir.transformer_2_weights(), dir.transformer_2()) {
            (Some(files), Some(config)) => Some(transformer(("transformer_2", files, config))?),
            _ => None,
        };
        first = loader.sources(first, &dir, kinds)?;
        let (vae, tiny_vae) = match tiny {
            None => {
                let vae = loader.component("vae", dir.vae_weights(), (kinds.vae, &[]), &[], |weights| {
                    AutoencoderKlWan::new(weights, dir.vae())
                })?;
                (vae.without_encoder(), None)
            }
            Some((config, weights)) => {
                // Published in half precision, and made for speed.
                let fast = device.is_cuda() && options.dtype == DtypeChoice::Auto;
                let kind = if fast { Kind::Half } else { kinds.vae };
                let model = loader.component("tiny vae", &weights, (kind, &[]), &[], |weights| {
                    Taehv::new(weights, &config)
                })?;
                let tiny = TinyVae { model, _weights: weights };
                (AutoencoderKlWan::without_weights(dir.vae()), Some(tiny))
            }
        };
        Ok(Self {
            max_sequence_length: i64::from(dir.native().max_sequence_length),
            device,
            low_memory,
            kinds,
            tokenizer,
            text_encoder,
            text_encoder_loading: Mutex::default(),
            prompt_cache,
            transformer: first,
            transformer_2: second,
            vae,
            tiny_vae,
            prompts: Mutex::default(),
            enhancer: Mutex::default(),
            encoder: OnceLock::new(),
            encoder_loading: Mutex::default(),
            restyler: OnceLock::new(),
            restyler_loading: Mutex::default(),
            dir,
        })
    }

    /// The text encoder, which the first caller loads where it was not loaded with the rest. Others wait meanwhile, and
    /// can still be called off.
    ///
    /// # Errors
    /// Those of the strict loader, see [`crate::weights`]; [`crate::DiffusionError::Cancelled`].
    pub(super) fn text_encoder(&self, on_progress: &mut OnProgress<'_>) -> Result<&Umt5EncoderModel> {
        loop {
            if let Some(encoder) = self.text_encoder.get() {
                return Ok(encoder);
            }
            // The lock guards no data, only that one caller loads.
            let _loading = match self.text_encoder_loading.try_lock() {
                Ok(loading) => loading,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    // No news: only a chance to cancel.
                    report(on_progress, Progress::Loading { done_bytes: 0, total_bytes: 0 })?;
                    std::thread::sleep(POLL);
                    continue;
                }
            };
            if let Some(encoder) = self.text_encoder.get() {
                return Ok(encoder);
            }
            let _no_grad = tch::no_grad_guard();
            let _span = tracing::debug_span!("load").entered();
            let mut loader = Loader {
                device: self.device,
                low_memory: self.low_memory,
                done_bytes: Cell::new(0),
                total_bytes: self.dir.text_encoder_weights().total_bytes(),
                on_progress,
            };
            let loaded = loader.text_encoder(&self.dir, self.kinds)?;
            return Ok(self.text_encoder.get_or_init(|| loaded));
        }
    }

    /// Loads what only blocks with a source need, so that the first of them does not have to.
    ///
    /// # Errors
    /// Those of the strict loader; see [`crate::weights`].
    pub fn load_for_sources(&self) -> Result<()> {
        self.encoder()?;
        self.restyler()?;
        Ok(())
    }

    /// The transformer for blocks that are shown their source: with the directory's adapter for these in it, which the
    /// first caller loads, or the same as for all others, where there is none.
    ///
    /// # Errors
    /// Those of the strict loader; see [`crate::weights`].
    pub(super) fn restyler(&self) -> Result<&WanTransformer3DModel> {
        let Some(factors) = self.dir.source_lora_weights() else { return Ok(&self.transformer) };
        let (dir, kinds) = (&self.dir, self.kinds);
        self.loaded_once((&self.restyler, &self.restyler_loading), |loader| {
            let part = ("transformer", dir.transformer_weights(), dir.transformer());
            let transformer = loader.transformer(part, Some(factors), (kinds, dir.causal().numerics))?;
            loader.sources(transformer, dir, kinds)
        })
    }

    /// The VAE with its encoder, which the first caller loads.
    ///
    /// # Errors
    /// Those of the strict loader; see [`crate::weights`].
    pub(super) fn encoder(&self) -> Result<&AutoencoderKlWan> {
        let (dir, kinds) = (&self.dir, self.kinds);
        self.loaded_once((&self.encoder, &self.encoder_loading), |loader| {
            let vae = loader.component("vae", dir.vae_weights(), (kinds.vae, &[]), &[], |weights| {
                AutoencoderKlWan::new(weights, dir.vae())
            })?;
            Ok(vae.without_decoder())
        })
    }

    /// What the first caller loads, without a report of its progress; others wait meanwhile.
    fn loaded_once<'a, T>(
        &self,
        (cell, loading): (&'a OnceLock<T>, &Mutex<()>),
        load: impl FnOnce(&mut Loader<'_, '_>) -> Result<T>,
    ) -> Result<&'a T> {
        // The lock guards no data, only that one caller loads.
        let _loading = loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = cell.get() {
            return Ok(loaded);
        }
        let _span = tracing::debug_span!("load").entered();
        let _no_grad = tch::no_grad_guard();
        let loaded = load(&mut Loader {
            device: self.device,
            low_memory: self.low_memory,
            done_bytes: Cell::new(0),
            total_bytes: 0,
            on_progress: &mut |_| ControlFlow::Continue(()),
        })?;
        Ok(cell.get_or_init(|| loaded))
    }
}

fn total_bytes(dir: &ModelDir, vae: &WeightFiles, text_encoder: Option<&WeightFiles>) -> u64 {
    let transformers = [Some(dir.transformer_weights()), dir.transformer_2_weights()];
    transformers
        .into_iter()
        .chain([dir.source_encoder().map(|(_, files)| files), dir.source_embedding_weights()])
        .chain([Some(vae), text_encoder])
        .flatten()
        .map(WeightFiles::total_bytes)
        .sum()
}

/// Counts bytes over all components for the progress report.
struct Loader<'a, 'b> {
    device: Device,
    low_memory: bool,
    done_bytes: Cell<u64>,
    total_bytes: u64,
    on_progress: &'a mut OnProgress<'b>,
}

impl Loader<'_, '_> {
    fn text_encoder(&mut self, dir: &ModelDir, kinds: Kinds) -> Result<Umt5EncoderModel> {
        let kind = kinds.transformer;
        let keep_in_f32 = if kind == Kind::Half { umt5::KEEP_IN_F32_FOR_F16 } else { &[] };
        self.component(
            "text_encoder",
            dir.text_encoder_weights(),
            (kind, keep_in_f32),
            umt5::TOLERATED_KEYS,
            |weights| Umt5EncoderModel::new(weights, dir.text_encoder()),
        )
    }

    /// A transformer, with the factors of an adapter or without.
    fn transformer(
        &mut self,
        (component, files, config): (&str, &WeightFiles, &TransformerConfig),
        factors: Option<&WeightFiles>,
        (kinds, numerics): (Kinds, Numerics),
    ) -> Result<WanTransformer3DModel> {
        let fp8 = kinds.fp8;
        let kinds = (kinds.transformer, transformer_wan::keep_in_f32(numerics));
        let build = |weights: &Weights| {
            let in_8_bits = fp8.then(|| Weights::new(Rc::new(Fp8Weights::new(weights.clone()))));
            WanTransformer3DModel::with_numerics(in_8_bits.as_ref().unwrap_or(weights), config, numerics)
        };
        let tolerated = transformer_wan::TOLERATED_KEYS;
        let Some(factors) = factors else {
            return self.component(component, files, kinds, tolerated, build);
        };
        let mut on_bytes = |_| ControlFlow::Continue(());
        let layout =
            Layout { device: self.device, kind: Kind::Float, keep_in_f32: &[], streamed: self.low_memory };
        let factors = Rc::new(FileWeights::new("source_lora", factors, layout, &mut on_bytes));
        let model = self.component(component, files, kinds, tolerated, |weights| {
            build(&Weights::new(Rc::new(LoraWeights::new(weights.clone(), factors.clone()))))
        })?;
        factors.finish(&[])?;
        Ok(model)
    }

    /// The transformer with what the directory has for it to see sources by.
    fn sources(
        &mut self,
        mut transformer: WanTransformer3DModel,
        dir: &ModelDir,
        kinds: Kinds,
    ) -> Result<WanTransformer3DModel> {
        let kinds = (kinds.transformer, [].as_slice());
        if let Some((config, files)) = dir.source_encoder() {
            transformer = self.component("source_encoder", files, kinds, &[], |weights| {
                transformer.with_source_encoder(weights, config)
            })?;
        }
        if let Some(files) = dir.source_embedding_weights() {
            transformer = self.component("source_embedding", files, kinds, &[], |weights| {
                transformer.with_source_embedding(weights)
            })?;
        }
        Ok(transformer)
    }

    fn component<T>(
        &mut self,
        component: &str,
        files: &WeightFiles,
        (kind, keep_in_f32): (Kind, &[&str]),
        tolerated: &[&str],
        build: impl FnOnce(&Weights) -> Result<T>,
    ) -> Result<T> {
        let mut on_bytes = |bytes: u64| -> ControlFlow<()> {
            self.done_bytes.set(self.done_bytes.get() + bytes);
            (self.on_progress)(Progress::Loading {
                done_bytes: self.done_bytes.get(),
                total_bytes: self.total_bytes,
            })
        };
        let layout = Layout { device: self.device, kind, keep_in_f32, streamed: self.low_memory };
        let source = Rc::new(FileWeights::new(component, files, layout, &mut on_bytes));
        let model = build(&Weights::new(source.clone()))?;
        source.finish(tolerated)?;
        Ok(model)
    }
}
