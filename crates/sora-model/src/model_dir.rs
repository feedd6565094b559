//! A model directory as a whole.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{
    CAUSAL_METADATA_KEY, CausalConfig, Config, ModelIndex, SchedulerConfig, SourceEncoderConfig,
    TextEncoderConfig, TransformerConfig, VaeConfig, read_json,
};
use crate::defaults::{NativeSettings, SizeRules};
use crate::keys::original_to_diffusers;
use crate::weights::WeightFiles;
use crate::{ConfigError, ModelError};

/// Component, the classes that may stand there, the same as text.
const CLASSES: [(&str, &[&str], &str); 5] = [
    ("transformer", &["WanTransformer3DModel"], "WanTransformer3DModel"),
    ("vae", &["AutoencoderKLWan"], "AutoencoderKLWan"),
    ("text_encoder", &["UMT5EncoderModel"], "UMT5EncoderModel"),
    (
        "scheduler",
        &["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"],
        "UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler",
    ),
    // All of them are tokenizer.json with other Python around it.
    (
        "tokenizer",
        &["T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", "AutoTokenizer"],
        "T5Tokenizer, T5TokenizerFast, PreTrainedTokenizerFast, TokenizersBackend",
    ),
];

/// The parameters that a config may ask for beyond what its files hold before it is taken for the
/// config of another model. Below this the strict loader names the first missing tensor instead.
const MAX_MISSING_PARAMETERS: u64 = 1 << 28;

/// The file of an adapter in the folder `source_lora`, as diffusers calls it.
pub const SOURCE_LORA_FILE: &str = "pytorch_lora_weights.safetensors";

/// A diffusers directory of the Wan family: read, checked, its weights mapped but not touched.
///
/// ```no_run
/// use std::path::Path;
/// let model = sora_model::ModelDir::open(Path::new("models/sora-tiny"))?;
/// let native = model.native();
/// println!("{} makes {}x{}", model.name(), native.width, native.height);
/// # Ok::<(), sora_model::ModelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelDir {
    path: PathBuf,
    index: ModelIndex,
    transformer: TransformerConfig,
    transformer_2: Option<TransformerConfig>,
    vae: VaeConfig,
    text_encoder: TextEncoderConfig,
    scheduler: SchedulerConfig,
    transformer_weights: WeightFiles,
    transformer_2_weights: Option<WeightFiles>,
    vae_weights: WeightFiles,
    text_encoder_weights: WeightFiles,
    source_embedding_weights: Option<WeightFiles>,
    source_encoder: Option<(SourceEncoderConfig, WeightFiles)>,
    source_lora_weights: Option<WeightFiles>,
    native: NativeSettings,
    causal: CausalConfig,
}

