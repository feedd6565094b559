//! Layers that several models share.

mod conv;
mod linear;
mod norm;

pub use conv::{Conv2d, channels_last_3d, conv3d};
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm, channel_norm};
