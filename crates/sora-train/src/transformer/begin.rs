//! What a transformer and its text encoder begin at, instead of nothing: a diffusers directory, or a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use tch::{Device, Kind, Tensor};

use super::{Configs, TextToLatents};
use crate::parameters::Parameters;
use crate::{checkpoint, presets};

/// What depends on the size of the patches.
const OF_PATCHES: [&str; 3] = ["patch_embedding.weight", "proj_out.weight", "proj_out.bias"];

/// Takes the layers of patches from another network, whose patches may be some times as wide and high: each part of such a
/// patch is then seen and drawn as the whole was on average.
fn at_patches(parameters: &mut Parameters, file: &Path, patch: [i64; 3]) -> anyhow::Result<()> {
    let tensors = Tensor::read_safetensors(file)?;
    let [p_t, p_h, p_w] = patch;
    let _no_grad = tch::no_grad_guard();
    for (name, mut view) in parameters.named(&parameters.flat) {
        let Some(name) = name.strip_prefix("transformer.").filter(|name| OF_PATCHES.contains(name)) else {
            continue;
        };
        let found = tensors.iter().find(|(found, _)| found == name);
        let held = &found.with_context(|| format!("{} has no {name}", file.display()))?.1;
        let (size, wanted) = (held.size(), view.size());
        let of = |a: &[i64]| a.iter().product::<i64>();
        let times = ((of(&size) / of(&wanted)) as f64).sqrt() as i64;
        anyhow::ensure!(
            of(&size) == of(&wanted) * times * times && times > 0,
            "{name} in {} is {size:?}, this network wants {wanted:?}",
            file.display()
        );
        let held = held.to_kind(Kind::Float);
        // Which part of a patch it is, is axis 1 and 3 of both: the embedding's kernel is (channel, time, row, column), what is
        // projected (time, row, column, channel).
        let parts = [1i64, 3];
        let tensor = if name == "patch_embedding.weight" {
            held.reshape([-1, times, p_h, times, p_w]).sum_dim_intlist(parts.as_slice(), false, Kind::Float)
        } else {
            held.reshape([p_t, times, p_h, times, p_w, -1]).mean_dim(parts.as_slice(), false, Kind::Float)
        };
        view.copy_(&tensor.reshape(wanted.as_slice()));
    }
    Ok(())
}

/// Begins at the averaged weights of a run, whose network may see sources through an encoder where this one does not, or the
/// other way round.
pub(crate) fn at_run(parameters: &mut Parameters, run: &Path) -> anyhow::Result<()> {
    let configs: Configs = presets::read(run)?;
    let (held, _) = TextToLatents::build(Device::Cpu, 0, &configs)?;
    let average = checkpoint::average_of(run, held.len())?;
    let held: BTreeMap<String, Tensor> =
        held.named(&average).map(|(name, value)| (name.to_owned(), value.shallow_clone())).collect();
    parameters
        .begin_with(&held, |name| name.starts_with("source_"))
        .with_context(|| format!("the run in {}", run.display()))?;
    at_sources(parameters, &held)
}

/// Takes what sees sources from another network of the same transformer. Where one of the two has a source encoder and the
/// other has not, the source embedding takes what both see; the rest begins at nothing.
pub(crate) fn at_sources(parameters: &mut Parameters, held: &BTreeMap<String, Tensor>) -> anyhow::Result<()> {
    let _no_grad = tch::no_grad_guard();
    for (name, mut view) in parameters.named(&parameters.flat) {
        let Some(tensor) = held.get(name).filter(|_| name.starts_with("source_")) else { continue };
        if name == "source_embedding.weight" && tensor.size() != view.size() {
            let both = tensor.size()[1].min(view.size()[1]);
            let _ = view.zero_();
            view = view.narrow(1, 0, both);
            view.copy_(&tensor.narrow(1, 0, both));
            continue;
        }
        anyhow::ensure!(
            tensor.size() == view.size(),
            "{name} is {:?} there, this network wants {:?}",
            tensor.size(),
            view.size()
        );
        view.copy_(tensor);
    }
    Ok(())
}

