//! The networks. Each struct tree mirrors the key tree of its checkpoint.

pub mod autoencoder_kl_wan;
pub mod taehv;
pub mod transformer_wan;
pub mod umt5;

pub use autoencoder_kl_wan::AutoencoderKlWan;
pub use taehv::Taehv;
pub use transformer_wan::WanTransformer3DModel;
pub use umt5::{Umt5EncoderModel, Umt5ForConditionalGeneration};
