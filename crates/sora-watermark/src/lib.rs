//! An invisible, keyed, blind watermark for video: 96 bits in luma, found again after platforms had the clip.
//!
//! [`Embedder`] adds a pattern that follows from a [`Key`] and a [`Payload`], scaled by what each place of the
//! frame hides. [`Detector`] takes the frames of any excerpt, looks for the pattern's geometry and time, decodes
//! the payload, and says with a proven bound how probable its finding is for a clip without the mark. It looks at windows
//! of four seconds: what several show is added up where frames were neither moved nor cut off their place in the cycle of
//! patterns; of others the window that shows most counts.
//!
//! A clip that already carries a mark under the key is not refused: an embedder sees one frame at a time and adds no
//! latency, so it cannot know. Marking twice leaves both payloads readable, and the detector reports a conflict;
//! whoever has the whole clip asks a [`Detector`] first.
//!
//! A mark can be copied onto another clip; a [`Fingerprint`] of the marked one, kept under its id, shows that.
//!
//! The crate is pure computation: no files, no clock, no media library.
#![forbid(unsafe_code)]

mod band;
mod blur;
mod carrier;
mod chips;
mod detect;
mod embed;
mod error;
mod examine;
mod fingerprint;
mod fourier;
mod front_end;
mod key;
mod ledger;
mod mask;
mod motion;
mod payload;
mod peaks;
mod plane;
mod polar;
#[cfg(feature = "attacks")]
pub mod probe;
mod search;
mod speeds;
mod statistic;
mod strength;
mod verdict;
mod window;

pub use detect::{Detector, MAX_KEYS, Options, Search};
pub use embed::Embedder;
pub use error::WatermarkError;
pub use fingerprint::{Agreement, Fingerprint, Fingerprinter, Likeness};
pub use key::{Key, KeyId};
pub use payload::Payload;
pub use plane::{
    LumaPlane, LumaPlaneMut, LumaRange, MAX_ASPECT, MAX_SIDE, MIN_SIDE, PixelLayout, RgbFrameMut,
    SampleFormat, check_size, luma_of_rgb,
};
pub use strength::{Decibels, Strength};
pub use verdict::{Expected, Geometry, Mark, Score, TimeRange, Verdict};
