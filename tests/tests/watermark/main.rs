//! `sorawatermark` and `soradetect` in pipelines and harnesses.

mod bad_input;
mod clip;
mod detecting;
mod identity;
mod marking;
mod states;