impl ModelDir {
    /// Opens and checks the directory `path`: the index, the configs, the weight headers.
    ///
    /// No weight data is read.
    ///
    /// # Errors
    /// [`ModelError`] naming the file that is missing, broken or not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(ModelError::Missing { path: path.to_path_buf(), what: "the model directory".into() });
        }
        let index_path = path.join("model_index.json");
        let index = ModelIndex::open(&index_path)?;
        check_classes(&index_path, &index)?;

        let transformer: TransformerConfig = component(path, "transformer", "config.json")?;
        let transformer_weights = WeightFiles::open(&path.join("transformer"))?;
        let mut transformer_2 = None;
        let mut transformer_2_weights = None;
        if index.has("transformer_2") {
            transformer_2 = Some(component(path, "transformer_2", "config.json")?);
            transformer_2_weights = Some(WeightFiles::open(&path.join("transformer_2"))?);
        }
        let vae: VaeConfig = component(path, "vae", "config.json")?;
        let vae_weights = WeightFiles::open(&path.join("vae"))?;
        let text_encoder: TextEncoderConfig = component(path, "text_encoder", "config.json")?;
        let text_encoder_weights = WeightFiles::open(&path.join("text_encoder"))?;
        let scheduler: SchedulerConfig = component(path, "scheduler", "scheduler_config.json")?;
        let tokenizer = path.join("tokenizer/tokenizer.json");
        if !tokenizer.is_file() {
            return Err(ModelError::Missing { path: tokenizer, what: "the tokenizer".into() });
        }
        let source_encoder = source_encoder(&path.join("source_encoder"))?;
        let source_embedding_weights =
            source_embedding(&path.join("source_embedding"), &transformer, source_encoder.is_some())?;
        let source_lora_weights =
            source_lora(&path.join("source_lora"), &transformer_weights, source_embedding_weights.is_some())?;
        let (native, causal) = NativeSettings::open(path, &SizeRules::new(&transformer, &vae), &vae)?;
        let model = Self {
            path: path.to_path_buf(),
            index,
            transformer,
            transformer_2,
            vae,
            text_encoder,
            scheduler,
            transformer_weights,
            transformer_2_weights,
            vae_weights,
            text_encoder_weights,
            source_embedding_weights,
            source_encoder,
            source_lora_weights,
            native,
            causal,
        };
        model.check_fit()?;
        model.check_parameters()?;
        Ok(model)
    }

    /// Takes the transformer's weights from a single safetensors file instead, with the key names
    /// of diffusers or of the original Wan checkpoints, and from its metadata how it makes video block by
    /// block, where it says so ([`CausalConfig`]).
    ///
    /// # Errors
    /// [`ModelError`] when the file is broken, or is of another size than the transformer's config.
    pub fn with_transformer_file(mut self, path: &Path) -> Result<Self, ModelError> {
        let weights = WeightFiles::open_file(path)?.renamed(original_to_diffusers)?;
        let wrong = |message: String| ModelError::Weights { path: path.to_path_buf(), message };
        let Some(patch_embedding) = weights.get("patch_embedding.weight") else {
            return Err(wrong("it holds no `patch_embedding.weight`: not a Wan transformer".into()));
        };
        let wanted = patch_embedding_shape(&self.transformer);
        if patch_embedding.shape != wanted {
            return Err(wrong(format!(
                "its `patch_embedding.weight` is {:?}, but {} asks for {wanted:?}",
                patch_embedding.shape,
                self.path.join("transformer/config.json").display()
            )));
        }
        if let Some(text) = weights.metadata(CAUSAL_METADATA_KEY) {
            let causal = CausalConfig::from_json(text);
            let causal = causal.map_err(|error| wrong(format!("its `{CAUSAL_METADATA_KEY}`: {error}")))?;
            self.native = self.native.taught(&causal);
            self.causal = causal;
        }
        self.transformer_weights = weights;
        // These were taught with the directory's own transformer.
        self.source_embedding_weights = None;
        self.source_encoder = None;
        self.source_lora_weights = None;
        Ok(self)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's own name, the short name of the model.
    pub fn name(&self) -> String {
        let absolute = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        match absolute.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => absolute.display().to_string(),
        }
    }

    /// The contents of `model_index.json`.
    pub fn index(&self) -> &ModelIndex {
        &self.index
    }

    /// The config of the transformer (of the first, where there are two).
    pub fn transformer(&self) -> &TransformerConfig {
        &self.transformer
    }

    /// The config of the transformer for the last, low-noise steps, where there is one.
    pub fn transformer_2(&self) -> Option<&TransformerConfig> {
        self.transformer_2.as_ref()
    }

    /// The config of the VAE.
    pub fn vae(&self) -> &VaeConfig {
        &self.vae
    }

    /// The config of the text encoder.
    pub fn text_encoder(&self) -> &TextEncoderConfig {
        &self.text_encoder
    }

    /// The config of the scheduler.
    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// The weights of the transformer, under diffusers names.
    pub fn transformer_weights(&self) -> &WeightFiles {
        &self.transformer_weights
    }

    /// The weights of the second transformer.
    pub fn transformer_2_weights(&self) -> Option<&WeightFiles> {
        self.transformer_2_weights.as_ref()
    }

    /// The weights of the VAE.
    pub fn vae_weights(&self) -> &WeightFiles {
        &self.vae_weights
    }

    /// The weights of the text encoder.
    pub fn text_encoder_weights(&self) -> &WeightFiles {
        &self.text_encoder_weights
    }

    /// The weights by which the transformer sees a source video beside the noise, where it was taught to (a folder
    /// `source_embedding`, which diffusers does not know): `weight` `[D, z_dim, t, h, w]` and `bias` `[D]`, a second patch
    /// embedding. Beside a [source encoder](Self::source_encoder) it takes `2·z_dim` channels, its guess among them, and
    /// there is `guess_share` `[z_dim]`: how much of what the transformer makes is that guess.
    pub fn source_embedding_weights(&self) -> Option<&WeightFiles> {
        self.source_embedding_weights.as_ref()
    }

    /// What guesses from a source's latents those of the video that the prompt asks for, so that the transformer sees that
    /// as well (a folder `source_encoder`, which diffusers does not know), if the directory has one.
    pub fn source_encoder(&self) -> Option<(&SourceEncoderConfig, &WeightFiles)> {
        self.source_encoder.as_ref().map(|(config, weights)| (config, weights))
    }

    /// What is added to the transformer's matrices where it is shown a source video, if anything is (a folder `source_lora`
    /// with the file [`SOURCE_LORA_FILE`]). For the matrix `M.weight`, `[outputs, inputs]`, it has
    /// `transformer.M.lora_A.weight`, `[rank, inputs]`, and `transformer.M.lora_B.weight`, `[outputs, rank]`, whose product
    /// B·A it is: the names of diffusers' `WanLoraLoaderMixin` (LoRA, arXiv 2106.09685), with α = rank.
    pub fn source_lora_weights(&self) -> Option<&WeightFiles> {
        self.source_lora_weights.as_ref()
    }

    /// The folder of the tokenizer.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join("tokenizer")
    }

    /// The class of the tokenizer, which decides how `tokenizer.json` is read.
    pub fn tokenizer_class(&self) -> &str {
        self.index.components.get("tokenizer").map_or("", String::as_str)
    }

    /// What the model makes when nobody says otherwise.
    pub fn native(&self) -> &NativeSettings {
        &self.native
    }

    /// How the model makes video block by block.
    pub fn causal(&self) -> &CausalConfig {
        &self.causal
    }

    /// The tiny VAE that the directory brings along: the one safetensors file in its folder `taehv/`.
    ///
    /// # Errors
    /// [`ModelError::Missing`] when the folder has none, but something else; [`ModelError::Weights`] when it has
    /// several.
    pub fn tiny_vae_file(&self) -> Result<Option<PathBuf>, ModelError> {
        let folder = self.path.join("taehv");
        let io = |source| ModelError::Io { path: folder.clone(), source };
        if !folder.is_dir() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                files.push(path);
            }
        }
        files.sort();
        match files.as_slice() {
            [file] => Ok(Some(file.clone())),
            [] => Err(ModelError::Missing {
                path: folder.join("taew2_1.safetensors"),
                what: "the tiny VAE; scripts/convert-checkpoint makes it of a .pth file".into(),
            }),
            [first, second, ..] => Err(ModelError::Weights {
                path: second.clone(),
                message: format!("a second tiny VAE beside {}: there must be one", first.display()),
            }),
        }
    }

    /// Which sizes and lengths the model can make.
    pub fn size_rules(&self) -> SizeRules {
        SizeRules::new(&self.transformer, &self.vae)
    }

    /// The components must fit each other; upstream finds out in the middle of a step.
    fn check_fit(&self) -> Result<(), ModelError> {
        let text_dim = self.text_encoder.d_model;
        let pairs =
            [("transformer", Some(&self.transformer)), ("transformer_2", self.transformer_2.as_ref())];
        for (folder, config) in pairs {
            let Some(config) = config else { continue };
            let latent = format!("{}, the z_dim of vae/config.json", self.vae.z_dim);
            let fits = [
                ("in_channels", config.in_channels, self.vae.z_dim, latent.clone()),
                ("out_channels", config.out_channels(), self.vae.z_dim, latent),
                (
                    "text_dim",
                    config.text_dim,
                    text_dim,
                    format!("{text_dim}, the d_model of text_encoder/config.json"),
                ),
            ];
            for (key, value, wanted, supported) in fits {
                if value != wanted {
                    return Err(self.refuse(folder, ConfigError::new(key, value, supported)));
                }
            }
            if config.patch_size != self.transformer.patch_size {
                let supported = format!("{:?} as in transformer/", self.transformer.patch_size);
                let found = format!("{:?}", config.patch_size);
                return Err(self.refuse(folder, ConfigError::new("patch_size", found, supported)));
            }
        }
        if let (Some(ratio), None) = (self.index.boundary_ratio, &self.transformer_2) {
            return Err(ModelError::Config {
                path: self.path.join("model_index.json"),
                problem: ConfigError::new(
                    "boundary_ratio",
                    ratio,
                    "null, because there is no transformer_2 to take over",
                ),
            });
        }
        Ok(())
    }

    /// A config of a far larger model than the files hold is refused here, from the headers.
    fn check_parameters(&self) -> Result<(), ModelError> {
        let mut parts = vec![
            ("transformer", self.transformer.num_parameters(), &self.transformer_weights),
            ("text_encoder", self.text_encoder.num_parameters(), &self.text_encoder_weights),
        ];
        if let (Some(config), Some(weights)) = (&self.transformer_2, &self.transformer_2_weights) {
            parts.push(("transformer_2", config.num_parameters(), weights));
        }
        for (folder, wanted, weights) in parts {
            let held = weights.total_elements();
            if wanted > held.saturating_add(MAX_MISSING_PARAMETERS) {
                return Err(self.refuse(
                    folder,
                    ConfigError::new(
                        "number of parameters",
                        wanted,
                        format!("{held}, which is what the weight files beside it hold"),
                    ),
                ));
            }
        }
        Ok(())
    }

    fn refuse(&self, folder: &str, problem: ConfigError) -> ModelError {
        ModelError::Config { path: self.path.join(folder).join("config.json"), problem }
    }
}

