//! The Wan family of video diffusion models on libtorch.
//!
//! A diffusers-format directory goes in, RGB frames come out. The struct trees mirror the checkpoints,
//! the names are those of diffusers, and diffusers is the referee: the same directory, prompt, seed,
//! size and steps give the same video.
//!
//! - [`pipelines::TextToVideoPipeline`]: the whole way from a prompt to frames;
//! - [`pipelines::PromptEnhancer`]: a short prompt becomes a detailed one;
//! - [`models`]: transformer, VAE, text encoder;
//! - [`schedulers`]: UniPC and Euler over the flow-matching noise schedule;
//! - [`weights`]: the strict loader; [`tokenizer`]: prompt cleaning and token ids;
//! - [`noise`]: seeds; [`device`]: where and in which number format; [`side_stream`]: a GPU's work beside other work.
//!
//! This is the only library on `tch`. It knows no GStreamer, no watermark and no signature.

pub mod device;
mod disk_cache;
mod error;
mod lora;
mod measured;
pub mod models;
pub mod nn;
pub mod noise;
pub mod pipelines;
pub mod schedulers;
pub mod side_stream;
pub mod tokenizer;
pub mod weights;

pub use error::{DiffusionError, Result};
pub use sora_model;
