//! A manifest store, from the pipeline that fills it to the program that reads it, on the command line and over HTTP.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod recovering;
mod serving;
