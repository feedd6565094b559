//! Weights are asked for by name and shape, never poured in: a missing key, a wrong shape and a key
//! that nobody asked for are all errors.
//!
//! The struct tree of a model mirrors the key tree of its checkpoint, so [`Weights::pp`] is the whole
//! mapping: `weights.pp("blocks").pp(0).pp("attn1").get("norm_q.weight", &[dim])`.
//! Where the tensors come from is a [`WeightSource`]: files at inference ([`FileWeights`]), fresh
//! parameters at training (in `sora-train`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::rc::Rc;

use sora_model::weights::{Dtype, WeightFiles};
use tch::{Device, Kind, Tensor};

use crate::error::{DiffusionError, Result};

/// Gives out the parameters of one component, each once.
pub trait WeightSource {
    /// The tensor `name` with exactly `shape`.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor>;

    /// Whether layers are to be made anew each time they compute, of what [`Self::kept`] keeps.
    fn streams(&self) -> bool {
        false
    }

    /// The tensor `name` as it is kept for such layers.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    fn kept(&self, name: &str, shape: &[i64]) -> Result<Kept> {
        Kept::aside(self.tensor(name, shape)?)
    }
}

/// A parameter that is kept where there is room for it, in the format that takes least, and brought to where it computes.
pub struct Kept {
    tensor: Tensor,
    device: Device,
    kind: Kind,
}

// SAFETY: `tch` leaves `Sync` out because tensors can be written to through shared references. Kept ones never are.
unsafe impl Sync for Kept {}

impl Kept {
    /// A parameter that was made where it computes; from a GPU it goes to pinned memory.
    ///
    /// # Errors
    /// Those of libtorch, when there is no memory for it.
    pub(crate) fn aside(tensor: Tensor) -> Result<Self> {
        let (device, kind) = (tensor.device(), tensor.kind());
        let tensor = match device {
            Device::Cpu => tensor,
            _ => tensor.f_to_device(Device::Cpu)?.f_pin_memory(device)?,
        };
        Ok(Self { tensor, device, kind })
    }

    /// The parameter where it is kept.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Something that was computed of the parameter where it is kept, as it would be where it computes.
    pub(crate) fn place(&self, made: &Tensor) -> Tensor {
        made.to_device(self.device).to_kind(self.kind)
    }

    /// The parameter where it computes. From pinned memory nobody waits for the copy: what comes after it on the device does.
    ///
    /// # Errors
    /// Those of libtorch, when the device's memory is full.
    pub(crate) fn bring(&self) -> Result<Tensor> {
        Ok(self.tensor.f_to_device_(self.device, self.kind, true, false)?)
    }
}

/// A place in the key tree of a [`WeightSource`].
#[derive(Clone)]
pub struct Weights<'a> {
    source: Rc<dyn WeightSource + 'a>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// The root of `source`.
    pub fn new(source: Rc<dyn WeightSource + 'a>) -> Self {
        Self { source, prefix: String::new() }
    }

    /// One level down the key tree.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        let prefix =
            if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Self { source: Rc::clone(&self.source), prefix }
    }

    /// Whether layers are to be made anew each time they compute, see [`WeightSource::streams`].
    pub(crate) fn streams(&self) -> bool {
        self.source.streams()
    }

    /// [`Self::get`] for a parameter that is brought to where it computes each time, see [`WeightSource::kept`].
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn kept(&self, name: &str, shape: &[i64]) -> Result<Kept> {
        self.source.kept(&self.path_of(name), shape)
    }

    fn path_of(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// The tensor `name` below this place, of exactly `shape`.
    ///
    /// # Errors
    /// [`DiffusionError::MissingTensor`], [`DiffusionError::WrongShape`],
    /// [`DiffusionError::UnsupportedDtype`], [`DiffusionError::Cancelled`].
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.source.tensor(&self.path_of(name), shape)
    }
}

/// Called with the bytes just read; [`ControlFlow::Break`] cancels the load.
pub type OnBytes<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// How the parameters of one component are to be laid out in memory.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    /// Where the parameters go.
    pub device: Device,
    /// Their number format…
    pub kind: Kind,
    /// …but for modules of these names, which stay in f32 (`_keep_in_fp32_modules` of the reference).
    pub keep_in_f32: &'a [&'a str],
    /// Whether those of deep networks' layers are brought there each time they compute, instead of staying there.
    pub streamed: bool,
}

impl Layout<'_> {
    fn kind_of(&self, name: &str) -> Kind {
        let in_f32 = self.keep_in_f32.iter().any(|module| name.split('.').any(|part| part == *module));
        if in_f32 { Kind::Float } else { self.kind }
    }
}

