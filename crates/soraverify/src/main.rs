//! `soraverify`: says what is known of video files. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    soraverify::cli::main(std::env::args_os().collect())
}