/// Reads a component's config, its class checked first.
fn component<T: Config>(root: &Path, folder: &str, file: &str) -> Result<T, ModelError> {
    #[derive(Deserialize)]
    struct Class {
        #[serde(default, rename = "_class_name")]
        name: Option<String>,
    }
    let path = root.join(folder).join(file);
    let class: Class = read_json(&path)?;
    if let Some(class) = class.name {
        check_class(&path, folder, &class)?;
    }
    T::open(&path)
}

fn check_classes(path: &Path, index: &ModelIndex) -> Result<(), ModelError> {
    if index.class_name != "WanPipeline" {
        return Err(ModelError::UnknownClass {
            path: path.to_path_buf(),
            component: "_class_name".into(),
            class: index.class_name.clone(),
            supported: "WanPipeline",
        });
    }
    for (component, _, supported) in CLASSES {
        let Some(class) = index.components.get(component) else {
            return Err(ModelError::Config {
                path: path.to_path_buf(),
                problem: ConfigError::new(component, "absent", supported),
            });
        };
        check_class(path, component, class)?;
    }
    if let Some(class) = index.components.get("transformer_2") {
        check_class(path, "transformer_2", class)?;
    }
    Ok(())
}

fn check_class(path: &Path, component: &str, class: &str) -> Result<(), ModelError> {
    let kind = component.strip_suffix("_2").unwrap_or(component);
    let known = CLASSES.iter().find(|(name, ..)| *name == kind);
    match known {
        Some((_, classes, supported)) if !classes.contains(&class) => Err(ModelError::UnknownClass {
            path: path.to_path_buf(),
            component: component.into(),
            class: class.into(),
            supported,
        }),
        _ => Ok(()),
    }
}