/// Parameters from safetensors files.
///
/// On the CPU, a tensor that is stored in the wanted format is not copied: it is a view of the mapped
/// file, so the [`WeightFiles`] must live as long as the model. (As for every mapped file, cutting the
/// file short in place under a running process is fatal; replacing it by rename is not.)
pub struct FileWeights<'a> {
    component: &'a str,
    files: WeightFiles,
    layout: Layout<'a>,
    used: RefCell<BTreeSet<String>>,
    on_bytes: RefCell<&'a mut OnBytes<'a>>,
}

impl<'a> FileWeights<'a> {
    /// Prepares to read `component` from `files`.
    pub fn new(
        component: &'a str,
        files: &WeightFiles,
        layout: Layout<'a>,
        on_bytes: &'a mut OnBytes<'a>,
    ) -> Self {
        Self {
            component,
            files: files.clone(),
            layout,
            used: RefCell::default(),
            on_bytes: RefCell::new(on_bytes),
        }
    }

    /// The shape of the tensor `name`, where the files hold one.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.files.get(name)?.shape.iter().map(|&d| d as i64).collect())
    }

    /// Fails if the files hold tensors nobody asked for, but for those with a part of `tolerated` in
    /// their name: keys that exporters are known to leave behind.
    ///
    /// # Errors
    /// [`DiffusionError::UnusedTensors`].
    pub fn finish(&self, tolerated: &[&str]) -> Result<()> {
        let used = self.used.borrow();
        let mut unused = self
            .files
            .names()
            .filter(|name| !used.contains(*name) && !tolerated.iter().any(|part| name.contains(part)));
        match unused.next() {
            None => Ok(()),
            Some(first) => Err(DiffusionError::UnusedTensors {
                component: self.component.into(),
                first: first.into(),
                count: 1 + unused.count(),
            }),
        }
    }
}

impl FileWeights<'_> {
    /// A view of the mapped file, checked and counted; and whether it can be computed with where it lies.
    fn mapped(&self, name: &str, shape: &[i64]) -> Result<(Tensor, bool)> {
        let Some(view) = self.files.get(name) else {
            return Err(DiffusionError::MissingTensor {
                component: self.component.into(),
                name: name.into(),
                wanted: shape.into(),
            });
        };
        let found: Vec<i64> = view.shape.iter().map(|&d| d as i64).collect();
        if found != shape {
            return Err(DiffusionError::WrongShape {
                component: self.component.into(),
                name: name.into(),
                found,
                wanted: shape.into(),
            });
        }
        let stored = match view.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            other => {
                return Err(DiffusionError::UnsupportedDtype {
                    component: self.component.into(),
                    name: name.into(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        self.used.borrow_mut().insert(name.to_owned());
        // SAFETY: `data` holds exactly shape × dtype bytes (checked by WeightFiles) and stays mapped while
        // the caller keeps the files, see the type's documentation. The view is only read: models never
        // write to their parameters at inference.
        let mapped = unsafe { Tensor::f_from_blob(view.data.as_ptr(), shape, &[], stored, Device::Cpu)? };
        let aligned = (view.data.as_ptr() as usize).is_multiple_of(4);
        match (self.on_bytes.borrow_mut())(view.data.len() as u64) {
            ControlFlow::Continue(()) => Ok((mapped, aligned)),
            ControlFlow::Break(()) => Err(DiffusionError::Cancelled),
        }
    }
}

impl WeightSource for FileWeights<'_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Layout { device, .. } = self.layout;
        let wanted = self.layout.kind_of(name);
        let (mapped, aligned) = self.mapped(name, shape)?;
        if device == Device::Cpu && mapped.kind() == wanted && aligned {
            return Ok(mapped);
        }
        let copied = mapped.f_to_device_(device, wanted, false, true)?;
        self.files.release(name);
        Ok(copied)
    }

    fn streams(&self) -> bool {
        self.layout.streamed
    }

    /// On the CPU the mapped file itself, in the format that it is stored in; for a GPU pinned memory, in the format
    /// that it computes in.
    fn kept(&self, name: &str, shape: &[i64]) -> Result<Kept> {
        let Layout { device, .. } = self.layout;
        let kind = self.layout.kind_of(name);
        let (mapped, aligned) = self.mapped(name, shape)?;
        if device == Device::Cpu && aligned {
            return Ok(Kept { tensor: mapped, device, kind });
        }
        let tensor = match device {
            Device::Cpu => mapped.copy(),
            _ => mapped.f_to_kind(kind)?.f_pin_memory(device)?,
        };
        self.files.release(name);
        Ok(Kept { tensor, device, kind })
    }
}
