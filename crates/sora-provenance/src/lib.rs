//! Signing clips and verifying them: C2PA manifests, and what goes with them.
//!
//! - [`SigningKeys`]: a certificate chain and its key, refused at once where no verifier would accept them;
//! - [`Claim`]: what a manifest says; [`sign_file`], [`sign_sidecar`] and [`ManifestSeal`] sign it;
//! - [`PatchWriter`] puts a manifest into a progressive MP4 while a muxer writes it; who makes the manifest is
//!   behind [`Seal`];
//! - [`LiveSigner`] signs a fragmented stream fragment by fragment, [`LiveVerifier`] checks one as it arrives;
//! - [`sign_set`] and [`verify_set`]: a beginning and fragments in files of their own;
//! - [`verify_file`] checks a clip's manifest and fills a [`Report`]; [`inspect`] is the part of it that a C2PA
//!   library does not do: where manifests stand, and that every sample lies in media data that a hash covers;
//! - [`verify_stored`] checks a manifest that is kept apart from its clip;
//! - [`judge`] makes one verdict of manifest, watermark and stored manifest.
//!
//! The only crate that knows the library `c2pa`. It fetches nothing from a network. Containers: MP4 (ISO base
//! media files). Files are treated as hostile: sizes are checked before they are used, and what is taken into
//! memory is bounded.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod claim;
mod clock;
mod error;
mod inspect;
mod jumbf;
mod keys;
mod live;
mod mp4;
mod patch;
mod report;
mod sets;
mod sign;
mod verdict;
mod verify;

pub use claim::{Claim, GENERATION_LABEL};
pub use error::ProvenanceError;
pub use inspect::{Inspection, inspect, is_fragmented};
pub use keys::{DevelopmentChain, KeyAlgorithm, SigningKeys, development_chain, signing_request};
pub use live::{LivePart, LiveProblem, LiveReport, LiveSigner, LiveVerifier, SESSION_SECONDS};
pub use patch::{Output, PatchWriter, Patched, SPACE_BYTES, Seal, SparseFile};
pub use report::{
    Binding, Container, Credentials, Failure, IngredientReport, IngredientValidity, Location, ManifestReport,
    Report, Signer, Validity,
};
pub use sets::{sign_set, verify_set};
pub use sign::{ManifestSeal, expected_manifest_bytes, sign_file, sign_sidecar};
pub use verdict::{Judgement, Resolution, Verdict, WATERMARK_ALG, WatermarkEvidence, judge};
pub use verify::{TrustAnchors, crjson, embedded_manifest, verify_file, verify_stored};
