//! Trains the embedded model, stage by stage. Every stage resumes where it was stopped.
//!
//! `tokenizer` → `vae` → `latents` → `transformer` → `export`; `--help` on each tells the rest.

mod adapter;
mod checkpoint;
mod clips;
mod cuda;
mod data;
mod distil;
mod enhancer;
mod evaluate;
mod export;
mod figure;
mod import;
mod json;
mod judge;
mod latents;
mod optimizer;
mod origin;
mod pairs;
mod parameters;
mod presets;
mod probe;
mod progress;
mod run;
mod seeds;
mod sheet;
mod source_encoder;
mod study;
mod textures;
mod tokenizer;
mod transformer;
mod vae;
mod validation;
mod video;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the tokenizer on captions.
    Tokenizer(tokenizer::Args),
    /// Train the video VAE.
    Vae(vae::Args),
    /// Render clips and encode them with the trained VAE.
    Latents(latents::Args),
    /// Train text encoder and diffusion transformer on encoded clips.
    Transformer(transformer::Args),
    /// Train a network that reads what latents show, for `distil --judge`.
    Judge(judge::Args),
    /// Teach a copy of the transformer to need few steps and no guidance.
    Distil(distil::Args),
    /// Teach an encoder to guess from what is shown what a prompt makes of it.
    SourceEncoder(source_encoder::Args),
    /// Add to a model directory what `distil --adapter` learned of restyling.
    Adapter(adapter::Args),
    /// Train the prompt enhancer on captions.
    Enhancer(enhancer::Args),
    /// Write a diffusers directory.
    Export(export::Args),
    /// Make run folders of a model directory, to go on from.
    Import(import::Args),
    /// Measure where in the picture models put their subjects.
    Framing(study::framing::Args),
    /// Draw a figure from tables.
    Plot(study::plot::Args),
    /// Train a network that reads what a clip shows.
    Probe(probe::Args),
    /// Measure a model.
    Evaluate(evaluate::Args),
}

fn main() -> anyhow::Result<()> {
    cuda::load_if_asked(std::env::args());
    match Cli::parse().command {
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Vae(args) => vae::run(&args),
        Command::Latents(args) => latents::run(&args),
        Command::Transformer(args) => transformer::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Distil(args) => distil::run(&args),
        Command::SourceEncoder(args) => source_encoder::run(&args),
        Command::Adapter(args) => adapter::run(&args),
        Command::Enhancer(args) => enhancer::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Framing(args) => study::framing::run(&args),
        Command::Plot(args) => study::plot::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
    }
}
