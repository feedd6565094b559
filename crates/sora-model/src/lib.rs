//! A model directory, read and checked without torch.
//!
//! The directories are those of Python diffusers: `model_index.json` names the components, each
//! component is a folder with its config and its safetensors files. This crate answers everything
//! that can be asked before a tensor is made: which classes, which sizes, does the directory hold
//! what it promises, what does the model make when nobody says otherwise. So a plugin can
//! negotiate sizes and refuse a broken directory in milliseconds, and the inference crate can
//! build its tensors from headers that have been checked once, here.
//!
//! - [`ModelDir::open`] reads the index, the configs and the weight headers;
//! - [`PromptEnhancerDir::open`] reads the optional prompt enhancer in the same way;
//! - [`config`] holds one struct per upstream config file, field names as upstream;
//! - [`weights::WeightFiles`] maps the weight files and hands out checked views;
//! - [`keys`] translates the original Wan key names to those of diffusers;
//! - [`defaults::NativeSettings`] says what the model makes by default and how sizes are rounded.
//!
//! Files are treated as hostile: every length and offset is checked before it is used, and no
//! allocation is larger than a stated bound or the file it comes from.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod defaults;
mod error;
pub mod keys;
mod model_dir;
mod prompt_enhancer;
pub mod weights;

pub use error::{ConfigError, ModelError};
pub use model_dir::{ModelDir, SOURCE_LORA_FILE};
pub use prompt_enhancer::PromptEnhancerDir;
