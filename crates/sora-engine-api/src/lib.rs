//! What a plugin and the inference engine say to each other, and how the engine is found.
//!
//! A GStreamer plugin is opened by every registry scan, so it must not be linked to libtorch:
//! loading that takes a third of a second, and where it is missing the plugin would be
//! blacklisted. The engine is therefore a shared library of its own, `libsoraengine.so`, opened
//! when an element first needs it.
//!
//! - [`abi`]: the `#[repr(C)]` types both sides are compiled against, one table of functions;
//! - [`Install`]: where this plugin is installed, and so where the engine and the models are;
//! - [`Engine`] and [`Model`]: the safe side of the table, for plugins;
//! - [`trace`]: where the time goes, for both sides.
//!
//! This crate knows neither torch nor GStreamer.

pub mod abi;
mod engine;
mod error;
mod install;
mod loader;
mod stream;
pub mod trace;

pub use abi::{Device, Dtype, Level, PromptEnhance, Scheduler};
pub use engine::{FrameBatch, Generation, Model, ModelOptions, Observer, Progress};
pub use error::EngineError;
pub use install::Install;
pub use loader::{Cuda, Engine, cuda_driver_present};
pub use stream::{Block, Fade, Source, Stream, StreamOptions};
