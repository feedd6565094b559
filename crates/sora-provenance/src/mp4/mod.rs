//! ISO base media files (ISO/IEC 14496-12), as far as signing and checking needs them.

pub(crate) mod boxes;
pub(crate) mod fragments;
pub(crate) mod offsets;
pub(crate) mod samples;
pub(crate) mod timing;
