//! All parameters of a network in one flat tensor, so that optimizer, clipping and averages are a few
//! large operations and a checkpoint is a handful of tensors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use sora_diffusion::weights::{WeightSource, Weights};
use tch::{Device, Kind, Tensor};

use crate::optimizer::Matrix;
use crate::seeds::Seeds;

/// Name and shape of one parameter, in the order the network asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
}

impl Entry {
    fn len(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The parameters of a network that is being trained.
pub(crate) struct Parameters {
    entries: Vec<Entry>,
    /// All values, f32.
    pub(crate) flat: Tensor,
    leaves: Leaves,
}

/// Leaves of the autograd graph in the order of the entries: in the memory of `flat` where they are in f32, else
/// copies. Each set collects gradients of its own.
pub(crate) struct Leaves(Vec<Tensor>);

/// First pass: notes what the network asks for.
#[derive(Default)]
struct Recorder(RefCell<Vec<Entry>>);

impl WeightSource for Recorder {
    fn tensor(&self, name: &str, shape: &[i64]) -> sora_diffusion::Result<Tensor> {
        self.0.borrow_mut().push(Entry { name: name.into(), shape: shape.into() });
        Ok(Tensor::zeros(shape, (Kind::Float, Device::Cpu)))
    }
}

/// Second pass: hands out the leaves.
struct ByName(BTreeMap<String, Tensor>);

impl WeightSource for ByName {
    fn tensor(&self, name: &str, _shape: &[i64]) -> sora_diffusion::Result<Tensor> {
        Ok(self.0[name].shallow_clone())
    }
}

impl Parameters {
    /// Builds a network with fresh parameters on `device`.
    ///
    /// `build` is called twice: to learn the names and shapes, then with the real parameters, which
    /// begin as [`initial_value`] says.
    pub(crate) fn build<T>(
        device: Device,
        seed: u64,
        build: impl Fn(&Weights) -> sora_diffusion::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        Self::build_with(device, seed, initial_value, build)
    }

    /// [`Self::build`] with other initial values.
    pub(crate) fn build_with<T>(
        device: Device,
        seed: u64,
        initial_value: impl Fn(&Entry, &mut Seeds) -> Tensor,
        build: impl Fn(&Weights) -> sora_diffusion::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let recorder = Rc::new(Recorder::default());
        build(&Weights::new(recorder.clone()))?;
        let entries = recorder.0.take();
        let total: i64 = entries.iter().map(Entry::len).sum();
        let flat = Tensor::zeros([total], (Kind::Float, device));
        let mut seeds = Seeds::new(seed, 0, 0);
        let mut parameters = Self { entries, flat, leaves: Leaves(Vec::new()) };
        for (entry, mut view) in parameters.entries.iter().zip(parameters.views()) {
            view.copy_(&initial_value(entry, &mut seeds));
        }
        let network;
        (parameters.leaves, network) = parameters.replica(build)?;
        Ok((parameters, network))
    }

    /// Another network over the same parameters, for another thread.
    pub(crate) fn replica<T>(
        &self,
        build: impl Fn(&Weights) -> sora_diffusion::Result<T>,
    ) -> anyhow::Result<(Leaves, T)> {
        self.replica_in(|_| Kind::Float, build)
    }

    /// [`Self::replica`] that computes in other number formats: `kind` is given a parameter's name. What is not
    /// in f32 is a copy, which [`Leaves::refresh`] renews after a step of the optimizer.
    pub(crate) fn replica_in<T>(
        &self,
        kind: impl Fn(&str) -> Kind,
        build: impl Fn(&Weights) -> sora_diffusion::Result<T>,
    ) -> anyhow::Result<(Leaves, T)> {
        let leaf = |(name, view): (&str, Tensor)| {
            let kind = kind(name);
            if kind != Kind::Float {
                return view.to_kind(kind).set_requires_grad(true);
            }
            // Shares the memory without being a view: autograd forbids views of a tensor that is
            // changed in place, which is what the optimizer does to `flat`.
            let mut leaf = view.zeros_like();
            leaf.set_data(&view);
            leaf.set_requires_grad(true)
        };
        let leaves: Vec<Tensor> = self.named(&self.flat).map(leaf).collect();
        let names = self.entries.iter().map(|entry| entry.name.clone());
        let by_name = names.zip(leaves.iter().map(Tensor::shallow_clone)).collect();
        Ok((Leaves(leaves), build(&Weights::new(Rc::new(ByName(by_name))))?))
    }

    /// Takes the values of all parameters whose names begin with `prefix`, but `except` these, from a
    /// safetensors file, where the prefix is left out. Names and shapes must be the same.
    pub(crate) fn begin_at(&mut self, file: &Path, prefix: &str, except: &[&str]) -> anyhow::Result<()> {
        let tensors = read(file, prefix)?;
        let is_left_out = |name: &str| name.strip_prefix(prefix).is_none_or(|name| except.contains(&name));
        self.begin_with(&tensors, is_left_out).with_context(|| format!("weights {}", file.display()))
    }

    /// Takes the values of all parameters from a file of a network that was told less: a weight may have fewer columns (inputs)
    /// there. What these do not fill is zero, so that this network begins by saying what that one said.
    pub(crate) fn begin_at_less(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut tensors = read(file, "")?;
        for (name, view) in self.named(&self.flat) {
            let wanted = view.size();
            let Some(tensor) = tensors.get_mut(name) else { continue };
            let found = tensor.size();
            let same_but_columns = wanted.len() > 1
                && found.len() == wanted.len()
                && (0..wanted.len())
                    .all(|d| if d == 1 { found[d] < wanted[d] } else { found[d] == wanted[d] });
            if same_but_columns {
                let mut missing = wanted.clone();
                missing[1] -= found[1];
                *tensor =
                    Tensor::cat(&[&*tensor, &tensor.new_zeros(missing, (tensor.kind(), tensor.device()))], 1);
            }
        }
        self.begin_with(&tensors, |_| false).with_context(|| format!("weights {}", file.display()))
    }

    /// Takes the values of all parameters but those left out. Names and shapes must be the same.
    pub(crate) fn begin_with(
        &mut self,
        tensors: &BTreeMap<String, Tensor>,
        is_left_out: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (name, mut view) in self.named(&self.flat).filter(|(name, _)| !is_left_out(name)) {
            let tensor = tensors.get(name).with_context(|| format!("there is no {name}"))?;
            anyhow::ensure!(
                tensor.size() == view.size(),
                "{name} is {:?}, this network wants {:?}",
                tensor.size(),
                view.size()
            );
            view.copy_(tensor);
        }
        Ok(())
    }

    fn views(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.named(&self.flat).map(|(_, view)| view)
    }

    /// What `look` sees while the parameters have these values, an average of them for example.
    pub(crate) fn with_values<T>(&mut self, values: &Tensor, look: impl FnOnce() -> T) -> T {
        let held = self.flat.copy();
        tch::no_grad(|| self.flat.copy_(values));
        let seen = look();
        tch::no_grad(|| self.flat.copy_(&held));
        seen
    }

    /// Number of values.
    pub(crate) fn len(&self) -> i64 {
        self.flat.numel() as i64
    }

    /// A boolean tensor like `flat`: true where the parameter's name is `wanted`.
    pub(crate) fn mask(&self, wanted: impl Fn(&str) -> bool) -> Tensor {
        let parts: Vec<Tensor> = self
            .entries
            .iter()
            .map(|e| Tensor::full([e.len()], i64::from(wanted(&e.name)), (Kind::Bool, self.flat.device())))
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// The weight matrices inside the network, kernels flattened: what Muon is for. Not the first and last
    /// layers nor tables, whose rows are not directions of one space.
    pub(crate) fn hidden_matrices(&self) -> Vec<Matrix> {
        let outside =
            ["conv_in.", "conv_out.", "embedding", "embedder", "modulation", "proj_out", "shared", "table"];
        let mut offset = 0;
        let mut matrices = Vec::new();
        for entry in &self.entries {
            let inside = entry.shape.len() >= 2 && !outside.iter().any(|part| entry.name.contains(part));
            if inside && entry.name.ends_with(".weight") && !entry.name.contains("relative_attention_bias") {
                let rows = entry.shape[0];
                matrices.push(Matrix { offset, rows, columns: entry.len() / rows });
            }
            offset += entry.len();
        }
        matrices
    }

    /// The gradients of all parameters as one tensor, and no gradients left behind.
    pub(crate) fn take_gradients(&mut self) -> Tensor {
        self.leaves.take_gradients()
    }

    /// Names and values taken from a flat tensor laid out like this one (the parameters or an average of them).
    pub(crate) fn named<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (&'a str, Tensor)> + 'a {
        let mut at = 0;
        self.entries.iter().map(move |entry| {
            let value = flat.narrow(0, at, entry.len()).view(entry.shape.as_slice());
            at += entry.len();
            (entry.name.as_str(), value)
        })
    }
}

/// The tensors of a safetensors file, with a prefix before their names.
fn read(file: &Path, prefix: &str) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let tensors = Tensor::read_safetensors(file).with_context(|| format!("weights {}", file.display()))?;
    Ok(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect())
}

impl Leaves {
    /// Takes over what the optimizer has changed, where the leaves are copies.
    pub(crate) fn refresh(&mut self, parameters: &Parameters) {
        let _no_grad = tch::no_grad_guard();
        for (leaf, view) in self.0.iter_mut().zip(parameters.views()) {
            if leaf.kind() != Kind::Float {
                leaf.copy_(&view);
            }
        }
    }

    /// The gradients as one tensor laid out like the parameters, and no gradients left behind.
    pub(crate) fn take_gradients(&mut self) -> Tensor {
        let gradient = |leaf: &Tensor| {
            let grad = leaf.grad();
            let grad = if grad.defined() { grad } else { leaf.zeros_like().detach() };
            grad.to_kind(Kind::Float).reshape([-1])
        };
        let flat = tch::no_grad(|| Tensor::cat(&self.0.iter().map(gradient).collect::<Vec<_>>(), 0));
        for leaf in &mut self.0 {
            leaf.zero_grad();
        }
        flat
    }
}

/// At first a source encoder guesses that a source stays as it is, whatever the prompt.
fn source_encoder_begins_at_nothing(name: &str) -> bool {
    let name = name.strip_prefix("source_encoder.");
    name.is_some_and(|name| ["modulation", "conv2.", "conv_out."].iter().any(|part| name.contains(part)))
}

/// How parameters begin, by what their names say they are.
pub(crate) fn initial_value(entry: &Entry, seeds: &mut Seeds) -> Tensor {
    let shape = entry.shape.as_slice();
    let options = (Kind::Float, Device::Cpu);
    let name = entry.name.as_str();
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_norm = last == "gamma" || (last == "weight" && shape.len() == 1);
    let fan_in = shape.iter().skip(1).product::<i64>().max(1) as f64;
    if is_norm {
        Tensor::ones(shape, options)
    } else if name == "source_embedding.guess_share" {
        // The rest is for the transformer to correct.
        Tensor::full(shape, 0.75, options)
    } else if name.starts_with("source_embedding.")
        || ["bias", "query"].contains(&last)
        || name == "proj_out.weight"
        || name.contains("relative_attention_bias")
        || source_encoder_begins_at_nothing(name)
    {
        // proj_out at zero: the first prediction is the mean, not noise. source_embedding at zero: a network that did
        // without it begins at what it was.
        Tensor::zeros(shape, options)
    } else if last == "scale_shift_table" {
        seeds.normal(shape) / (shape[shape.len() - 1] as f64).sqrt()
    } else if name.contains("time_embedder") || name.contains("time_proj") {
        seeds.normal(shape) * 0.02
    } else if name == "shared.weight" {
        seeds.normal(shape)
    } else if shape.len() >= 4 {
        // Convolutions: the default of torch, uniform with variance 1/(3·fan in).
        seeds.uniform(shape) / fan_in.sqrt()
    } else {
        seeds.normal(shape) / fan_in.sqrt()
    }
}
