//! A model directory becomes run folders, from which later stages go on: `distil` needs no more of the earlier ones.

use std::path::PathBuf;

use anyhow::Context;
use sora_diffusion::models::AutoencoderKlWan;
use sora_model::ModelDir;
use tch::Device;

use crate::checkpoint;
use crate::latents::Statistics;
use crate::optimizer::AdamW;
use crate::parameters::Parameters;
use crate::presets;
use crate::run::Run;
use crate::transformer::{self, Configs, TextToLatents};

/// Options of `sora-train import`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `export` wrote.
    #[arg(long, default_value = "models/sora-tiny")]
    model: PathBuf,
    /// Where the run folders go: `vae`, and `student` of the text encoder and the transformer. Neither may be there yet.
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
}

/// Writes both run folders.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model = ModelDir::open(&args.model)?;
    let [vae, student] = ["vae", "student"].map(|name| args.runs.join(name));
    for folder in [&vae, &student] {
        anyhow::ensure!(!folder.exists(), "{} is there already; it is not written over", folder.display());
    }
    let file = args.model.join("vae/diffusion_pytorch_model.safetensors");
    let (mut parameters, _) =
        Parameters::build(Device::Cpu, 0, |weights| AutoencoderKlWan::new(weights, model.vae()))?;
    parameters.begin_at(&file, "", &[])?;
    write(&vae, model.vae(), &parameters)?;

    let configs = Configs {
        transformer: model.transformer().clone(),
        text_encoder: model.text_encoder().clone(),
        statistics: Statistics {
            mean: model.vae().latents_mean.clone(),
            std: model.vae().latents_std.clone(),
        },
        sources: model.source_embedding_weights().is_some(),
        source_encoder: model.source_encoder().map(|(config, _)| *config),
    };
    let (mut parameters, _) = TextToLatents::build(Device::Cpu, 0, &configs)?;
    let tokenizer = model.tokenizer_path();
    transformer::begin::at_directory(
        &mut parameters,
        &args.model,
        &tokenizer,
        configs.transformer.patch_size,
    )?;
    write(&student, &configs, &parameters)
}

fn write<T>(folder: &std::path::Path, config: &T, parameters: &Parameters) -> anyhow::Result<()>
where
    T: Clone + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
{
    let run = Run::create(folder, None).with_context(|| folder.display().to_string())?;
    presets::settle(folder, config.clone())?;
    checkpoint::save(&run.checkpoint(), parameters, &AdamW::new(&parameters.flat, 0.0, 0.0))?;
    println!("{} written", folder.display());
    Ok(())
}
