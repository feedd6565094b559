//! Where the model computes, and in which number format.
//!
//! On a CPU it depends on the machine which format is faster: with AMX bf16 is several times as fast as f32, without
//! it half as fast. So it is measured with two layers of the model's shapes, and bf16 taken where it is at least 1.3
//! times as fast. What was measured is kept in `$XDG_CACHE_HOME/sora/formats` (`~/.cache/sora/formats`) for
//! this CPU, number of threads and build of libtorch, so that a machine always makes the same choice.

use sora_model::ModelDir;
use tch::{Cuda, Device, Kind};

use crate::error::{DiffusionError, Result};
use crate::measured;

/// A wish for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device.
    Cuda(usize),
}

impl DeviceChoice {
    /// The device, or why it cannot be had.
    ///
    /// libtorch decides once per process whether it sees CUDA: `libtorch_cuda` must have been opened
    /// before the first torch call (`sora-engine-api` does).
    ///
    /// # Errors
    /// [`DiffusionError::Device`] if the device is not there.
    pub fn resolve(self) -> Result<Device> {
        let count = if Cuda::is_available() { Cuda::device_count().max(0) as usize } else { 0 };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if count > 0 { Device::Cuda(0) } else { Device::Cpu }),
            Self::Cuda(index) if index < count => Ok(Device::Cuda(index)),
            Self::Cuda(index) => Err(DiffusionError::Device {
                wanted: format!("cuda:{index}"),
                reason: match count {
                    0 => "libtorch sees no CUDA device (no driver, no GPU, or a libtorch without CUDA); use device=cpu".into(),
                    n => format!("there are {n} CUDA device(s), numbered 0 to {}", n - 1),
                },
            }),
        }
    }
}

/// A wish for a number format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DtypeChoice {
    /// On CUDA, bf16 with an f32 VAE. On the CPU f32 or bf16, for the VAE and for the rest each what this machine
    /// computes faster in; measured once, see [`crate::device`].
    #[default]
    Auto,
    /// Everything in 32-bit floats.
    F32,
    /// Everything in bfloat16, but for the modules that the reference keeps in f32.
    Bf16,
    /// Everything in half precision, but for the modules that the reference keeps in f32.
    F16,
    /// The large matrices of the transformer's blocks, and what is multiplied by them, in 8 bits (E4M3); the rest of it and
    /// the text encoder in bf16, the VAE as with [`Self::Auto`]. A GPU must have units for it (compute capability 8.9).
    Fp8,
}

/// Number formats of the parts of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Transformer and text encoder.
    pub transformer: Kind,
    /// VAE.
    pub vae: Kind,
    /// Whether large matrices of the transformer are in 8 bits instead.
    pub fp8: bool,
}

impl DtypeChoice {
    /// The number formats on `device` for the model in `dir`. The first time on a machine this takes some tens of
    /// milliseconds where it has to be measured.
    pub fn resolve(self, device: Device, dir: &ModelDir) -> Kinds {
        let (transformer, vae) = match (self, device) {
            (Self::Auto, Device::Cpu) => return measured::kinds(dir),
            (Self::F32, _) => (Kind::Float, Kind::Float),
            (Self::Auto, _) => (Kind::BFloat16, Kind::Float),
            (Self::Bf16, _) => (Kind::BFloat16, Kind::BFloat16),
            (Self::F16, _) => (Kind::Half, Kind::Half),
            (Self::Fp8, _) => {
                let vae = Self::Auto.resolve(device, dir).vae;
                return Kinds { transformer: Kind::BFloat16, vae, fp8: true };
            }
        };
        Kinds { transformer, vae, fp8: false }
    }
}
