//! `libsoraengine.so`: the diffusion library behind the C ABI of [`sora_engine_api::abi`].
//!
//! This is the only thing linked to libtorch that a plugin ever opens, and it opens it on first
//! use. The library exports one symbol, [`sora_engine_table`]; the rest of this crate is what the
//! table's functions do:
//!
//! - [`registry`]: callers with equal options share one loaded model;
//! - `call`: a panic or an error becomes a status and a text;
//! - `convert`: the ABI's numbers to the library's types;
//! - `log`: the library's `tracing` events to the caller's log callback;
//! - `exit`: the process does not tear libtorch down under a running computation.

mod ahead;
mod call;
mod convert;
mod exit;
mod log;
mod model;
pub mod registry;
mod stream;

use sora_engine_api::abi::{
    ABI_VERSION, Bytes, EngineTable, RawBlock, RawCallbacks, RawDescription, RawGeneration, RawModel,
    RawModelOptions, RawStream, RawStreamOptions,
};

use crate::call::{Failure, guarded};
use crate::model::Handle;
use crate::stream::StreamHandle;

static TABLE: EngineTable = EngineTable {
    abi_version: ABI_VERSION,
    model_open,
    model_describe,
    model_generate,
    stream_open,
    stream_block_frames,
    stream_block,
    stream_finish,
    stream_close,
    model_close,
    last_error,
};

/// Answers with the table of functions for `abi_version`, or with null for a version that this
/// engine does not speak. See [`sora_engine_api::abi::EntryPoint`].
#[unsafe(no_mangle)]
pub extern "C" fn sora_engine_table(abi_version: u32) -> *const EngineTable {
    if abi_version == ABI_VERSION { &raw const TABLE } else { std::ptr::null() }
}

unsafe extern "C" fn model_open(
    options: *const RawModelOptions,
    callbacks: *const RawCallbacks,
    model: *mut *mut RawModel,
) -> u32 {
    guarded(|| {
        // SAFETY: the ABI asks for pointers that are valid for the call.
        let (options, callbacks) = unsafe { (&*options, *callbacks) };
        // SAFETY: the texts are valid for the call.
        let handle = Handle::open(&unsafe { convert::model_options(options) }?, callbacks)?;
        // SAFETY: `model` is valid for the call.
        unsafe { *model = Box::into_raw(Box::new(handle)).cast() };
        Ok(())
    })
}

unsafe extern "C" fn model_describe(model: *const RawModel, description: *mut RawDescription) -> u32 {
    guarded(|| {
        // SAFETY: the handle came from `model_open` and is not closed yet.
        let handle = unsafe { &*model.cast::<Handle>() };
        let raw = RawDescription {
            device: Bytes::new(handle.device().as_bytes()),
            dtype: Bytes::new(handle.dtype().as_bytes()),
        };
        // SAFETY: `description` is valid for the call.
        unsafe { *description = raw };
        Ok(())
    })
}

unsafe extern "C" fn model_generate(
    model: *const RawModel,
    generation: *const RawGeneration,
    callbacks: *const RawCallbacks,
) -> u32 {
    guarded(|| {
        // SAFETY: the handle came from `model_open` and is not closed yet.
        let handle = unsafe { &*model.cast::<Handle>() };
        // SAFETY: the ABI asks for pointers that are valid for the call.
        let (generation, callbacks) = unsafe { (&*generation, *callbacks) };
        // SAFETY: the texts are valid for the call.
        let request = unsafe { convert::generation_request(generation) }?;
        handle.generate(request, convert::prompt_enhance(generation)?, callbacks)
    })
}

unsafe extern "C" fn stream_open(
    model: *const RawModel,
    options: *const RawStreamOptions,
    stream: *mut *mut RawStream,
) -> u32 {
    guarded(|| {
        // SAFETY: the handle came from `model_open` and is not closed yet.
        let handle = unsafe { &*model.cast::<Handle>() };
        // SAFETY: the ABI asks for pointers that are valid for the call.
        let (options, ahead) = convert::stream_options(unsafe { &*options });
        let opened = handle.open_stream(&options, ahead)?;
        // SAFETY: `stream` is valid for the call.
        unsafe { *stream = Box::into_raw(Box::new(opened)).cast() };
        Ok(())
    })
}

unsafe extern "C" fn stream_block_frames(stream: *const RawStream) -> u32 {
    // SAFETY: the handle came from `stream_open` and is not closed yet.
    unsafe { &*stream.cast::<StreamHandle>() }.block_frames()
}

unsafe extern "C" fn stream_block(
    stream: *const RawStream,
    block: *const RawBlock,
    callbacks: *const RawCallbacks,
) -> u32 {
    guarded(|| {
        // SAFETY: the handle came from `stream_open` and is not closed yet.
        let handle = unsafe { &*stream.cast::<StreamHandle>() };
        // SAFETY: the ABI asks for pointers that are valid for the call.
        let (block, callbacks) = unsafe { (&*block, *callbacks) };
        // SAFETY: texts and pixels are valid for the call.
        let texts = unsafe {
            [block.prompt, block.negative_prompt, block.source_prompt, block.fade_to]
                .map(|text| text.to_text())
        };
        // SAFETY: as above.
        let pixels = unsafe { block.source.as_slice() };
        handle.next_block(
            &convert::block_request(block, texts.each_ref().map(String::as_str), pixels),
            callbacks,
        )
    })
}

unsafe extern "C" fn stream_finish(stream: *const RawStream, callbacks: *const RawCallbacks) -> u32 {
    guarded(|| {
        // SAFETY: the handle came from `stream_open` and is not closed yet; the callbacks are valid for the call.
        let (handle, callbacks) = unsafe { (&*stream.cast::<StreamHandle>(), *callbacks) };
        handle.finish(callbacks)
    })
}

unsafe extern "C" fn stream_close(stream: *mut RawStream) {
    guarded(|| {
        // SAFETY: the handle came from `stream_open` and is closed once.
        drop(unsafe { Box::from_raw(stream.cast::<StreamHandle>()) });
        sora_memory::trim();
        Ok::<(), Failure>(())
    });
}

unsafe extern "C" fn model_close(model: *mut RawModel) {
    guarded(|| {
        // SAFETY: the handle came from `model_open` and is closed once.
        drop(unsafe { Box::from_raw(model.cast::<Handle>()) });
        sora_memory::trim();
        Ok::<(), Failure>(())
    });
}

unsafe extern "C" fn last_error() -> Bytes {
    call::last_error()
}