/// `[D, C, t, h, w]`: what embeds a patch of latents.
fn patch_embedding_shape(config: &TransformerConfig) -> [usize; 5] {
    let [t, h, w] = config.patch_size;
    [config.inner_dim(), config.in_channels, t, h, w].map(|size| size as usize)
}

/// The optional folder of the source encoder; whether its weights are all there is for the strict loader to say.
fn source_encoder(folder: &Path) -> Result<Option<(SourceEncoderConfig, WeightFiles)>, ModelError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let config = SourceEncoderConfig::open(&folder.join("config.json"))?;
    Ok(Some((config, WeightFiles::open(folder)?)))
}

/// The optional folder of the source embedding, which must fit the transformer and what encodes sources.
fn source_embedding(
    folder: &Path,
    config: &TransformerConfig,
    has_encoder: bool,
) -> Result<Option<WeightFiles>, ModelError> {
    if !folder.is_dir() {
        if has_encoder {
            return Err(ModelError::Missing {
                path: folder.to_path_buf(),
                what: "by which the transformer sees what source_encoder/ makes".into(),
            });
        }
        return Ok(None);
    }
    let weights = WeightFiles::open(folder)?;
    let mut wanted = patch_embedding_shape(config);
    if has_encoder {
        wanted[1] *= 2;
    }
    let held = weights.get("weight").map(|tensor| tensor.shape.to_vec());
    if held.as_deref() == Some(&wanted) {
        return Ok(Some(weights));
    }
    let path = weights.paths().next().unwrap_or(folder).to_path_buf();
    let message = match held {
        None => "it holds no `weight`: not a source embedding".into(),
        Some(held) => {
            let beside = if has_encoder { " beside source_encoder/" } else { "" };
            format!("its `weight` is {held:?}, but transformer/config.json asks for {wanted:?}{beside}")
        }
    };
    Err(ModelError::Weights { path, message })
}

