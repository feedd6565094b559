//! Checkpoints that are whole or not there: written beside the last one, then renamed over it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, bail};
use tch::{Device, Tensor};

use crate::optimizer::AdamW;
use crate::parameters::Parameters;

/// Writes everything a run needs to go on.
pub(crate) fn save(path: &Path, parameters: &Parameters, adam: &AdamW) -> anyhow::Result<()> {
    let step = Tensor::from_slice(&[adam.step]);
    let tensors = [
        ("parameters", &parameters.flat),
        ("adam.m", &adam.m),
        ("adam.v", &adam.v),
        ("average", &adam.average),
        ("step", &step),
    ];
    write_whole(path, |temporary| Ok(Tensor::write_safetensors(&tensors, temporary)?))
}

/// Goes on from a checkpoint, if there is one. Returns the number of steps already taken.
pub(crate) fn resume(path: &Path, parameters: &mut Parameters, adam: &mut AdamW) -> anyhow::Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    let tensors = Tensor::read_safetensors(path).with_context(|| format!("checkpoint {}", path.display()))?;
    let _no_grad = tch::no_grad_guard();
    for (name, tensor) in tensors {
        let target = match name.as_str() {
            "parameters" => &mut parameters.flat,
            "adam.m" => &mut adam.m,
            "adam.v" => &mut adam.v,
            "average" => &mut adam.average,
            "step" => {
                adam.step = tensor.int64_value(&[0]);
                continue;
            }
            _ => continue,
        };
        if target.size() != tensor.size() {
            bail!(
                "checkpoint {} holds {} parameters, this network has {}: it belongs to another configuration",
                path.display(),
                tensor.numel(),
                target.numel()
            );
        }
        target.copy_(&tensor);
    }
    Ok(adam.step as u64)
}

/// The averaged parameters of a finished or running stage.
pub(crate) fn average(path: &Path) -> anyhow::Result<Tensor> {
    let tensors = Tensor::read_safetensors(path).with_context(|| format!("checkpoint {}", path.display()))?;
    tensors
        .into_iter()
        .find(|(name, _)| name == "average")
        .map(|(_, tensor)| tensor.to_device(Device::Cpu))
        .with_context(|| format!("{} is not a checkpoint of this program", path.display()))
}

/// The averaged parameters of the run in `dir`, `len` of them.
pub(crate) fn average_of(dir: &Path, len: i64) -> anyhow::Result<Tensor> {
    let average = average(&dir.join("checkpoint.safetensors"))?;
    anyhow::ensure!(
        average.numel() as i64 == len,
        "the checkpoint in {} has {} parameters, its config means {len}",
        dir.display(),
        average.numel()
    );
    Ok(average)
}

/// Runs `write` on a temporary name in the same folder and renames the result to `path`.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    let result = write(temporary)
        .and_then(|()| Ok(File::open(temporary)?.sync_all()?))
        .and_then(|()| Ok(fs::rename(temporary, path)?))
        .with_context(|| format!("writing {}", path.display()));
    if result.is_err() {
        // The last good file is still in place; what was half written is of no use.
        let _ = fs::remove_file(temporary);
    }
    result
}
