//! Checkpoints that are whole or not there: written beside the last one, then renamed over it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, bail};
use tch::{Device, Tensor};

use crate::optimizer::{AdamW, is_finite};
use crate::parameters::Parameters;

/// What a run keeps beside its parameters, by name.
pub(crate) type Beside = BTreeMap<String, Tensor>;

/// Everything of a network that learns, by name.
pub(crate) fn state(parameters: &Parameters, adam: &AdamW) -> [(&'static str, Tensor); 5] {
    [
        ("parameters", parameters.flat.shallow_clone()),
        ("adam.m", adam.m.shallow_clone()),
        ("adam.v", adam.v.shallow_clone()),
        ("average", adam.average.shallow_clone()),
        ("step", Tensor::from_slice(&[adam.step])),
    ]
}

/// Has a network go on from the [`state`] that is among these, its names behind `prefix`, and takes it out of them;
/// it stays as it is where there is none. `path` is where they were read.
pub(crate) fn restore(
    (path, tensors, prefix): (&Path, &mut Beside, &str),
    parameters: &mut Parameters,
    adam: &mut AdamW,
) -> anyhow::Result<()> {
    let _no_grad = tch::no_grad_guard();
    let targets = [
        ("parameters", &mut parameters.flat),
        ("adam.m", &mut adam.m),
        ("adam.v", &mut adam.v),
        ("average", &mut adam.average),
    ];
    for (name, target) in targets {
        let Some(tensor) = tensors.remove(&format!("{prefix}{name}")) else { continue };
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
    if let Some(step) = tensors.remove(&format!("{prefix}step")) {
        adam.step = step.int64_value(&[0]);
    }
    Ok(())
}

/// Writes everything a run needs to go on.
pub(crate) fn save(path: &Path, parameters: &Parameters, adam: &AdamW) -> anyhow::Result<()> {
    save_with(path, parameters, adam, &Beside::new())
}

/// The same, with what else it needs: in one file, so that all of it is of the same step.
///
/// # Errors
/// If something that learns is not finite, what was saved before stays: there is no going on from such a
/// checkpoint.
pub(crate) fn save_with(
    path: &Path,
    parameters: &Parameters,
    adam: &AdamW,
    beside: &Beside,
) -> anyhow::Result<()> {
    let state = state(parameters, adam);
    for (name, tensor) in &state {
        anyhow::ensure!(
            is_finite(tensor),
            "{name} of step {} has values that are not finite: {} is not written, and is as it was",
            adam.step,
            path.display()
        );
    }
    let own = state.iter().map(|(name, tensor)| (*name, tensor));
    let tensors: Vec<(&str, &Tensor)> =
        own.chain(beside.iter().map(|(name, tensor)| (name.as_str(), tensor))).collect();
    write_whole(path, |temporary| Ok(Tensor::write_safetensors(&tensors, temporary)?))
}

/// Goes on from a checkpoint, if there is one. Returns the number of steps already taken.
pub(crate) fn resume(path: &Path, parameters: &mut Parameters, adam: &mut AdamW) -> anyhow::Result<u64> {
    Ok(resume_with(path, parameters, adam)?.0)
}

/// The same, and what else is in it.
pub(crate) fn resume_with(
    path: &Path,
    parameters: &mut Parameters,
    adam: &mut AdamW,
) -> anyhow::Result<(u64, Beside)> {
    if !path.exists() {
        return Ok((0, Beside::new()));
    }
    let tensors = Tensor::read_safetensors(path).with_context(|| format!("checkpoint {}", path.display()))?;
    let mut tensors: Beside = tensors.into_iter().collect();
    restore((path, &mut tensors, ""), parameters, adam)?;
    Ok((adam.step as u64, tensors))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_does_not_replace_the_last_good_checkpoint() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("checkpoint.safetensors");
        let build = || Parameters::build(Device::Cpu, 1, |w| w.get("weight", &[3])).expect("a network");
        let (mut parameters, _) = build();
        let mut adam = AdamW::new(&parameters.flat, 0.0, 0.9);
        adam.step = 4;
        save(&path, &parameters, &adam).expect("finite");
        let before = fs::read(&path).expect("a checkpoint");
        adam.step = 5;
        for spoilt in [f64::NAN, f64::INFINITY] {
            let _ = tch::no_grad(|| parameters.flat.narrow(0, 1, 1).fill_(spoilt));
            let error = save(&path, &parameters, &adam).expect_err("not finite");
            let said = error.to_string();
            assert!(
                said.contains("parameters of step 5") && said.contains("checkpoint.safetensors"),
                "{said}"
            );
            assert!(fs::read(&path).expect("still there") == before);
        }
        // Only the average is spoilt: it is what the later stages read.
        (parameters, _) = build();
        let _ = tch::no_grad(|| adam.average.narrow(0, 0, 1).fill_(f64::NAN));
        let error = save(&path, &parameters, &adam).expect_err("not finite");
        assert!(error.to_string().contains("average of step 5"), "{error}");
        assert!(fs::read(&path).expect("still there") == before);
    }
}
