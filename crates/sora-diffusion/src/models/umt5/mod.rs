//! UMT5: the text encoder `UMT5EncoderModel`, and `UMT5ForConditionalGeneration`, which also writes; follows
//! transformers `models/umt5/modeling_umt5.py`.
//!
//! T5 (Raffel et al., arXiv 1910.10683) as in UMT5 (Chung et al., arXiv 2304.09151): norms before each
//! layer without mean and bias, attention without the usual `1/√d`, and a learned bias by relative
//! position in every layer, not in the first alone. No dropout, in training neither.
//!
//! Legend: B batch, L tokens, M tokens written, D `d_model`, H heads, K `d_kv`.

mod decoder;
mod encoder;
mod layers;

pub use decoder::Umt5ForConditionalGeneration;
pub use encoder::Umt5EncoderModel;

/// Modules that stay in f32 when the rest is f16, whose range they would leave (the reference's
/// `_keep_in_fp32_modules`, which it heeds for f16 alone).
pub const KEEP_IN_F32_FOR_F16: &[&str] = &["wo"];

/// Keys that exporters leave beside the encoder's own: the same embedding table a second time.
pub const TOLERATED_KEYS: &[&str] = &["encoder.embed_tokens.weight"];

/// Keys that exporters leave beside those of encoder and decoder: the same embedding table again.
pub const TOLERATED_KEYS_OF_BOTH: &[&str] = &["embed_tokens.weight"];
