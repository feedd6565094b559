//! Attacks on marked clips through real encoders, false alarms, forgery and speed: what scripts/bench-watermark
//! runs. Needs ffmpeg on the path; every row is named and seeded, and goes to a results file of its own clip.

mod clip;
mod ffmpeg;
mod jobs;
mod measure;
mod null;
mod random_keys;
mod security;
mod speed;
mod table;
mod visibility;
mod worlds;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Attacks, false alarms, forgery and speed of the watermark")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Renders clips of sora-world to y4m files.
    Worlds {
        /// Where they go.
        out: PathBuf,
        /// Width and height.
        size: String,
        /// Scene seeds.
        seeds: Vec<u64>,
    },
    /// Marks one clip as `run` does.
    Mark(measure::Mark),
    /// Runs attacks on every y4m clip of a folder.
    Run(measure::Run),
    /// Unmarked clips through the whole blind detector.
    Unmarked(null::Unmarked),
    /// The statistic of fixed videos under random keys, with a QQ plot.
    RandomKeys(random_keys::RandomKeys),
    /// Forging, copying and removing marks.
    Security(security::Security),
    /// What an eye sees of the mark on flat and dark areas.
    Visibility(visibility::Visibility),
    /// Times of embedding and detection.
    Speed(speed::Speed),
    /// Prints the names of the attacks with what they do.
    List,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Worlds { out, size, seeds } => worlds::render(&out, &size, &seeds),
        Command::Mark(mark) => mark.run(),
        Command::Run(run) => run.all(),
        Command::Unmarked(unmarked) => unmarked.run(),
        Command::RandomKeys(keys) => keys.run(),
        Command::Security(security) => security.run(),
        Command::Visibility(visibility) => visibility.run(),
        Command::Speed(speed) => speed.run(),
        Command::List => {
            table::ATTACKS
                .iter()
                .for_each(|attack| println!("{}\t{}\t{}", attack.row, attack.name, attack.describe()));
            Ok(())
        }
    }
}
