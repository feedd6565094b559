//! The boundary: nothing unwinds through it, every failure has a status and a text.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use sora_diffusion::DiffusionError;
use sora_engine_api::abi::{Bytes, Status};

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(Status::Cancelled, "cancelled")
    }
}

impl From<DiffusionError> for Failure {
    fn from(error: DiffusionError) -> Self {
        let message = error.to_string();
        let status = match error {
            DiffusionError::Cancelled => Status::Cancelled,
            DiffusionError::Request { .. } => Status::Request,
            DiffusionError::Device { .. } => Status::Device,
            _ if is_out_of_memory(&message) => Status::OutOfMemory,
            DiffusionError::Torch(_) => Status::Internal,
            _ => Status::Model,
        };
        Self { status, message }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Status::Internal, format!("no thread to load the model on: {error}"))
    }
}

/// libtorch has no type for it: the CUDA allocator and the CPU allocator are known by their words.
fn is_out_of_memory(message: &str) -> bool {
    ["out of memory", "can't allocate memory"].iter().any(|words| message.contains(words))
}

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`; its failure or panic becomes a status, the text waits in [`last_error`].
pub(crate) fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> u32 {
    match catching(body) {
        Ok(()) => Status::Ok as u32,
        Err(failure) => {
            LAST_ERROR.set(failure.message);
            failure.status as u32
        }
    }
}

/// Runs `body`; a panic becomes a failure. `tch` panics where libtorch throws.
pub(crate) fn catching<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    keep_panics_off_stderr();
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(outer);
    result.unwrap_or_else(|_| {
        let message = PANIC.take();
        let oom = is_out_of_memory(&message);
        Err(Failure::new(if oom { Status::OutOfMemory } else { Status::Internal }, message))
    })
}

pub(crate) fn last_error() -> Bytes {
    // The text stays where it is until this thread fails again.
    LAST_ERROR.with_borrow(|text| Bytes::new(text.as_bytes()))
}

/// A library does not write to other people's terminal: what a panic says goes into the error.
fn keep_panics_off_stderr() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                PANIC.set(info.to_string());
            } else {
                previous(info);
            }
        }));
    });
}
