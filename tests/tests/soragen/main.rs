//! `soragen` in pipelines, with the real engine and tiny random models.

mod bad_input;
mod endless;
mod enhance;
mod few_step;
mod image;
mod installed;
mod negotiation;
mod output;
mod parity;
mod sharing;
mod states;
mod storyboard;
mod video;
mod weights;
