//! `soraverify`: says which marks video files carry. All of it is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    soraverify::cli::run(&soraverify::cli::Arguments::parse())
}
