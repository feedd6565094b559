//! A trained probe on disk: weights in half precision, sizes and measured accuracy beside them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sora_diffusion::models::AutoencoderKlWan;
use sora_diffusion::weights::{FileWeights, Layout, Weights};
use sora_model::config::VaeConfig;
use sora_model::weights::WeightFiles;
use tch::{Device, Kind, Tensor};

use super::accuracy::Tally;
use super::network::{Probe, ProbeConfig};
use crate::checkpoint::write_whole;
use crate::json;
use crate::latents;
use crate::parameters::Parameters;

/// Weights.
pub(crate) const WEIGHTS: &str = "probe.safetensors";
/// Everything else.
pub(crate) const CARD: &str = "probe.json";

/// What is known of a probe besides its weights, `probe.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Sizes of the network.
    pub(crate) config: ProbeConfig,
    /// The domain it learned.
    pub(crate) domain: String,
    /// Steps taken.
    pub(crate) steps: u64,
    /// What a marked cell weighed in the loss of its map of marks, where others weighed 1.
    #[serde(default = "unweighted")]
    pub(crate) marked_weight: f64,
    /// On renders it never saw, per question.
    pub(crate) renders: BTreeMap<String, Tally>,
    /// On the same after a pass through a VAE, half of them with noise on their latents.
    pub(crate) reconstructions: BTreeMap<String, Tally>,
}

fn unweighted() -> f64 {
    1.0
}

/// Writes weights and card.
pub(crate) fn write(dir: &Path, parameters: &Parameters, values: &Tensor, card: &Card) -> anyhow::Result<()> {
    let halves: Vec<(&str, Tensor)> = parameters
        .named(values)
        .map(|(name, value)| (name, value.to_kind(Kind::Half).contiguous()))
        .collect();
    let named: Vec<(&str, &Tensor)> = halves.iter().map(|(name, value)| (*name, value)).collect();
    write_whole(&dir.join(WEIGHTS), |p| Ok(Tensor::write_safetensors(&named, p)?))?;
    json::write(&dir.join(CARD), card)
}

/// Reads a probe from a run folder or a copy of these two files.
///
/// # Errors
/// If there is none, or its weights are not those of the network its card describes.
pub(crate) fn open(dir: &Path, device: Device) -> anyhow::Result<(Probe, Card)> {
    let path = dir.join(CARD);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{}: is {} the folder of a trained probe?", path.display(), dir.display())
    })?;
    let card: Card = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let files = WeightFiles::open_file(&dir.join(WEIGHTS))?;
    let probe = load("probe", &files, device, |w| Probe::new(w, &card.config))
        .with_context(|| format!("{}", dir.join(WEIGHTS).display()))?;
    Ok((probe, card))
}

/// A network from files, all of it and in f32.
fn load<T>(
    component: &str,
    files: &WeightFiles,
    device: Device,
    build: impl FnOnce(&Weights) -> sora_diffusion::Result<T>,
) -> anyhow::Result<T> {
    let mut on_bytes = |_| ControlFlow::Continue(());
    let layout = Layout { device, kind: Kind::Float, keep_in_f32: &[], streamed: false };
    // Stored in half precision, so that f32 is a copy: nothing keeps pointing into the file.
    let source = Rc::new(FileWeights::new(component, files, layout, &mut on_bytes));
    let network = build(&Weights::new(source.clone()))?;
    source.finish(&[])?;
    Ok(network)
}

/// A VAE with both halves: the run folder of `sora-train vae`, or the `vae` folder of a diffusers directory.
pub(crate) fn open_vae(dir: &Path) -> anyhow::Result<AutoencoderKlWan> {
    if dir.join("checkpoint.safetensors").exists() {
        return latents::trained_vae(dir, Device::Cpu);
    }
    let path = dir.join("diffusion_pytorch_model.safetensors");
    anyhow::ensure!(
        path.exists(),
        "{} holds neither checkpoint.safetensors nor diffusion_pytorch_model.safetensors: it is no VAE",
        dir.display()
    );
    let config: VaeConfig = crate::presets::read(dir)?;
    let (mut parameters, vae) = Parameters::build(Device::Cpu, 0, |w| AutoencoderKlWan::new(w, &config))?;
    parameters.begin_at(&path, "", &[])?;
    Ok(vae)
}
