//! What the program `soraverify` does, as a library: looks for a clip's C2PA manifest and for the marks of
//! `sorawatermark`, combines both into one verdict, and says what it found to people and to programs.
//!
//! - [`reader`]: a file, an address or standard input → luma frames. The only part on GStreamer.
//! - [`check`]: frames → what a detector says of them.
//! - [`clip`]: a file → its manifest, its marks, and the verdict of both.
//! - [`recover`]: a mark → the manifest that a store has for it.
//! - [`serve`]: the same over HTTP: a page for people, and C2PA's soft binding resolution API.
//! - [`report`] and [`findings`]: that as text and as JSON, of marks alone and of all.
//! - [`live`]: a stream that is signed fragment by fragment → a rolling verdict.
//! - [`batch`]: many files at once, and a report that a later run can go on with.
//! - [`cli`]: the command line and its exit codes; [`run`]: what it has done with its files; [`require`]: what may be
//!   asked of every file; [`keygen`]: keys and certificates to sign with; [`sign_set`]: signing
//!   of finished sets of fragments.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod check;
pub mod cli;
pub mod clip;
pub mod findings;
pub mod keygen;
mod keys;
pub mod live;
pub mod reader;
pub mod recover;
pub mod report;
pub mod require;
pub mod run;
pub mod serve;
pub mod sign_set;

pub use check::{Check, Checked, watermark};
pub use clip::{ClipError, Judged, judge_clip};
pub use reader::{ReadError, Reader};
pub use recover::{Recovery, recover};
