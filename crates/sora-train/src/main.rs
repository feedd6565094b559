//! Trains the embedded model, stage by stage. Every stage resumes where it was stopped.
//!
//! `tokenizer` → `vae` → `latents` → `transformer` → `export`; `--help` on each tells the rest.

mod checkpoint;
mod data;
mod distil;
mod enhancer;
mod export;
mod latents;
mod optimizer;
mod parameters;
mod presets;
mod progress;
mod run;
mod seeds;
mod sheet;
mod textures;
mod tokenizer;
mod transformer;
mod vae;
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
    /// Teach a copy of the transformer to need few steps and no guidance.
    Distil(distil::Args),
    /// Train the prompt enhancer on captions.
    Enhancer(enhancer::Args),
    /// Write a diffusers directory.
    Export(export::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Vae(args) => vae::run(&args),
        Command::Latents(args) => latents::run(&args),
        Command::Transformer(args) => transformer::run(&args),
        Command::Distil(args) => distil::run(&args),
        Command::Enhancer(args) => enhancer::run(&args),
        Command::Export(args) => export::run(&args),
    }
}
