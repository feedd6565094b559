//! What the GStreamer elements of this workspace share.
//!
//! - [`frame`]: the luma plane, or the packed RGB pixels, of a buffer.
//! - [`property`]: string properties, whatever bytes they hold.
//! - [`provenance`]: what is known of a stream's origin, told from element to element by a
//!   GstContext.

pub mod frame;
pub mod property;
pub mod provenance;

pub use frame::{FrameError, FrameLayout, Plane, Samples};
pub use provenance::Provenance;
