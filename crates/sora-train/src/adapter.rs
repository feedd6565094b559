//! What a student learned of restyling, as an adapter of low rank beside the model that it began at.
//!
//! Of the difference of each matrix of the transformer to the model's own, the first singular directions are kept
//! (LoRA, Hu et al., arXiv 2106.09685, in the files of diffusers' `WanLoraLoaderMixin`); the model's own weights stay
//! as they are to the last bit. The second patch embedding and the source encoder, which nothing but restyling uses, are
//! written as they were learned.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sora_model::{ModelDir, SOURCE_LORA_FILE};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::{self, write_whole};
use crate::parameters::Parameters;
use crate::run::Run;
use crate::transformer::{Configs, TextToLatents, begin};
use crate::{export, presets};

/// Options of `sora-train adapter`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model directory that the run began at, to which the adapter is added.
    #[arg(long, default_value = "models/sora-tiny")]
    model: PathBuf,
    /// Run folder of `distil --adapter`.
    #[arg(long, default_value = "runs/restyler")]
    run: PathBuf,
    /// Singular directions kept of each matrix, at most; as many as the run was made for.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..=4096))]
    rank: i64,
}

/// Whether this parameter learns in the training of an adapter.
pub(crate) fn learns(name: &str) -> bool {
    name.starts_with("source_embedding.") || module_of(name).is_some()
}

/// The module of a matrix that an adapter holds, as diffusers names it.
fn module_of(name: &str) -> Option<&str> {
    let module = name.strip_prefix("transformer.")?.strip_suffix(".weight")?;
    (!module.contains("norm") && !module.starts_with("patch_embedding")).then_some(module)
}

/// Writes all parts; each file replaces the one before as a whole.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model = ModelDir::open(&args.model)?;
    let configs: Configs = presets::read(&args.run)?;
    ensure!(
        configs.sources && configs.transformer == *model.transformer(),
        "{} has not learned to restyle with a transformer like that of {}",
        args.run.display(),
        args.model.display()
    );
    let (mut parameters, _) = TextToLatents::build(Device::Cpu, 0, &configs)?;
    begin::at_directory(
        &mut parameters,
        &args.model,
        &model.tokenizer_path(),
        configs.transformer.patch_size,
    )?;
    let average = checkpoint::average_of(&args.run, parameters.len())?;

    let _no_grad = tch::no_grad_guard();
    let mut factors = Vec::new();
    let (mut lost, mut all) = (0.0, 0.0);
    for ((name, before), (_, after)) in parameters.named(&parameters.flat).zip(parameters.named(&average)) {
        let after = after.to_kind(Kind::Float);
        if name.starts_with("source_") {
            continue;
        }
        if let Some(module) = module_of(name) {
            let difference = after - before;
            let [up, down] = low_rank(&difference, args.rank).map(|factor| factor.to_kind(Kind::BFloat16));
            let product = up.to_kind(Kind::Float).matmul(&down.to_kind(Kind::Float));
            lost += (&difference - product).square().sum(Kind::Float).double_value(&[]);
            all += difference.square().sum(Kind::Float).double_value(&[]);
            factors.push((format!("transformer.{module}.lora_A.weight"), down));
            factors.push((format!("transformer.{module}.lora_B.weight"), up));
        } else {
            // The directory's values are rounded, the run's may not be.
            let [before, after] = [before, after].map(|values| values.to_kind(Kind::BFloat16));
            ensure!(
                before == after,
                "{name} has changed, which an adapter cannot hold: was {} made with --adapter, from {}?",
                args.run.display(),
                args.model.display()
            );
        }
    }
    export::sources(&args.model, &configs, (&parameters, &average))?;
    write(&args.model.join("source_lora"), SOURCE_LORA_FILE, &factors)?;
    ModelDir::open(&args.model)?;
    Run::note(&args.run)?;
    let count: usize = factors.iter().map(|(_, factor)| factor.numel()).sum();
    println!(
        "rank {}: {count} numbers, {:.1} % of the squared difference",
        args.rank,
        100.0 * (1.0 - lost / all)
    );
    Ok(())
}

/// Brings a student back to what an adapter of this rank can hold: of the difference of each matrix to that in `before`,
/// the first singular directions stay (iterative hard thresholding, Blumensath and Davies, arXiv 0805.0510). Between two
/// such calls the matrices are free, so that any optimizer will do.
pub(crate) fn project(parameters: &Parameters, before: &Tensor, rank: i64) {
    let _no_grad = tch::no_grad_guard();
    for ((name, mut now), (_, before)) in parameters.named(&parameters.flat).zip(parameters.named(before)) {
        if module_of(name).is_some() {
            let [up, down] = low_rank(&(&now - &before), rank);
            now.copy_(&(before + up.matmul(&down)));
        }
    }
}

/// Factors `[outputs, rank]` and `[rank, inputs]` whose product is the nearest of that rank.
fn low_rank(matrix: &Tensor, rank: i64) -> [Tensor; 2] {
    let (u, s, v) = matrix.svd(true, true);
    let rank = rank.min(s.size()[0]);
    // Half of the size goes to each side, so that neither leaves the range of a small format.
    let root = s.narrow(0, 0, rank).sqrt();
    [u.narrow(1, 0, rank) * &root, (v.narrow(1, 0, rank) * &root).transpose(0, 1)]
        .map(|factor| factor.contiguous())
}

fn write(folder: &Path, file: &str, tensors: &[(String, Tensor)]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let tensors: Vec<(&str, &Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_whole(&folder.join(file), |path| Ok(Tensor::write_safetensors(&tensors, path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_low_rank_is_kept_whole_and_another_as_nearly_as_its_rank_allows() {
        tch::manual_seed(0);
        let options = (Kind::Float, Device::Cpu);
        let whole = Tensor::randn([20, 3], options).matmul(&Tensor::randn([3, 12], options));
        let distance = |matrix: &Tensor, rank| {
            let [up, down] = low_rank(matrix, rank);
            (matrix - up.matmul(&down)).norm().double_value(&[])
        };
        assert!(distance(&whole, 3) < 1e-4 * whole.norm().double_value(&[]));
        let (_, s, _) = whole.svd(true, true);
        assert!((distance(&whole, 2) - s.double_value(&[2])).abs() < 1e-3);
        // More than there is.
        assert_eq!(low_rank(&whole, 99).map(|factor| factor.size()), [[20, 12], [12, 12]]);
    }

    #[test]
    fn matrices_and_the_second_embedding_learn() {
        for held in [
            "transformer.blocks.0.attn1.to_out.0.weight",
            "transformer.proj_out.weight",
            "source_embedding.bias",
        ] {
            assert!(learns(held), "{held}");
        }
        for other in [
            "transformer.blocks.0.attn1.to_out.0.bias",
            "transformer.blocks.0.norm2.weight",
            "transformer.patch_embedding.weight",
            "transformer.scale_shift_table",
            "text_encoder.shared.weight",
            "source_encoder.conv_in.weight",
        ] {
            assert!(!learns(other), "{other}");
        }
    }
}
