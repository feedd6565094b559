//! soramerge in pipelines: what passes and what is made, what comes short, and states.
#![allow(missing_docs)]

mod merging;
mod short;
mod states;
