//! Files with manifests, as those who use the crate see them.

#![allow(clippy::unwrap_used)]

mod common;
mod inspecting;
mod patching;
