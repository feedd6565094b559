//! Keeps manifests apart from their clips: under the id that a clip's watermark carries, so that the manifest is
//! found again when a platform took it out.
//!
//! A [`Store`] is one SQLite file, in WAL mode: one writes, others read meanwhile. It holds
//!
//! - C2PA manifest stores (JUMBF), by the label of their active manifest;
//! - the soft bindings that these name, from which they are found;
//! - fingerprints of the clips (see `sora_watermark::Fingerprint`; bytes to this crate), with which a mark that was
//!   carried over to another clip shows.
//!
//! Nothing in the file is believed. What is put in is read as a manifest first, and its bindings are taken from it, not
//! from the caller; what is read out is [checked](Store::checked) again: its signature, its hashes, that it has the id
//! and names the binding under which it was found.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod open;
mod store;

pub use error::StoreError;
pub use open::{Access, Limits};
pub use store::{Checked, MANIFEST_BYTES, Store};