/// Takes the weights of a diffusers directory of the same sizes, the embedding rows by their pieces' spelling.
pub(crate) fn at_directory(
    parameters: &mut Parameters,
    init: &Path,
    tokenizer: &Path,
    patch: [i64; 3],
) -> anyhow::Result<()> {
    let open = |dir: &Path| {
        let path = dir.join("tokenizer.json");
        tokenizers::Tokenizer::from_file(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
    };
    let (old, new) = (open(&init.join("tokenizer"))?, open(tokenizer)?);
    let file = init.join("transformer/diffusion_pytorch_model.safetensors");
    parameters.begin_at(&file, "transformer.", &OF_PATCHES)?;
    at_patches(parameters, &file, patch)?;
    for folder in ["source_encoder", "source_embedding"] {
        let file = init.join(folder).join("diffusion_pytorch_model.safetensors");
        if file.exists() {
            let tensors = Tensor::read_safetensors(&file)?;
            let named = tensors.into_iter().map(|(name, tensor)| (format!("{folder}.{name}"), tensor));
            at_sources(parameters, &named.collect())?;
        }
    }
    let file = init.join("text_encoder/model.safetensors");
    parameters.begin_at(&file, "text_encoder.", &["shared.weight"])?;
    let tensors = Tensor::read_safetensors(&file)?;
    let table = &tensors.iter().find(|(name, _)| name == "shared.weight").context("no shared.weight")?.1;
    let _no_grad = tch::no_grad_guard();
    for (name, rows) in parameters.named(&parameters.flat) {
        if name == "text_encoder.shared.weight" {
            for (piece, id) in new.get_vocab(true) {
                if let Some(known) = old.token_to_id(&piece) {
                    rows.get(i64::from(id)).copy_(&table.get(i64::from(known)));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latents::Statistics;
    use crate::presets::TransformerPreset;

    fn network(patch: i64) -> (Parameters, [i64; 3]) {
        let preset = TransformerPreset::Xxs;
        let mut transformer = preset.transformer(2);
        transformer.patch_size = [1, patch, patch];
        transformer.num_layers = 1;
        let statistics = Statistics { mean: vec![0.0; 2], std: vec![1.0; 2] };
        let configs = Configs {
            text_encoder: preset.text_encoder(9),
            transformer,
            statistics,
            sources: false,
            source_encoder: None,
        };
        let (parameters, _) = TextToLatents::build(Device::Cpu, 3, &configs).expect("a network");
        (parameters, configs.transformer.patch_size)
    }

    fn weight(parameters: &Parameters, name: &str) -> Tensor {
        let mut all = parameters.named(&parameters.flat);
        all.find(|(found, _)| *found == format!("transformer.{name}")).expect("it has this layer").1.copy()
    }

    #[test]
    fn smaller_patches_are_seen_and_drawn_as_the_larger_ones_were_on_average() {
        let (large, _) = network(4);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("transformer.safetensors");
        let [embedding, projection, bias] = OF_PATCHES.map(|name| weight(&large, name));
        let layers: Vec<(&str, &Tensor)> =
            OF_PATCHES.into_iter().zip([&embedding, &projection, &bias]).collect();
        Tensor::write_safetensors(&layers, &file).expect("a file");
        let (mut small, patch) = network(2);
        at_patches(&mut small, &file, patch).expect("these sizes fit");

        // A large patch of four equal quarters is embedded as one of them is.
        let quarter = Tensor::randn([2, 1, 2, 2], (Kind::Float, Device::Cpu));
        let whole = quarter.repeat([1, 1, 2, 2]);
        let embed = |w: &Tensor, x: &Tensor| w.flatten(1, -1).matmul(&x.flatten(0, -1));
        let difference = embed(&embedding, &whole) - embed(&weight(&small, OF_PATCHES[0]), &quarter);
        assert!(difference.abs().max().double_value(&[]) < 1e-4);

        // Of each quarter's values, the average over the quarters; rows are (row, column, channel).
        let hidden = Tensor::randn([projection.size()[1]], (Kind::Float, Device::Cpu));
        let drawn = (projection.matmul(&hidden) + &bias).view([2, 2, 2, 2, 2]);
        let average = drawn.mean_dim([0i64, 2].as_slice(), false, Kind::Float);
        let drawn = weight(&small, OF_PATCHES[1]).matmul(&hidden) + weight(&small, OF_PATCHES[2]);
        assert!((average - drawn.view([2, 2, 2])).abs().max().double_value(&[]) < 1e-4);

        // The same size is taken as it is; a smaller one cannot be made larger.
        let (mut same, patch) = network(4);
        at_patches(&mut same, &file, patch).expect("these sizes fit");
        assert_eq!(weight(&same, OF_PATCHES[1]), projection);
        let layers = OF_PATCHES.map(|name| weight(&small, name));
        let layers: Vec<(&str, &Tensor)> = OF_PATCHES.into_iter().zip(&layers).collect();
        Tensor::write_safetensors(&layers, &file).expect("a file");
        let error = at_patches(&mut same, &file, patch).expect_err("too small");
        assert!(error.to_string().contains("this network wants"), "{error}");
    }
}