/// The optional folder of the adapter for sources, every pair of whose factors must fit a matrix of the transformer.
fn source_lora(
    folder: &Path,
    transformer: &WeightFiles,
    sees_sources: bool,
) -> Result<Option<WeightFiles>, ModelError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let path = folder.join(SOURCE_LORA_FILE);
    let wrong = |message: String| ModelError::Weights { path: path.clone(), message };
    if !sees_sources {
        return Err(wrong("it is for sources, but there is no source_embedding to see them by".into()));
    }
    let weights = WeightFiles::open_file(&path)?;
    let [down, up] = [".lora_A.weight", ".lora_B.weight"];
    for name in weights.names() {
        let module = name
            .strip_prefix("transformer.")
            .and_then(|name| name.strip_suffix(down).or_else(|| name.strip_suffix(up)));
        let Some(module) = module else {
            return Err(wrong(format!(
                "its `{name}` is neither `transformer.MODULE{down}` nor `transformer.MODULE{up}`"
            )));
        };
        let shape_in = |files: &WeightFiles, name: &str| {
            files.get(name).map(|tensor| tensor.shape.to_vec()).unwrap_or_default()
        };
        let a = shape_in(&weights, &format!("transformer.{module}{down}"));
        let b = shape_in(&weights, &format!("transformer.{module}{up}"));
        let matrix = shape_in(transformer, &format!("{module}.weight"));
        let fits = match (&a[..], &b[..], &matrix[..]) {
            (&[rank, inputs], &[outputs, of_b], matrix) => {
                rank > 0 && rank == of_b && matrix == [outputs, inputs]
            }
            _ => false,
        };
        if !fits {
            return Err(wrong(format!(
                "for `{module}` A is {a:?} and B is {b:?}; they must be [rank, inputs] and [outputs, rank], where the \
                 transformer's weight is [outputs, inputs], here {matrix:?}"
            )));
        }
    }
    Ok(Some(weights))
}
