//! `soratransform` in pipelines, with the real engine and tiny random models.

mod bad_input;
mod blocks;
mod feed;
mod frames;
mod latency;
mod live;
mod states;
mod sync;
mod webrtc;
