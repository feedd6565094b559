//! Properties that all generating elements have: which model, where, in which number format; and texts.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use gst::glib;
use gst::glib::translate::ToGlibPtr;
use gst::prelude::*;
use sora_engine_api as api;
use sora_model::defaults::NativeSettings;

use crate::soragen::Dtype;
use crate::vae::{self, Vae};

/// A string property, which C code may fill with any bytes.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Utf8(String),
    NotUtf8(Vec<u8>),
}

impl Default for Text {
    fn default() -> Self {
        Self::Utf8(String::new())
    }
}

impl Text {
    pub(crate) fn of(value: &glib::Value) -> Self {
        let bytes = bytes(value).unwrap_or_default();
        String::from_utf8(bytes.into()).map_or_else(|error| Self::NotUtf8(error.into_bytes()), Self::Utf8)
    }

    pub(crate) fn checked(&self, property: &str) -> Result<&str, String> {
        match self {
            Self::Utf8(text) => Ok(text),
            Self::NotUtf8(bytes) => {
                Err(format!("{property} is not UTF-8 text: \"{}\"", String::from_utf8_lossy(bytes)))
            }
        }
    }

    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Utf8(text) => text.clone(),
            Self::NotUtf8(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// The bytes of a string value. `Value::get` would panic where they are not UTF-8.
fn bytes(value: &glib::Value) -> Option<&[u8]> {
    // SAFETY: the value holds a string, whose bytes live as long as it does.
    unsafe {
        let text = glib::gobject_ffi::g_value_get_string(value.to_glib_none().0);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
    }
}

/// A path of any bytes; `None` for NULL and for an empty string.
pub(crate) fn path(value: &glib::Value) -> Option<PathBuf> {
    bytes(value).filter(|bytes| !bytes.is_empty()).map(|bytes| OsStr::from_bytes(bytes).into())
}

/// A path as the value of a property.
pub(crate) fn shown(path: Option<&PathBuf>) -> glib::Value {
    path.map(|path| path.to_string_lossy().into_owned()).to_value()
}

/// A value that has its type: GObject has checked.
pub(crate) fn get<'v, T>(value: &'v glib::Value) -> T
where
    T: glib::value::FromValue<'v>,
    T::Checker: glib::value::ValueTypeChecker<Error: std::fmt::Debug>,
{
    value.get().expect("GObject checks the type")
}

/// Refuses a guidance scale that is none.
pub(crate) fn check_guidance_scale(given: f64) -> Result<(), String> {
    match given.is_nan() {
        true => Err("guidance-scale is not a number; it is 0 to 1000, or -1 for the model's own".into()),
        false => Ok(()),
    }
}

/// The guidance scale, or the model's own. What was set to not a number while playing is no wish either.
pub(crate) fn guidance_scale(given: f64, native: &NativeSettings) -> f64 {
    if given >= 0.0 { given } else { native.guidance_scale }
}

/// The seed, or a random one for those below 0.
pub(crate) fn seed(given: i64) -> u64 {
    u64::try_from(given).unwrap_or_else(|_| random_seed())
}

/// Four billion seeds are enough to choose from, and short enough to type again.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Every RandomState has keys of its own, from the system's random numbers.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    random & u64::from(u32::MAX)
}

/// Which model computes where, as given.
#[derive(Clone, Debug)]
pub(crate) struct ModelChoice {
    pub(crate) model_path: Option<PathBuf>,
    pub(crate) transformer_file: Option<PathBuf>,
    pub(crate) device: String,
    dtype: Dtype,
    pub(crate) low_memory: bool,
    pub(crate) vae: Vae,
    pub(crate) vae_file: Option<PathBuf>,
}

impl Default for ModelChoice {
    fn default() -> Self {
        Self {
            model_path: None,
            transformer_file: None,
            device: "auto".into(),
            dtype: Dtype::default(),
            low_memory: false,
            vae: Vae::default(),
            vae_file: None,
        }
    }
}

impl ModelChoice {
    /// The device, or what is wrong with its name.
    pub(crate) fn device(&self) -> Result<api::Device, String> {
        match self.device.as_str() {
            "auto" | "" => Ok(api::Device::Auto),
            "cpu" => Ok(api::Device::Cpu),
            "cuda" => Ok(api::Device::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(api::Device::Cuda)
                .ok_or_else(|| {
                    format!("device is \"{other}\"; it is auto, cpu, cuda or cuda:N; read when leaving NULL")
                }),
        }
    }

    pub(crate) fn dtype(&self) -> api::Dtype {
        match self.dtype {
            Dtype::Auto => api::Dtype::Auto,
            Dtype::F32 => api::Dtype::F32,
            Dtype::Bf16 => api::Dtype::Bf16,
            Dtype::F16 => api::Dtype::F16,
            Dtype::Fp8 => api::Dtype::Fp8,
        }
    }

    /// Sets the property called `name`, whose value has its type; `false` if it is none of these.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "model-path" => self.model_path = path(value),
            "transformer-file" => self.transformer_file = path(value),
            "device" => self.device = Text::of(value).shown(),
            "dtype" => self.dtype = get(value),
            "low-memory" => self.low_memory = get(value),
            "vae" => self.vae = get(value),
            "vae-file" => self.vae_file = path(value),
            _ => return false,
        }
        true
    }

    /// The property called `name`; `None` if it is none of these.
    pub(crate) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "model-path" => shown(self.model_path.as_ref()),
            "transformer-file" => shown(self.transformer_file.as_ref()),
            "device" => self.device.to_value(),
            "dtype" => self.dtype.to_value(),
            "low-memory" => self.low_memory.to_value(),
            "vae" => self.vae.to_value(),
            "vae-file" => shown(self.vae_file.as_ref()),
            _ => return None,
        })
    }
}

/// Which model computes where: read when the element leaves NULL.
pub(crate) fn properties() -> Vec<glib::ParamSpec> {
    let mut list = vec![
        glib::ParamSpecString::builder("model-path")
            .nick("Model path")
            .blurb("Model directory in diffusers format; unset = $SORA_MODEL_PATH, else the embedded model; read when leaving NULL")
            .build(),
        glib::ParamSpecString::builder("transformer-file")
            .nick("Transformer file")
            .blurb("Safetensors file with transformer weights to use instead of the model directory's, with diffusers or original Wan names; read when leaving NULL")
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N")
            .default_value("auto")
            .build(),
        glib::ParamSpecEnum::builder_with_default("dtype", Dtype::Auto)
            .nick("Data type")
            .blurb("Number format of the computation; stats has the one that auto chose; read when leaving NULL")
            .build(),
        glib::ParamSpecBoolean::builder("low-memory")
            .nick("Low memory")
            .blurb("Bring weights to the device layer by layer, each time that they compute, instead of keeping them there; the frames are the same; read when leaving NULL")
            .default_value(false)
            .build(),
    ];
    list.extend(vae::properties());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        let device = |name: &str| ModelChoice { device: name.into(), ..ModelChoice::default() }.device();
        assert_eq!(device("auto"), Ok(api::Device::Auto));
        assert_eq!(device("cuda"), Ok(api::Device::Cuda(0)));
        assert_eq!(device("cuda:9"), Ok(api::Device::Cuda(9)));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:70000"] {
            assert!(device(wrong).expect_err("no such device").contains(wrong));
        }
    }
}
