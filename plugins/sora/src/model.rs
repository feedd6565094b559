//! Which model directory, and what is known of it without loading it.

use std::env;
use std::path::{Path, PathBuf};

use sora_engine_api::{Device, Engine, Install, ModelOptions, cuda_driver_present};
use sora_model::defaults::{NativeSettings, SizeRules};
use sora_model::{ModelDir, PromptEnhancerDir};
use sora_record::Model;

use crate::choice::ModelChoice;
use crate::messages;
use crate::vae;
use crate::weights::WeightsDigest;

/// A model directory that has been looked at, and how to open it.
#[derive(Clone, Debug)]
pub(crate) struct ModelInfo {
    /// Short name: that of its directory.
    pub(crate) name: String,
    pub(crate) native: NativeSettings,
    pub(crate) rules: SizeRules,
    /// Frames of a block of a stream, but of the first.
    pub(crate) block_frames: u32,
    /// Frames of the first block, which are fewer.
    pub(crate) first_block_frames: u32,
    /// Frames of a latent frame, but of the first, which is one.
    pub(crate) latent_frames: u32,
    /// By how much the noise levels of its schedule are shifted.
    pub(crate) shift: f64,
    /// Whether it was taught to restyle video that it sees.
    pub(crate) restyles: bool,
    pub(crate) options: ModelOptions,
    /// What the transformer's weights are.
    pub(crate) weights: WeightsDigest,
}

impl ModelInfo {
    /// Reads configs and weight headers, which takes milliseconds, has the weights hashed, and checks that the device
    /// can be there. `streams` says whether frames will have to be made in time.
    pub(crate) fn open(choice: &ModelChoice, streams: bool) -> Result<Self, gst::ErrorMessage> {
        let device =
            choice.device().map_err(|text| gst::error_msg!(gst::LibraryError::Settings, ("{text}")))?;
        if let Device::Cuda(index) = device
            && !cuda_driver_present()
        {
            return Err(gst::error_msg!(
                gst::ResourceError::NotFound,
                ("There is no device cuda:{index} here; use device=cpu or device=auto."),
                ["libcuda.so.1, the NVIDIA driver, cannot be opened"]
            ));
        }
        Engine::find().map_err(|error| messages::of_engine(&error, "looked for before starting"))?;
        let path = match &choice.model_path {
            Some(path) => path.clone(),
            None => default_model().map_err(|tried| {
                gst::error_msg!(
                    gst::ResourceError::NotFound,
                    ("The embedded model was not found; set model-path or SORA_MODEL_PATH to a model directory."),
                    ["looked for {tried:?}"]
                )
            })?,
        };
        let mut dir = ModelDir::open(&path).map_err(|error| unusable(&path, &error))?;
        if let Some(file) = &choice.transformer_file {
            dir = dir.with_transformer_file(file).map_err(|error| unusable(file, &error))?;
        }
        let latent_frames = dir.vae().temporal_scale_factor();
        Ok(Self {
            name: dir.name(),
            weights: WeightsDigest::of(dir.transformer_weights().paths().map(Path::to_owned).collect()),
            native: dir.native().clone(),
            rules: dir.size_rules(),
            // Config::check bounds all of these far below.
            block_frames: (latent_frames * dir.causal().block_size(1)) as u32,
            first_block_frames: (1 + latent_frames * (dir.causal().block_size(0) - 1)) as u32,
            latent_frames: latent_frames as u32,
            shift: dir.scheduler().shift_of_flow(),
            restyles: dir.source_embedding_weights().is_some(),
            options: ModelOptions {
                model_path: path,
                transformer_file: choice.transformer_file.clone(),
                tiny_vae_file: vae::tiny_vae_file(choice, &dir, streams)?,
                device,
                dtype: choice.dtype(),
                low_memory: choice.low_memory,
                sources: false,
            },
        })
    }
}

impl ModelInfo {
    /// The model as a generation record names it.
    pub(crate) fn recorded(&self) -> Model {
        Model { id: self.name.clone(), weights_sha256: self.weights.get() }
    }

    /// Whether the model can enhance prompts, as far as its files tell.
    pub(crate) fn check_enhancer(&self) -> Result<(), gst::ErrorMessage> {
        let Err(error) = PromptEnhancerDir::open(&self.options.model_path) else { return Ok(()) };
        let text = format!("prompt-enhance is local, which this model cannot do: {error}");
        Err(match error {
            sora_model::ModelError::Missing { .. } => gst::error_msg!(
                gst::ResourceError::NotFound,
                ("{text}; set prompt-enhance=off, or model-path to a model that has one"),
                ["looked for before loading the model"]
            ),
            _ => gst::error_msg!(gst::ResourceError::Read, ("{text}"), ["{error:?}"]),
        })
    }
}

/// A model or a part of it that cannot be used, and why.
pub(crate) fn unusable(path: &Path, error: &sora_model::ModelError) -> gst::ErrorMessage {
    let debug = format!("{} opened as a model: {error:?}", path.display());
    match error {
        sora_model::ModelError::Missing { .. } => {
            gst::error_msg!(gst::ResourceError::NotFound, ("The model cannot be used: {error}"), ["{debug}"])
        }
        _ => gst::error_msg!(gst::ResourceError::Read, ("The model cannot be used: {error}"), ["{debug}"]),
    }
}

/// `$SORA_MODEL_PATH` if it is set; else the installed model; else, for a plugin that was staged
/// inside the source tree (`target/sora`), the one of the source tree.
fn default_model() -> Result<PathBuf, Vec<PathBuf>> {
    if let Some(path) = env::var_os("SORA_MODEL_PATH").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let candidates = Install::of_this_code().map(|install| default_models(&install)).unwrap_or_default();
    match candidates.iter().find(|path| path.is_dir()) {
        Some(path) => Ok(path.clone()),
        None => Err(candidates),
    }
}

fn default_models(install: &Install) -> Vec<PathBuf> {
    let tree = install.prefix.ancestors().nth(2).map(|tree| tree.join("models"));
    [Some(install.models()), tree].into_iter().flatten().map(|models| models.join("sora-tiny")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_is_looked_for_in_the_prefix_then_in_the_source_tree() {
        let plugin = Path::new("/src/target/sora/lib/gstreamer-1.0/libgstsora.so");
        let install = Install::of_plugin(plugin).expect("deep enough");
        assert_eq!(
            default_models(&install),
            [Path::new("/src/target/sora/share/sora/models/sora-tiny"), Path::new("/src/models/sora-tiny")]
        );
    }
}
