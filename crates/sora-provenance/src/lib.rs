//! What signing and verifying clips needs beside a C2PA library.
//!
//! - [`PatchWriter`] puts a manifest into a progressive MP4 while a muxer writes it; who makes the manifest is
//!   behind [`Seal`];
//! - [`inspect`] checks what a C2PA library does not: where manifests stand, and that every sample lies in
//!   media data that a hash covers;
//! - [`Report`] says what was found about a clip's manifest, and [`judge`] makes one verdict of manifest,
//!   watermark and stored manifest.
//!
//! Nothing here signs or checks a signature yet. Containers: MP4 (ISO base media files). Files are treated as
//! hostile: sizes are checked before they are used, and what is taken into memory is bounded.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod inspect;
mod mp4;
mod patch;
mod report;
mod verdict;

pub use error::ProvenanceError;
pub use inspect::{Inspection, inspect};
pub use patch::{PatchWriter, SPACE_BYTES, Seal, SparseFile};
pub use report::{
    Binding, Container, Credentials, Failure, IngredientReport, IngredientValidity, Location, ManifestReport,
    Report, Signer, Validity,
};
pub use verdict::{Judgement, Resolution, Verdict, WATERMARK_ALG, WatermarkEvidence, judge};
