//! Why the engine could not be had or did not do its work.

use std::path::PathBuf;

/// What can go wrong between a plugin and the engine.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no libtorch where it is looked for.
    #[error(
        "libtorch was not found: run scripts/setup, or set SORA_LIBTORCH to the folder that holds \
         libtorch_cpu.so, or LIBTORCH to the folder above it (looked in {})", list(.tried)
    )]
    LibtorchNotFound {
        /// The folders that were looked at, in that order.
        tried: Vec<PathBuf>,
    },
    /// There is no engine where it is looked for.
    #[error(
        "libsoraengine.so was not found: build and stage it with scripts/demo or scripts/install, \
         or set SORA_ENGINE to its path (looked for {})", list(.tried)
    )]
    EngineNotFound {
        /// The files that were looked for, in that order.
        tried: Vec<PathBuf>,
    },
    /// A library is there but the dynamic linker refuses it.
    #[error("{} could not be opened: {reason}", .path.display())]
    Open {
        /// The library.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The engine is of another build than the plugin.
    #[error(
        "{} does not speak version {wanted} of the engine interface: plugin and engine must be of \
         one build", .path.display()
    )]
    WrongAbi {
        /// The engine.
        path: PathBuf,
        /// What this plugin speaks.
        wanted: u32,
    },
    /// The model directory is missing, broken or of an unsupported kind.
    #[error("{0}")]
    Model(String),
    /// The request asks for what the model cannot do.
    #[error("{0}")]
    Request(String),
    /// The device is not there or not usable.
    #[error("{0}")]
    Device(String),
    /// Memory ran out.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// A defect in the engine or in libtorch.
    #[error("the engine failed: {0}")]
    Internal(String),
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if shown.is_empty() { "no place, none is configured".into() } else { shown.join(", ") }
}
