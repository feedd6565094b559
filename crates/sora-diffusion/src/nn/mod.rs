//! Layers that several models share.

mod conv;
mod fp8;
mod layers;
mod linear;
mod norm;

pub use conv::{Conv2d, channels_last_3d, conv3d};
pub use fp8::Fp8Weights;
pub use layers::Layers;
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm, channel_norm};
