//! What made a clip: the record that a generating element fills and a signing element signs.
//!
//! A [`GenerationRecord`] travels as JSON (in a GStreamer context, in a property, in a file) and ends in the
//! generation assertion of a C2PA manifest. The writer is strict and the reader tolerant: a record is
//! checked against the bounds in [`limits`] both ways, fields that this version does not know are skipped,
//! and a record of a newer [`SCHEMA`] is refused, because it may mean something else by the same words.
//!
//! The crate knows nothing of models, containers or signatures; hashes are made by those who hold the
//! bytes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
pub mod limits;
mod record;
mod sha256;

pub use error::RecordError;
pub use record::{
    Concealed, FrameRate, GenerationRecord, Input, Mode, Model, Prompt, PromptPolicy, SCHEMA, Software,
};
pub use sha256::Sha256;
