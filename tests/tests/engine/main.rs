//! The engine by itself, behind its C ABI, with the embedded model.

mod ahead;
