//! What can go wrong between a model directory and its frames.

use std::path::PathBuf;

/// Errors of this crate. Every message carries the offending value and the bound it broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffusionError {
    /// The model directory or one of its files is not usable.
    #[error(transparent)]
    Model(#[from] sora_model::ModelError),
    /// A parameter that the network needs is in none of the weight files.
    #[error("weights of {component}: tensor `{name}` {wanted:?} is missing")]
    MissingTensor {
        /// Which part of the pipeline was being built, e.g. `transformer`.
        component: String,
        /// Key asked for.
        name: String,
        /// Shape asked for.
        wanted: Vec<i64>,
    },
    /// A parameter has another shape than its config says.
    #[error("weights of {component}: tensor `{name}` has shape {found:?}, the config asks for {wanted:?}")]
    WrongShape {
        /// Which part of the pipeline was being built.
        component: String,
        /// Key asked for.
        name: String,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape asked for.
        wanted: Vec<i64>,
    },
    /// The files hold tensors that the network does not use, so they belong to another architecture.
    #[error("weights of {component}: {count} tensor(s) not used by this architecture, first `{first}`")]
    UnusedTensors {
        /// Which part of the pipeline was being built.
        component: String,
        /// How many.
        count: usize,
        /// Alphabetically first of them.
        first: String,
    },
    /// A tensor is stored in a number format that cannot be computed with.
    #[error(
        "weights of {component}: tensor `{name}` is stored as {dtype}, supported are F32, BF16, F16 (and F64, read as F32)"
    )]
    UnsupportedDtype {
        /// Which part of the pipeline was being built.
        component: String,
        /// Key asked for.
        name: String,
        /// Format found.
        dtype: String,
    },
    /// The tokenizer could not be read or failed on a text.
    #[error("tokenizer {path}: {reason}")]
    Tokenizer {
        /// File it came from.
        path: PathBuf,
        /// What the tokenizers library said.
        reason: String,
    },
    /// The wanted device is not there.
    #[error("device {wanted}: {reason}")]
    Device {
        /// As asked for, e.g. `cuda:9`.
        wanted: String,
        /// What is there instead.
        reason: String,
    },
    /// A request outside what the model or this code can do.
    #[error("{what} is {value}, {bound}")]
    Request {
        /// Setting, e.g. `guidance_scale`.
        what: &'static str,
        /// Offending value.
        value: String,
        /// The bound, as the end of the sentence.
        bound: String,
    },
    /// The components of the directory do not fit each other or this pipeline.
    #[error("{0}")]
    Unsupported(String),
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The caller's callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Shorthand used throughout the crate.
pub type Result<T> = std::result::Result<T, DiffusionError>;
