//! Signing and verifying, as those who use the crate see them.

#![allow(clippy::unwrap_used)]

mod common;
mod flips;
mod keys;
mod live;
mod mutations;
mod parents;
mod round_trip;
mod sets;
mod stored;
mod tampering;
