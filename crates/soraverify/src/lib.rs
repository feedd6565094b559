//! What the program `soraverify` does, as a library: reads any file that GStreamer decodes, looks for the
//! marks of `sorawatermark`, and says what it found to people and to programs.
//!
//! - [`reader`]: a file, an address or standard input → luma frames. The only part on GStreamer.
//! - [`check`]: frames → what a detector says of them.
//! - [`report`]: that as text and as JSON.
//! - [`cli`]: the command line and its exit codes.

pub mod check;
pub mod cli;
mod keys;
pub mod reader;
pub mod report;

pub use check::{Check, Checked, watermark};
pub use reader::{ReadError, Reader};
