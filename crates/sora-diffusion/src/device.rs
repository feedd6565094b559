//! Where the model computes, and in which number format.

use tch::{Cuda, Device, Kind};

use crate::error::{DiffusionError, Result};

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
    /// f32 on the CPU (faster than bf16 on every CPU without AMX); bf16 with an f32 VAE on CUDA.
    #[default]
    Auto,
    /// Everything in 32-bit floats.
    F32,
    /// Everything in bfloat16, but for the modules that the reference keeps in f32.
    Bf16,
    /// Everything in half precision, but for the modules that the reference keeps in f32.
    F16,
}

/// Number formats of the parts of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Transformer and text encoder.
    pub transformer: Kind,
    /// VAE.
    pub vae: Kind,
}

impl DtypeChoice {
    /// The number formats on `device`.
    pub fn resolve(self, device: Device) -> Kinds {
        let (transformer, vae) = match (self, device) {
            (Self::Auto, Device::Cpu) | (Self::F32, _) => (Kind::Float, Kind::Float),
            (Self::Auto, _) => (Kind::BFloat16, Kind::Float),
            (Self::Bf16, _) => (Kind::BFloat16, Kind::BFloat16),
            (Self::F16, _) => (Kind::Half, Kind::Half),
        };
        Kinds { transformer, vae }
    }
}
